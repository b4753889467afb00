//===- AttentionPlainTile.h - tiles of a head for CUDA cores ----*- C++ -*-===//
//
// 128 threads work on 32 resident rows against 64 passing ones; thread (y, x)
// of 8 x 16 has rows 4y .. 4y + 3 and columns 4x .. 4x + 3. Any element type
// and head size: elements are widened to f32 on their way into shared memory.
//
//===----------------------------------------------------------------------===//
#ifndef PEFT_CUDA_KERNELS_ATTENTIONPLAINTILE_H
#define PEFT_CUDA_KERNELS_ATTENTIONPLAINTILE_H

#include "cuda/AttentionShape.h"

namespace peft::cuda {

constexpr unsigned plainResident = 32, plainPassing = 64, plainThreads = 128;
/// Features that are multiplied at a time, and that are summed at a time.
constexpr unsigned plainDepth = 32, plainColumns = 64;

/// One head of one batch row; `data` is its position 0.
struct PlainHead {
  std::byte *data;
  DType type;
  uint64_t stride;
  uint32_t dim;

  __host__ __device__ PlainHead(const Operand &operand, uint32_t headDim)
      : data(operand.data), type(operand.type), stride(operand.columns),
        dim(headDim) {}

  __device__ PlainHead at(uint64_t element) const {
    PlainHead head = *this;
    head.data += element * (type == DType::f32 ? 4 : 2);
    return head;
  }
  __device__ float load(uint32_t position, uint32_t feature) const {
    const uint64_t i = position * stride + feature;
    if (type == DType::f32)
      return reinterpret_cast<const float *>(data)[i];
    if (type == DType::bf16)
      return toFloat(reinterpret_cast<const BF16 *>(data)[i]);
    return toFloat(reinterpret_cast<const F16 *>(data)[i]);
  }
  __device__ void store(uint32_t position, uint32_t feature,
                        float value) const {
    const uint64_t i = position * stride + feature;
    if (type == DType::f32)
      reinterpret_cast<float *>(data)[i] = value;
    else if (type == DType::bf16)
      reinterpret_cast<BF16 *>(data)[i] = fromFloat<BF16>(value);
    else
      reinterpret_cast<F16 *>(data)[i] = fromFloat<F16>(value);
  }
  /// `value` as an operand of a product holds it.
  __device__ float rounded(float value) const {
    if (type == DType::f32)
      return value;
    return type == DType::bf16 ? toFloat(fromFloat<BF16>(value))
                               : toFloat(fromFloat<F16>(value));
  }
};

/// Rows padded so that neighbours lie in different banks; 16 byte aligned.
struct PlainTiles {
  alignas(16) float left[plainDepth][plainResident + 4];
  alignas(16) float right[plainDepth][plainPassing + 4];
  alignas(16) float weights[plainResident][plainPassing + 4];
  alignas(16) float values[plainPassing][plainColumns + 4];
};

using PlainSums = float[4][4];

__device__ inline unsigned plainRow() { return threadIdx.x / 16 * 4; }
__device__ inline unsigned plainColumn() { return threadIdx.x % 16 * 4; }

__device__ inline void clearPlain(PlainSums &sums) {
#pragma unroll
  for (unsigned i = 0; i < 4; ++i)
#pragma unroll
    for (unsigned j = 0; j < 4; ++j)
      sums[i][j] = 0;
}

/// to[feature][position] of features [first, first + plainDepth), zero outside.
template <unsigned width>
__device__ inline void loadTransposed(float (&to)[plainDepth][width],
                                      unsigned positions, const PlainHead &from,
                                      Span span, uint32_t first) {
  for (unsigned i = threadIdx.x; i < positions * plainDepth; i += blockDim.x) {
    const unsigned position = i / plainDepth, d = i % plainDepth;
    const bool valid = position < span.end - span.begin && first + d < from.dim;
    to[d][position] = valid ? from.load(span.begin + position, first + d) : 0;
  }
}

/// sums = resident rows of `a` times passing rows of `b`.
__device__ inline void multiplyPlainHeads(PlainTiles &tiles, PlainSums &sums,
                                          const PlainHead &a, Span resident,
                                          const PlainHead &b, Span passing) {
  clearPlain(sums);
  for (uint32_t first = 0; first < a.dim; first += plainDepth) {
    __syncthreads(); // nobody reads what was here before
    loadTransposed(tiles.left, plainResident, a, resident, first);
    loadTransposed(tiles.right, plainPassing, b, passing, first);
    __syncthreads();
    for (unsigned k = 0; k < plainDepth; ++k)
#pragma unroll
      for (unsigned i = 0; i < 4; ++i)
#pragma unroll
        for (unsigned j = 0; j < 4; ++j)
          sums[i][j] = fmaf(tiles.left[k][plainRow() + i],
                            tiles.right[k][plainColumn() + j], sums[i][j]);
  }
}

/// The weights that multiplyPlainValues takes.
__device__ inline void putWeights(PlainTiles &tiles, const PlainSums &weights,
                                  const PlainHead &type) {
  __syncthreads(); // nobody reads the weights before
#pragma unroll
  for (unsigned i = 0; i < 4; ++i)
#pragma unroll
    for (unsigned j = 0; j < 4; ++j)
      tiles.weights[plainRow() + i][plainColumn() + j] =
          type.rounded(weights[i][j]);
}

/// sums[c] += weights times features from `first` + 64 c on of `b`.
template <unsigned chunks>
__device__ inline void multiplyPlainValues(PlainTiles &tiles,
                                           PlainSums (&sums)[chunks],
                                           const PlainHead &b, Span passing,
                                           uint32_t first) {
#pragma unroll
  for (unsigned c = 0; c < chunks; ++c) {
    const uint32_t begin = first + c * plainColumns;
    if (begin >= b.dim)
      break;
    if (c > 0)
      __syncthreads(); // nobody reads the values before; else putWeights waited
    for (unsigned i = threadIdx.x; i < plainPassing * plainColumns;
         i += blockDim.x) {
      const unsigned position = i / plainColumns, d = i % plainColumns;
      const bool valid =
          position < passing.end - passing.begin && begin + d < b.dim;
      tiles.values[position][d] =
          valid ? b.load(passing.begin + position, begin + d) : 0;
    }
    __syncthreads();
    for (unsigned k = 0; k < plainPassing; ++k)
#pragma unroll
      for (unsigned i = 0; i < 4; ++i)
#pragma unroll
        for (unsigned j = 0; j < 4; ++j)
          sums[c][i][j] = fmaf(tiles.weights[plainRow() + i][k],
                               tiles.values[k][plainColumn() + j],
                               sums[c][i][j]);
  }
}

/// Stores sums[c] x scale[row] into positions of `resident`.
template <unsigned chunks>
__device__ inline void storePlain(const PlainSums (&sums)[chunks],
                                  const PlainHead &to, Span resident,
                                  uint32_t first, const float (&scale)[4]) {
#pragma unroll
  for (unsigned c = 0; c < chunks; ++c)
#pragma unroll
    for (unsigned i = 0; i < 4; ++i)
#pragma unroll
      for (unsigned j = 0; j < 4; ++j) {
        const uint32_t position = resident.begin + plainRow() + i;
        const uint32_t feature = first + c * plainColumns + plainColumn() + j;
        if (position < resident.end && feature < to.dim)
          to.store(position, feature, sums[c][i][j] * scale[i]);
      }
}

/// Before anything is hidden.
__device__ inline void capPlain(const AttentionShape &shape,
                                PlainSums &scores) {
  if (shape.capScale == 0)
    return;
#pragma unroll
  for (unsigned i = 0; i < 4; ++i)
#pragma unroll
    for (unsigned j = 0; j < 4; ++j)
      scores[i][j] = capped(shape, scores[i][j]);
}

/// Minus infinity where the query does not see the key; `transposed` when rows
/// are keys.
__device__ inline void hidePlain(const AttentionShape &shape,
                                 const int32_t *segments, PlainSums &scores,
                                 uint32_t row, uint32_t column,
                                 bool transposed) {
#pragma unroll
  for (unsigned i = 0; i < 4; ++i)
#pragma unroll
    for (unsigned j = 0; j < 4; ++j) {
      const uint32_t a = row + plainRow() + i, b = column + plainColumn() + j;
      if (!sees(shape, segments, transposed ? b : a, transposed ? a : b))
        scores[i][j] = -INFINITY;
    }
}

} // namespace peft::cuda

#endif // PEFT_CUDA_KERNELS_ATTENTIONPLAINTILE_H
