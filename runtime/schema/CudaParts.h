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

/// Positions of a batch row whose segments have one least and greatest.
constexpr uint64_t cudaSegmentRange = 32;
/// The gradient of a LoRA A with dropout: a part for so many rows, and how many
/// parts at most, each a copy of the gradient in f32.
constexpr uint64_t cudaRankRows = 1024, cudaRankParts = 8;

/// Areas of a workspace are multiples of this many bytes.
constexpr uint64_t cudaAlignment = 256;
constexpr uint64_t cudaAreaBytes(uint64_t bytes) {
  return (bytes + cudaAlignment - 1) / cudaAlignment * cudaAlignment;
}

} // namespace peft

#endif // PEFT_SCHEMA_CUDAPARTS_H
