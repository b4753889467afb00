//===- Program.h - an entry as a card runs it -------------------*- C++ -*-===//
//
// Pure data, made from a plan without a card. The items of an entry become
// steps in the order in which they are put into streams, and the steps become
// blocks:
//   * consecutive launches of a stream under one predicate are one block, which
//     becomes one conditional node of the graph when a library works in it (our
//     own kernels look at their predicate themselves);
//   * launches of adamw, adamw8bit, norm_square and fill_zero that may run at once
//     are one merged step.
//
//===----------------------------------------------------------------------===//
#ifndef PEFT_CUDA_PLAN_PROGRAM_H
#define PEFT_CUDA_PLAN_PROGRAM_H

#include "peft/ItemAccess.h"
#include "peft/Plan.h"

#include <vector>

namespace peft::cuda {

struct ProgramStep {
  enum class Kind : uint8_t { launch, copy, record, wait };
  Kind kind = Kind::launch;
  std::vector<uint32_t> items; ///< more than one: merged launches of a kernel
  uint32_t kernel = none;      ///< number in kernels.def
  uint32_t event = none;       ///< of a record or wait
};

/// Steps of one stream, one after the other.
struct ProgramBlock {
  uint32_t stream = 0;
  Predicate predicate;      ///< of all its launches
  bool conditional = false; ///< to be skipped as a whole
  std::vector<ProgramStep> steps;
};

struct Program {
  std::vector<ProgramBlock> blocks;
  std::vector<bool> streams; ///< by stream: whether the entry uses it
  uint32_t events = 0;       ///< one more than the largest event

  /// How many launches of the plan it holds, and in how many steps.
  struct Count {
    uint64_t launches = 0, steps = 0, conditional = 0;
  };
  Count count() const;
};

/// What may be merged into one step: kernels for which the device has a
/// function over many tensors.
struct MergeRules {
  bool merges = true;
};

/// Whether launches of kernel number `kernel` can become one.
bool isMergeable(size_t kernel);

/// `entry` must have been verified. Errors: unsuitable (collectives).
Expected<Program> buildProgram(const Plan &plan, uint32_t entry,
                               const MergeRules &rules = {});

} // namespace peft::cuda

#endif // PEFT_CUDA_PLAN_PROGRAM_H
