//===- Recompute.h - how a choice of kept values is written -----*- C++ -*-===//
//
// A pass that chooses writes `nn.not_kept`; peft-rematerialize obeys it and
// writes `nn.recomputed`; the conversion hands that to the plan.
//
//===----------------------------------------------------------------------===//
#ifndef PEFTC_TRANSFORMS_RECOMPUTE_H
#define PEFTC_TRANSFORMS_RECOMPUTE_H

#include "llvm/ADT/StringRef.h"

namespace peftc {

/// On a forward op: the numbers (`array<i64>`) of its results that backward
/// computes again instead of reading them from memory.
constexpr llvm::StringLiteral notKeptAttr = "nn.not_kept";

/// On an op that repeats one of the forward pass; a unit.
constexpr llvm::StringLiteral recomputedAttr = "nn.recomputed";

/// On a function with such ops: a sentence that says what that saves and costs.
constexpr llvm::StringLiteral recomputeRemarkAttr = "nn.recompute_remark";

} // namespace peftc

#endif // PEFTC_TRANSFORMS_RECOMPUTE_H
