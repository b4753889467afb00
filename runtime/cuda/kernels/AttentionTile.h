//===- AttentionTile.h - tiles of a head for tensor cores -------*- C++ -*-===//
//
// A tile is `rows` positions x `dim` features of one head in shared memory,
// features past the head's size and positions past the end zero. Rows are cut
// into chunks of 16 bytes whose order depends on the row, so that the eight
// rows that one ldmatrix reads at a time lie in different banks.
//
//===----------------------------------------------------------------------===//
#ifndef PEFT_CUDA_KERNELS_ATTENTIONTILE_H
#define PEFT_CUDA_KERNELS_ATTENTIONTILE_H

#include "cuda/AttentionShape.h"
#include "cuda/async_copy.h"
#include "cuda/mma.h"

namespace peft::cuda {

template <typename T, unsigned tileRows, unsigned tileDim> struct HeadTile {
  static constexpr unsigned rows = tileRows, dim = tileDim;
  static constexpr unsigned chunks = dim / 8, elements = rows * dim;
  static_assert(rows % 16 == 0 && dim % 32 == 0);

  T *data;

  __device__ T *chunkAt(unsigned row, unsigned chunk) const {
    const unsigned turn = dim % 64 == 0 ? row % 8 : row / 2 % 4;
    return data + (row * chunks + (chunk ^ turn)) * 8;
  }

  /// All threads of the block start to copy `span`; `from` is position 0 of the
  /// head and batch row.
  __device__ void load(const T *from, uint64_t stride, unsigned headDim,
                       Span span) const {
    for (unsigned i = threadIdx.x; i < rows * chunks; i += blockDim.x) {
      const unsigned row = i / chunks, chunk = i % chunks;
      const bool valid = row < span.end - span.begin && chunk * 8 < headDim;
      const T *source =
          valid ? from + (span.begin + row) * stride + chunk * 8 : from;
      copyAsync(chunkAt(row, chunk), source, valid);
    }
  }

  /// Rows [row, row + 16), features [16 k, 16 k + 16) as A.
  __device__ void left(uint32_t (&a)[4], unsigned row, unsigned k) const {
    const unsigned lane = threadIdx.x % 32;
    loadMatrices(a, chunkAt(row + lane % 16, k * 2 + lane / 16));
  }
  /// The tile's transpose as B: features [16 k, 16 k + 16) by rows
  /// [row, row + 16), two columns of eight.
  __device__ void right(uint32_t (&b)[2][2], unsigned row, unsigned k) const {
    const unsigned lane = threadIdx.x % 32;
    uint32_t both[4];
    loadMatrices(both, chunkAt(row + lane / 16 * 8 + lane % 8,
                               k * 2 + lane / 8 % 2));
    b[0][0] = both[0], b[0][1] = both[1], b[1][0] = both[2], b[1][1] = both[3];
  }
  /// The tile itself as B: rows [16 k, 16 k + 16) by features
  /// [16 column, 16 column + 16).
  __device__ void value(uint32_t (&b)[2][2], unsigned k,
                        unsigned column) const {
    const unsigned lane = threadIdx.x % 32;
    uint32_t both[4];
    loadTransposed(both, chunkAt(k * 16 + lane % 16, column * 2 + lane / 16));
    b[0][0] = both[0], b[0][1] = both[1], b[1][0] = both[2], b[1][1] = both[3];
  }
};

/// Sums of [16, columns]: element i of columns 8n .. 8n + 7 as mma.h says.
template <unsigned columns> using Sums = float[columns / 8][4];

/// sums[i] += rows [row + 16 i, row + 16 i + 16) of `a` times `b` transposed.
template <typename T, unsigned rowTiles, typename A, typename B>
__device__ inline void multiplyHeads(Sums<B::rows> (&sums)[rowTiles],
                                     const A &a, unsigned row, const B &b) {
#pragma unroll
  for (unsigned k = 0; k < A::dim / 16; ++k) {
    uint32_t left[rowTiles][4];
#pragma unroll
    for (unsigned i = 0; i < rowTiles; ++i)
      a.left(left[i], row + i * 16, k);
#pragma unroll
    for (unsigned n = 0; n < B::rows / 16; ++n) {
      uint32_t right[2][2];
      b.right(right, n * 16, k);
#pragma unroll
      for (unsigned i = 0; i < rowTiles; ++i) {
        multiply<T>(sums[i][2 * n], left[i], right[0]);
        multiply<T>(sums[i][2 * n + 1], left[i], right[1]);
      }
    }
  }
}

/// sums[i] += weights[i] [16, rows of b] times features [16 first, 16 first +
/// dim) of `b`; the weights are rounded to T.
template <typename T, unsigned dim, unsigned rowTiles, typename B>
__device__ inline void multiplyValues(Sums<dim> (&sums)[rowTiles],
                                      const Sums<B::rows> (&weights)[rowTiles],
                                      const B &b, unsigned first) {
#pragma unroll
  for (unsigned k = 0; k < B::rows / 16; ++k) {
    uint32_t left[rowTiles][4];
#pragma unroll
    for (unsigned i = 0; i < rowTiles; ++i)
#pragma unroll
      for (unsigned j = 0; j < 4; ++j)
        left[i][j] = packPair<T>(weights[i][2 * k + j / 2][j % 2 * 2],
                                 weights[i][2 * k + j / 2][j % 2 * 2 + 1]);
#pragma unroll
    for (unsigned n = 0; n < dim / 16; ++n) {
      uint32_t right[2][2];
      b.value(right, k, first + n);
#pragma unroll
      for (unsigned i = 0; i < rowTiles; ++i) {
        multiply<T>(sums[i][2 * n], left[i], right[0]);
        multiply<T>(sums[i][2 * n + 1], left[i], right[1]);
      }
    }
  }
}

/// body(element, row, column) for the lane's elements of sums [16, columns].
template <unsigned columns, typename Body>
__device__ inline void forElements(Sums<columns> &sums, const Body &body) {
  const unsigned lane = threadIdx.x % 32;
#pragma unroll
  for (unsigned n = 0; n < columns / 8; ++n)
#pragma unroll
    for (unsigned i = 0; i < 4; ++i)
      body(sums[n][i], lane / 4 + i / 2 * 8, n * 8 + lane % 4 * 2 + i % 2);
}

/// Before anything is hidden.
template <unsigned columns>
__device__ inline void capScores(const AttentionShape &shape,
                                 Sums<columns> &scores) {
  if (shape.capScale == 0)
    return;
  forElements<columns>(scores, [&](float &score, unsigned, unsigned) {
    score = capped(shape, score);
  });
}

/// Minus infinity where the query of a row of scores does not see the key of a
/// column.
template <unsigned columns>
__device__ inline void hideUnseen(const AttentionShape &shape,
                                  const int32_t *segments,
                                  Sums<columns> &scores, uint32_t query,
                                  uint32_t key) {
  forElements<columns>(scores, [&](float &score, unsigned i, unsigned j) {
    if (!sees(shape, segments, query + i, key + j))
      score = -INFINITY;
  });
}

template <unsigned columns>
__device__ inline void clearSums(Sums<columns> &sums) {
#pragma unroll
  for (unsigned i = 0; i < columns / 8; ++i)
#pragma unroll
    for (unsigned j = 0; j < 4; ++j)
      sums[i][j] = 0;
}

/// Stores sums [16, dim], rows that begin at `position`, features from
/// 16 x `first` on, into the head at `to`; scale[0] for the upper eight rows.
template <typename T, unsigned dim>
__device__ inline void storeSums(const Sums<dim> &sums, T *to, uint64_t stride,
                                 unsigned headDim, uint32_t position,
                                 uint32_t end, unsigned first,
                                 const float (&scale)[2]) {
  const unsigned lane = threadIdx.x % 32;
#pragma unroll
  for (unsigned half = 0; half < 2; ++half) {
    const uint32_t row = position + lane / 4 + half * 8;
#pragma unroll
    for (unsigned n = 0; n < dim / 8; ++n) {
      const unsigned feature = first * 16 + n * 8 + lane % 4 * 2;
      if (row < end && feature < headDim)
        *reinterpret_cast<uint32_t *>(to + row * stride + feature) =
            packPair<T>(sums[n][half * 2] * scale[half],
                        sums[n][half * 2 + 1] * scale[half]);
    }
  }
}

} // namespace peft::cuda

#endif // PEFT_CUDA_KERNELS_ATTENTIONTILE_H
