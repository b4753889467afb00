//===- CpuProgram.h - an entry with addresses -------------------*- C++ -*-===//
#ifndef PEFT_CPU_CPUPROGRAM_H
#define PEFT_CPU_CPUPROGRAM_H

#include "cpu/Call.h"
#include "cpu/CpuArena.h"
#include "peft/Device.h"
#include "peft/ItemAccess.h"

#include <vector>

namespace peft::cpu {

/// Where the buffers of a plan are.
struct Addresses {
  const Plan &plan;
  std::span<const CpuArena> arenas;
  WeightBytes weights;

  /// The first byte of buffer `index`; null for none. Mapped weights must not
  /// be written through it.
  std::byte *of(uint32_t index) const;
};

/// An item that does something, ready to run.
struct Step {
  KernelFunction function = nullptr; ///< null: copy
  Call call;
  uint32_t item = 0;
  uint32_t kernel = 0;                  ///< number in kernels.def
  const std::byte *predicate = nullptr; ///< an i32, or null: always
  int32_t above = 0;
  const std::byte *source = nullptr; ///< of a copy
  std::byte *destination = nullptr;
  uint64_t size = 0;
  /// Per arena the end of the highest byte it uses, in CpuProgram::ends.
  uint64_t *ends = nullptr;

  bool enabled() const;
};

/// The items of one entry, resolved once; running them allocates nothing.
/// Records and waits are gone: a single queue in a valid order needs none.
class CpuProgram {
public:
  /// `order` is a permutation of the items. Errors name item and kernel.
  static Expected<CpuProgram> build(const Addresses &addresses, uint32_t entry,
                                    const std::vector<uint32_t> &order,
                                    Path path, ThreadPool &pool);

  std::span<const Step> steps() const { return stepList; }
  /// What a step may touch; empty unless AccessGuard::enabled.
  std::span<const ByteAccess> accesses(const Step &step) const {
    if (fences.empty())
      return {};
    return fences[static_cast<size_t>(&step - stepList.data())];
  }

private:
  Status addLaunch(const Addresses &addresses, const Launch &launch, Path path,
                   Step &step);

  std::vector<Step> stepList;
  // What the steps' spans point to; inner vectors never grow.
  std::vector<std::vector<Operand>> operands;
  std::vector<std::vector<AttributeValue>> attributes;
  std::vector<uint64_t> ends;
  std::vector<std::vector<ByteAccess>> fences; ///< by step
};

} // namespace peft::cpu

#endif // PEFT_CPU_CPUPROGRAM_H
