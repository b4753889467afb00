//===- CudaParts.h - how CUDA kernels split their sums ----------*- C++ -*-===//
//
// Apart from CudaWorkspace.h, because nvcc does not compile its formulas.
//
//===----------------------------------------------------------------------===//
#ifndef PEFT_SCHEMA_CUDAPARTS_H
#define PEFT_SCHEMA_CUDAPARTS_H

#include <cstdint>

namespace peft {

/// A sum over rows is split into this many parts at most, each a row of f32.
constexpr uint64_t cudaColumnParts = 64;
/// Elements that one block of AdamW or of a norm works on.
constexpr uint64_t cudaTensorPart = 1 << 15;

} // namespace peft

#endif // PEFT_SCHEMA_CUDAPARTS_H
