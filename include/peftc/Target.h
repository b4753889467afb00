//===- Target.h - the machine that a plan is made for -----------*- C++ -*-===//
//
// A target description is a JSON object (docs/Targets.md lists its fields).
// Some come with the compiler, under their names; `peft-run --calibrate` writes
// one with measured rates.
//
//===----------------------------------------------------------------------===//
#ifndef PEFTC_TARGET_H
#define PEFTC_TARGET_H

#include "peft/Plan.h"
#include "peft/Status.h"

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace peftc {

struct TargetDescription {
  std::string name;        ///< "h200"; stands in the plan
  std::string description; ///< for people: "NVIDIA H200 SXM, 141 GB"
  peft::DeviceKind kind = peft::DeviceKind::cpu;
  std::string computeCapability; ///< "9.0"; empty on CPUs
  /// All of the device's memory. 0 (CPUs only): that of the machine at hand.
  uint64_t memoryBytes = 0;
  /// What of it the driver's context and the libraries take, beside the arena.
  uint64_t allowanceBytes = 0;
  /// Rates of dense matrix products, an addition and a multiplication being
  /// two operations. 0: the target cannot compute in that type.
  double flopsF32 = 0, flopsBf16 = 0, flopsF16 = 0;
  double memoryBytesPerSecond = 0;
  double hostBytesPerSecond = 0; ///< to or from host memory, one way
  double launchSeconds = 0;      ///< what a launch costs beyond its work

  /// Products in `type` per second; 0: not supported.
  double flops(peft::DType type) const;
  bool supports(peft::DType type) const { return flops(type) > 0; }
  /// 90 for compute capability 9.0; 0 on CPUs.
  int64_t capability() const;
  /// bf16, or f16 where there is no bf16.
  std::string_view defaultCompute() const;
};

/// The names of the targets that come with the compiler, sorted.
std::vector<std::string> targetNames();

/// A target that comes with the compiler, or a file: `target` is a file if it
/// has a '/' or ends in ".json". Errors: usage (unknown name, with the known
/// ones), io, badInput naming the file and the field.
peft::Expected<TargetDescription> loadTarget(const std::string &target);

/// Reads a description; `what` names it in errors.
peft::Expected<TargetDescription> parseTarget(std::string_view json,
                                              const std::string &what);

} // namespace peftc

#endif // PEFTC_TARGET_H
