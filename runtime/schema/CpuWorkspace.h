//===- CpuWorkspace.h - scratch the CPU kernels ask for ---------*- C++ -*-===//
//
// The formulas that kernels.def names in WORKSPACE: bytes as functions of the
// launch's sizes. The compiler reserves them in the plan, the verifier checks
// them, the kernels rely on them. `SHARED` is one area per launch, `THREAD` one
// per thread. Arithmetic saturates, so a wild size never looks small.
//
//===----------------------------------------------------------------------===//
#ifndef PEFT_SCHEMA_CPUWORKSPACE_H
#define PEFT_SCHEMA_CPUWORKSPACE_H

#include "peft/KernelSpec.h"

#include <algorithm>

namespace peft {

constexpr Saturating roundUp(Saturating value, uint64_t step) {
  return (value + (step - 1)) / step * step;
}

// A GEMM C [m, n] += A [m, k] B [k, n] packs, per thread, a block of k of a
// group of columns of B, a tile of rows of A, and keeps the sums of a block of
// rows. Words are 4 bytes: an f32, or two bf16.
constexpr uint64_t cpuGemmSteps = 320;   ///< words of k in a block
constexpr uint64_t cpuGemmColumns = 512; ///< columns of a group, at most
constexpr uint64_t cpuGemmRows = 512;    ///< rows of a block, at most
constexpr uint64_t cpuGemmLeftWords = (cpuGemmSteps + 16) * 16;

constexpr Saturating cpuGemmGroup(Saturating n) {
  return std::min<Saturating>(roundUp(n, 32), cpuGemmColumns);
}
constexpr uint64_t cpuGemmRightWords(Saturating n) {
  return cpuGemmSteps * cpuGemmGroup(n).value;
}

constexpr Saturating CPU_GEMM_SHARED(Saturating m, Saturating n, Saturating k) {
  return 0;
}
constexpr Saturating CPU_GEMM_THREAD(Saturating m, Saturating n, Saturating k) {
  Saturating sums = std::min<Saturating>(m, cpuGemmRows) * cpuGemmGroup(n);
  return (Saturating(cpuGemmRightWords(n)) + cpuGemmLeftWords + sums) * 4;
}

// Attention works on blocks of 64 positions. A head of one batch row, padded to
// whole blocks and to lanes of 16 features, in words of 4 bytes:
constexpr Saturating cpuAttentionHead(Saturating seq, Saturating headDim) {
  return roundUp(seq, 64) * roundUp(headDim, 16) * 4;
}
constexpr uint64_t cpuAttentionTile = 64 * 64 * 4;

/// Packed keys and values.
constexpr Saturating CPU_ATTENTION_FWD_SHARED(Saturating rows, Saturating seq,
                                              Saturating heads,
                                              Saturating kvHeads,
                                              Saturating headDim) {
  return rows / seq * kvHeads * cpuAttentionHead(seq, headDim) * 2;
}
/// Queries and output of one block, scores and probabilities.
constexpr Saturating CPU_ATTENTION_FWD_THREAD(Saturating rows, Saturating seq,
                                              Saturating heads,
                                              Saturating kvHeads,
                                              Saturating headDim) {
  return cpuAttentionHead(64, headDim) * 2 + cpuAttentionTile * 2;
}
/// Packed keys (twice) and values, and dk and dv of every query head.
constexpr Saturating CPU_ATTENTION_BWD_SHARED(Saturating rows, Saturating seq,
                                              Saturating heads,
                                              Saturating kvHeads,
                                              Saturating headDim) {
  return rows / seq * (kvHeads * 3 + heads * 2) *
         cpuAttentionHead(seq, headDim);
}
/// Packed queries and output gradients (twice each), dq, two numbers a query,
/// and five tiles.
constexpr Saturating CPU_ATTENTION_BWD_THREAD(Saturating rows, Saturating seq,
                                              Saturating heads,
                                              Saturating kvHeads,
                                              Saturating headDim) {
  return cpuAttentionHead(seq, headDim) * 5 + roundUp(seq, 64) * 8 +
         cpuAttentionTile * 5;
}

} // namespace peft

#endif // PEFT_SCHEMA_CPUWORKSPACE_H
