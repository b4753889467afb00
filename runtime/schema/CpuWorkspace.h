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

namespace peft {

constexpr Saturating roundUp(Saturating value, uint64_t step) {
  return (value + (step - 1)) / step * step;
}

/// C [m, n] += A [m, k] B [n, k]: one operand packed in the compute type, f32
/// at most, in panels of 64.
constexpr Saturating CPU_GEMM_SHARED(Saturating m, Saturating n, Saturating k) {
  return roundUp(m, 64) * roundUp(k, 64) * 4 + 4096;
}
/// Panels of the other operand and a tile of sums.
constexpr Saturating CPU_GEMM_THREAD(Saturating m, Saturating n, Saturating k) {
  return roundUp(k, 64) * 64 * 4 + 64 * 64 * 4 + 4096;
}

constexpr Saturating CPU_ATTENTION_FWD_SHARED(Saturating rows, Saturating seq,
                                              Saturating heads,
                                              Saturating kvHeads,
                                              Saturating headDim) {
  return 0;
}
constexpr Saturating CPU_ATTENTION_FWD_THREAD(Saturating rows, Saturating seq,
                                              Saturating heads,
                                              Saturating kvHeads,
                                              Saturating headDim) {
  return 64 * 64 * 8 + 64 * headDim * 4 * 4 + 4096;
}
constexpr Saturating CPU_ATTENTION_BWD_SHARED(Saturating rows, Saturating seq,
                                              Saturating heads,
                                              Saturating kvHeads,
                                              Saturating headDim) {
  return rows * heads * 4 + 64;
}
constexpr Saturating CPU_ATTENTION_BWD_THREAD(Saturating rows, Saturating seq,
                                              Saturating heads,
                                              Saturating kvHeads,
                                              Saturating headDim) {
  return 64 * 64 * 16 + roundUp(seq, 64) * headDim * 4 * 3 +
         64 * headDim * 4 * 6 + 4096;
}

} // namespace peft

#endif // PEFT_SCHEMA_CPUWORKSPACE_H
