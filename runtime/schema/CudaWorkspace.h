//===- CudaWorkspace.h - scratch the CUDA kernels ask for -------*- C++ -*-===//
//
// The formulas that kernels.def names in CUDA_WORKSPACE: bytes as functions of
// the launch's sizes. Every part is a multiple of 64 bytes, so that what follows
// it is aligned. None is more than linear in the rows of a launch.
//
//===----------------------------------------------------------------------===//
#ifndef PEFT_SCHEMA_CUDAWORKSPACE_H
#define PEFT_SCHEMA_CUDAWORKSPACE_H

#include "CpuWorkspace.h"

namespace peft {

/// Least and greatest segment of every 32 positions of a batch row.
constexpr Saturating cudaAttentionRangeBytes(Saturating rows, Saturating seq) {
  return roundUp(rows / seq * roundUp(seq, 32) / 32 * 8, 64);
}
constexpr Saturating CUDA_ATTENTION_FWD(Saturating rows, Saturating seq) {
  return cudaAttentionRangeBytes(rows, seq);
}
/// And two numbers for every query and head.
constexpr Saturating CUDA_ATTENTION_BWD(Saturating rows, Saturating seq,
                                        Saturating heads) {
  return cudaAttentionRangeBytes(rows, seq) + roundUp(rows * heads * 8, 64);
}

} // namespace peft

#endif // PEFT_SCHEMA_CUDAWORKSPACE_H
