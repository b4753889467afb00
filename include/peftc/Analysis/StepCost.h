//===- StepCost.h - the work of a plan's entries ----------------*- C++ -*-===//
//
// Pure functions over a plan: what the launches of an entry compute and move,
// from their shapes, and how long a target would take for that. Launches inside
// chunks of the head count as if every token was trained, so this is an upper
// bound.
//
//===----------------------------------------------------------------------===//
#ifndef PEFTC_ANALYSIS_STEPCOST_H
#define PEFTC_ANALYSIS_STEPCOST_H

#include "peftc/Target.h"

#include "peft/Plan.h"

#include <cstdint>
#include <string>
#include <vector>

namespace peftc {

/// The work of one launch; an addition and a multiplication are two operations.
struct LaunchCost {
  double flops = 0;
  double bytes = 0;     ///< of its operands, each read or written once
  bool product = false; ///< matrix products, which run at the type's own rate
};

/// The launches of one kernel in one entry.
struct KernelCost {
  std::string entry, kernel;
  uint64_t launches = 0;
  double flops = 0;
  double bytes = 0;
  /// Sum over the launches of the larger of work / rate and bytes / bandwidth,
  /// and of what a launch costs; 0 without a target.
  double seconds = 0;
  double recomputedFlops = 0; ///< of `flops`, in launches that repeat others
};

struct StepCost {
  std::vector<KernelCost> kernels; ///< in order of first appearance

  double flops(std::string_view entry) const;
  double recomputedFlops(std::string_view entry) const;
  double bytes(std::string_view entry) const;
  uint64_t launches(std::string_view entry) const;
  /// A prediction: as if every launch ran at the target's full rates, one after
  /// the other.
  double seconds(std::string_view entry) const;
};

/// With a target, seconds too.
StepCost stepCost(const peft::Plan &plan,
                  const TargetDescription *target = nullptr);

} // namespace peftc

#endif // PEFTC_ANALYSIS_STEPCOST_H
