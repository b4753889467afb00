//===- Extra.h - device memory beside the plan's arenas ---------*- C++ -*-===//
//
// Nothing of it is needed by a plan that was compiled for a card, but for the
// fault slots. A plan for the CPU leaves its frozen weights in their files and
// has no scratch for a card's kernels; to run it all the same, the device adds
// both. Pure functions over a verified plan.
//
//===----------------------------------------------------------------------===//
#ifndef PEFT_CUDA_PLAN_EXTRA_H
#define PEFT_CUDA_PLAN_EXTRA_H

#include "peft/Plan.h"

#include <vector>

namespace peft::cuda {

/// Mapped weights, one after the other at multiples of 256 bytes.
struct WeightLayout {
  std::vector<uint64_t> offsets; ///< by buffer; meaningful without an arena
  uint64_t bytes = 0;
};
WeightLayout layOutWeights(const Plan &plan);

class AttentionChoices;

/// Bytes of workspace that a launch wants on a card, by kernels.def.
Expected<uint64_t> workspaceBytes(const Plan &plan, const Launch &launch);

/// The workspace that the plan has for a launch, if a card can use it: `need` bytes
/// at a multiple of 256, as libraries want them and plans for a CPU need not have.
uint32_t ownWorkspace(const Plan &plan, const Launch &launch, uint64_t need);

/// By stream: the most that a launch wants (`attention`, which may be null, is
/// what libraries were chosen for) that has no workspace of its own.
/// Errors name entry and item.
Expected<std::vector<uint64_t>>
scratchBytes(const Plan &plan, const AttentionChoices *attention = nullptr);

/// Whether a launch can find fault with data that indexes.
bool hasFaultSlot(const Launch &launch);

/// The launch that owns a fault slot.
struct FaultOwner {
  uint32_t entry = none, item = none;
};
/// Slot 0 is for launches that never find fault and belongs to nobody.
std::vector<FaultOwner> faultOwners(const Plan &plan);

/// What a card of `freeBytes` cannot hold, as words for people: the plan's
/// totals by class, the largest first, and its largest buffers.
std::string largestConsumers(const Plan &plan);

/// Device memory of the plan: its device arenas, weights and scratch.
struct DeviceTotals {
  uint64_t arenas = 0, weights = 0, scratch = 0;
  uint64_t all() const { return arenas + weights + scratch; }
};
Expected<DeviceTotals>
deviceTotals(const Plan &plan, const AttentionChoices *attention = nullptr);

/// Ok if `free` bytes hold the plan. Error doesNotFit with both figures and the
/// largest consumers.
Status checkFits(const Plan &plan, const DeviceTotals &totals, uint64_t free);

} // namespace peft::cuda

#endif // PEFT_CUDA_PLAN_EXTRA_H
