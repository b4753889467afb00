//===- AttentionTile.h - products of 64-wide blocks -------------*- C++ -*-===//
//
// Blocks of attention are small and stay in cache, so they are multiplied in
// place: rows of the left operand at any stride, the right operand as
// [step][columns] words. Numbers and order are those of Tile.h.
//
//===----------------------------------------------------------------------===//
#ifndef PEFT_CPU_SIMD_ATTENTIONTILE_H
#define PEFT_CPU_SIMD_ATTENTIONTILE_H

#include "../AttentionShape.h"
#include "Tile.h"

namespace peft::cpu::PEFT_PATH {

/// Where the chains start.
enum class Start {
  zero,
  resume, ///< from what is stored
  scaled, ///< from what is stored x the factor of the column
};

struct Product {
  const uint32_t *left;
  uint64_t leftStride;
  const uint32_t *right;
  uint64_t rightStride;
  uint64_t steps;
  float *to;
  uint64_t toStride;
  const float *factors = nullptr;
};

#if defined(__AVX512F__)
constexpr unsigned productVectors = 4;
#else
constexpr unsigned productVectors = 1;
#endif

template <Form form, Start start, unsigned rows, unsigned vectors>
void multiplyTile(const Product &product) {
  Lanes sums[rows][vectors];
  PEFT_UNROLL
  for (unsigned i = 0; i < rows; ++i) {
    PEFT_UNROLL
    for (unsigned j = 0; j < vectors; ++j) {
      if constexpr (start == Start::zero)
        sums[i][j] = broadcast(0);
      else
        sums[i][j] =
            loadSums(product.to + i * product.toStride + j * laneCount);
      if constexpr (start == Start::scaled)
        sums[i][j] = sums[i][j] * loadSums(product.factors + j * laneCount);
    }
  }
  const uint32_t *left = product.left;
  const float *right = reinterpret_cast<const float *>(product.right);
  PEFT_KEEP_ROLLED
  for (uint64_t step = product.steps; step > 0; --step) {
    Lanes across[vectors];
    PEFT_UNROLL
    for (unsigned j = 0; j < vectors; ++j)
      across[j] = loadSums(right + j * laneCount);
    PEFT_UNROLL
    for (unsigned i = 0; i < rows; ++i) {
      PEFT_UNROLL
      for (unsigned j = 0; j < vectors; ++j)
        sums[i][j] = multiplyAdd<form>(left[i * product.leftStride], across[j],
                                       sums[i][j]);
    }
    ++left;
    right += product.rightStride;
  }
  PEFT_UNROLL
  for (unsigned i = 0; i < rows; ++i) {
    PEFT_UNROLL
    for (unsigned j = 0; j < vectors; ++j)
      storeSums(product.to + i * product.toStride + j * laneCount, sums[i][j]);
  }
}

/// All rows of one strip of columns. `rows` is a multiple of sixteen, which
/// sixes and fours always make up.
template <Form form, Start start, unsigned vectors>
void multiplyStrip(Product product, uint64_t rows) {
  uint64_t fours = rows % 6 == 4 ? 1 : rows % 6 == 2 ? 2 : 0;
  for (uint64_t left = rows; left > 0;) {
    const uint64_t height = left > 4 * fours ? 6 : 4;
    if (height == 6)
      multiplyTile<form, start, 6, vectors>(product);
    else
      multiplyTile<form, start, 4, vectors>(product);
    product.left += height * product.leftStride;
    product.to += height * product.toStride;
    left -= height;
  }
}

/// to[rows][columns] += left x right; both are multiples of sixteen.
template <Form form, Start start>
void multiply(Product product, uint64_t rows, uint64_t columns) {
  for (uint64_t left = columns; left > 0;) {
    uint64_t vectors = left / laneCount;
    if (vectors > productVectors)
      vectors = productVectors;
#if defined(__AVX512F__)
    if (vectors == 4)
      multiplyStrip<form, start, 4>(product, rows);
    else if (vectors == 3)
      multiplyStrip<form, start, 3>(product, rows);
    else if (vectors == 2)
      multiplyStrip<form, start, 2>(product, rows);
    else
#endif
      multiplyStrip<form, start, 1>(product, rows);
    const uint64_t width = vectors * laneCount;
    product.right += width;
    product.to += width;
    product.factors += product.factors ? width : 0;
    left -= width;
  }
}

// On the diagonal no query of an earlier sixteen sees a key of a later one.

/// Scores [64 keys][64 queries] of a diagonal block: sixteen keys meet their
/// own queries and the later ones, the rest is zero.
template <Form form> void multiplyDiagonal(const Product &product) {
  for (uint64_t i = 0; i < blockSize; i += laneCount) {
    Product part = product;
    part.left += i * product.leftStride;
    part.right += i;
    part.to += i * product.toStride + i;
    multiply<form, Start::zero>(part, laneCount, blockSize - i);
    for (uint64_t row = i; row < i + laneCount; ++row)
      for (uint64_t j = 0; j < i; j += laneCount)
        storeSums(product.to + row * product.toStride + j, broadcast(0));
  }
}

/// to[64 keys][columns] from a diagonal block [64 keys][64 queries]: the chains
/// start at the first query that may see the key; zeros before it add nothing.
template <Form form>
void multiplyFromDiagonal(const Product &product, uint64_t columns) {
  for (uint64_t i = 0; i < blockSize; i += laneCount) {
    const uint64_t skipped = i / elementsPerStep(form);
    Product part = product;
    part.left += i * product.leftStride + skipped;
    part.right += skipped * product.rightStride;
    part.steps -= skipped;
    part.to += i * product.toStride;
    multiply<form, Start::zero>(part, laneCount, columns);
  }
}

} // namespace peft::cpu::PEFT_PATH

#endif // PEFT_CPU_SIMD_ATTENTIONTILE_H
