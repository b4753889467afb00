//===- CudaWorkspace.h - scratch the CUDA kernels ask for -------*- C++ -*-===//
//
// The formulas that kernels.def names in CUDA_WORKSPACE: bytes as functions of
// the launch's sizes, one area per launch. Arithmetic saturates, so a wild size
// never looks small. Kernels include this file for the constants.
//
//===----------------------------------------------------------------------===//
#ifndef PEFT_SCHEMA_CUDAWORKSPACE_H
#define PEFT_SCHEMA_CUDAWORKSPACE_H

#include "peft/KernelSpec.h"

namespace peft {

/// A sum over rows is split into this many parts at most, each a row of f32.
constexpr uint64_t cudaColumnParts = 64;
/// Elements that one block of AdamW or of a norm works on.
constexpr uint64_t cudaTensorPart = 1 << 15;

// nvcc rewrites the conversions to Saturating into code that does not compile.
#ifndef __CUDACC__

/// The parts of a sum over rows (rms_norm_dw, bias_dw).
constexpr Saturating CUDA_COLUMN_SUMS(Saturating columns) {
  return columns * cudaColumnParts * 4;
}

/// One f64 for each part of a norm.
constexpr Saturating CUDA_NORM_SQUARE(Saturating elements) {
  return (elements + (cudaTensorPart - 1)) / cudaTensorPart * 8;
}

#endif // __CUDACC__

} // namespace peft

#endif // PEFT_SCHEMA_CUDAWORKSPACE_H
