//===- Bound.h - a program with addresses -----------------------*- C++ -*-===//
#ifndef PEFT_CUDA_DEVICE_BOUND_H
#define PEFT_CUDA_DEVICE_BOUND_H

#include "Memory.h"
#include "cuda/Call.h"
#include "cuda/plan/AttentionChoices.h"
#include "cuda/plan/Extra.h"
#include "cuda/plan/Program.h"

#include <deque>
#include <functional>
#include <memory>

namespace peft::cuda {

/// Where everything of a plan lies.
struct Places {
  const Plan *plan = nullptr;
  std::span<const Block> arenas;
  std::byte *weights = nullptr; ///< of mapped weights, by `weightLayout`
  const WeightLayout *weightLayout = nullptr;
  std::vector<Block> *scratch = nullptr; ///< by stream
  FaultSlot *faults = nullptr;
  std::span<const FaultOwner> faultOwners;
  Libraries *libraries = nullptr;
  const AttentionChoices *attention = nullptr;

  std::byte *of(uint32_t buffer) const; ///< null for none
};

struct BoundStep {
  ProgramStep::Kind kind = ProgramStep::Kind::launch;
  std::vector<uint32_t> items; ///< of the plan: more than one are merged
  uint32_t item = 0;           ///< the first of them
  uint32_t kernel = none, event = none;
  uint64_t launches = 1; ///< as many as items
  Call call;
  std::function<Status(const Call &)> run; ///< of a launch
  const std::byte *source = nullptr;       ///< of a copy
  std::byte *destination = nullptr;
  uint64_t size = 0;
};

struct BoundBlock {
  uint32_t stream = 0;
  bool conditional = false;
  Gate gate;
  std::vector<BoundStep> steps;
};

/// Data that kernels over many tensors read: built on the host, copied to the
/// card once. `base` is where it lies there.
struct Tables {
  std::vector<std::byte> bytes;
  std::byte *base = nullptr;

  /// Reserves `size` bytes and copies `data` there, if any; gives the offset.
  uint64_t add(const void *data, uint64_t size);
};

/// An entry, ready to be put into streams.
class BoundProgram {
public:
  /// Resolves every step. `tables` outlives the result and gets its base before
  /// anything runs. Errors name entry and item.
  static Expected<std::unique_ptr<BoundProgram>>
  build(const Places &places, uint32_t entry, Tables &tables);

  std::vector<BoundBlock> blocks;
  std::vector<bool> streams; ///< by stream: whether it is used
  uint32_t events = 0;
  std::vector<uint64_t> ends; ///< by arena: end of the highest byte it uses

private:
  Status addBlock(const Places &places, uint32_t entry,
                  const ProgramBlock &block, Tables &tables);
  Expected<BoundStep> addStep(const Places &places, uint32_t entry,
                              const ProgramStep &step, Tables &tables);
  void addLibraryAttention(uint32_t stream, const AttentionChoice &choice,
                           BoundStep own);
  Expected<Call> bind(const Places &places, uint32_t entry, uint32_t item);

  // What the calls' spans point to.
  std::deque<std::vector<Operand>> operands;
  std::deque<std::vector<AttributeValue>> attributes;
};

} // namespace peft::cuda

#endif // PEFT_CUDA_DEVICE_BOUND_H
