//===- AttentionPack.h - heads laid out for the products --------*- C++ -*-===//
//
// A block is up to 64 positions of one head; positions past its end and
// features past headDim are zero. Word counts are of a form: in pairs two
// neighbours along the summed direction share a word.
//
//===----------------------------------------------------------------------===//
#ifndef PEFT_CPU_SIMD_ATTENTIONPACK_H
#define PEFT_CPU_SIMD_ATTENTIONPACK_H

#include "../AttentionShape.h"
#include "Pack.h"

namespace peft::cpu::PEFT_PATH {

/// Positions [0, count) of a block of one head, `stride` elements apart.
template <typename C> struct Block {
  const C *from;
  uint64_t stride, count, headDim;

  const C *row(uint64_t position) const { return from + position * stride; }
};

/// Block `block` of head `head` of batch row `row` of an operand.
template <typename C>
Block<C> blockOf(const Operand &operand, const AttentionShape &shape,
                 uint64_t row, uint64_t head, uint64_t block) {
  const uint64_t first = block * blockSize;
  return {operand.as<C>() + (row * shape.seq + first) * operand.columns +
              head * shape.headDim,
          operand.columns, shape.blockEnd(block) - first, shape.headDim};
}

constexpr uint64_t stepsOf(Form form, uint64_t elements) {
  return (elements + elementsPerStep(form) - 1) / elementsPerStep(form);
}

/// Sixteen steps of features of one position, from feature `d` on.
template <Form form, typename C>
PEFT_INLINE Ints featuresAlong(const Block<C> &block, uint64_t position,
                               uint64_t d, C padding) {
  const uint64_t left = block.headDim - d;
  return left < laneCount * elementsPerStep(form)
             ? loadSteps<form>(block.row(position) + d, left, padding)
             : loadSteps<form>(block.row(position) + d);
}

/// [64 positions][stride]: features along the steps, for the left.
template <Form form, typename C>
void packRows(const Block<C> &block, uint32_t *to, uint64_t stride) {
  C minusZero{};
  minusZero.bytes[sizeof(C) - 1] = 0x80;
  std::memset(to, 0, blockSize * stride * sizeof(uint32_t));
  for (uint64_t i = 0; i < block.count; ++i, to += stride)
    for (uint64_t s = 0; s < stride; s += laneCount) {
      const uint64_t d = s * elementsPerStep(form);
      if (d >= block.headDim)
        break;
      const Ints words = featuresAlong<form>(block, i, d, minusZero);
      uint32_t buffer[laneCount];
      storeWords(stride - s < laneCount ? buffer : to + s, words);
      if (stride - s < laneCount)
        std::memcpy(to + s, buffer, (stride - s) * sizeof(uint32_t));
    }
}

/// [steps of features][64 positions], for the right.
template <Form form, typename C>
void packPositionsAcross(const Block<C> &block, uint32_t *to) {
  const uint64_t steps = stepsOf(form, block.headDim);
  for (uint64_t s = 0; s < steps; s += laneCount)
    for (uint64_t j = 0; j < blockSize; j += laneCount) {
      Ints words[laneCount];
      for (uint64_t i = 0; i < laneCount; ++i)
        words[i] = j + i < block.count
                       ? featuresAlong<form>(block, j + i,
                                             s * elementsPerStep(form), C{})
                       : broadcastInts(0);
      transpose(words);
      for (uint64_t i = 0; i < laneCount && s + i < steps; ++i)
        storeWords(to + (s + i) * blockSize + j, words[i]);
    }
}

/// Step `step` of positions, sixteen features from `d` on.
template <Form form, typename C>
PEFT_INLINE Ints featuresAcross(const Block<C> &block, uint64_t step,
                                uint64_t d) {
  const uint64_t even = step * elementsPerStep(form);
  if (even >= block.count)
    return broadcastInts(0);
  const C *odd = even + 1 < block.count ? block.row(even + 1) + d : nullptr;
  const uint64_t left = block.headDim - d;
  if (left >= laneCount)
    return loadAcross<form>(block.row(even) + d, odd, 0);
  C rows[2][laneCount] = {};
  std::memcpy(rows[0], block.row(even) + d, left * sizeof(C));
  if (odd)
    std::memcpy(rows[1], odd, left * sizeof(C));
  return loadAcross<form>(rows[0], odd ? rows[1] : nullptr, 0);
}

/// [steps of positions][paddedDim], for the right.
template <Form form, typename C>
void packFeaturesAcross(const Block<C> &block, uint32_t *to,
                        uint64_t paddedDim) {
  for (uint64_t s = 0; s < stepsOf(form, blockSize); ++s, to += paddedDim)
    for (uint64_t d = 0; d < paddedDim; d += laneCount)
      storeWords(to + d, featuresAcross<form>(block, s, d));
}

/// [paddedDim][steps of positions], for the left.
template <Form form, typename C>
void packTransposed(const Block<C> &block, uint32_t *to, uint64_t paddedDim) {
  constexpr uint64_t steps = stepsOf(form, blockSize);
  for (uint64_t d = 0; d < paddedDim; d += laneCount)
    for (uint64_t s = 0; s < steps; s += laneCount) {
      Ints words[laneCount];
      for (uint64_t i = 0; i < laneCount; ++i)
        words[i] = featuresAcross<form>(block, s + i, d);
      transpose(words);
      for (uint64_t i = 0; i < laneCount; ++i)
        storeWords(to + (d + i) * steps + s, words[i]);
    }
}

/// The transpose of [paddedDim][64] sums, times the factor of each position
/// (null: one), as rows of an operand.
template <typename C>
void storeTransposed(const float *from, const float *factors, C *to,
                     uint64_t stride, uint64_t count, uint64_t headDim) {
  for (uint64_t j = 0; j < count; j += laneCount)
    for (uint64_t d = 0; d < headDim; d += laneCount) {
      Ints words[laneCount];
      for (uint64_t i = 0; i < laneCount; ++i) {
        Lanes sums = loadSums(from + (d + i) * blockSize + j);
        if (factors)
          sums = sums * loadSums(factors + j);
        words[i] = asInts(sums);
      }
      transpose(words);
      for (uint64_t i = 0; i < laneCount && j + i < count; ++i) {
        C *row = to + (j + i) * stride + d;
        if (d + laneCount <= headDim)
          store(row, asLanes(words[i]));
        else
          store(row, asLanes(words[i]), headDim - d);
      }
    }
}

/// Two neighbouring keys of sixteen queries as one step, for the right.
PEFT_INLINE Ints pairAcross(Lanes even, Lanes odd) {
#if defined(__AVX512BF16__)
  const __m512i order = _mm512_set_epi16(31, 15, 30, 14, 29, 13, 28, 12, 27, 11,
                                         26, 10, 25, 9, 24, 8, 23, 7, 22, 6, 21,
                                         5, 20, 4, 19, 3, 18, 2, 17, 1, 16, 0);
  return {_mm512_permutexvar_epi16(
      order, (__m512i)_mm512_cvtne2ps_pbh(even.v, odd.v))};
#else
  return asInts(even);
#endif
}

/// Thirty-two neighbouring queries of one key as sixteen steps, for the left.
PEFT_INLINE Ints pairAlong(Lanes low, Lanes high) {
#if defined(__AVX512BF16__)
  return {_mm512_rol_epi32((__m512i)_mm512_cvtne2ps_pbh(high.v, low.v), 16)};
#else
  return asInts(low);
#endif
}

} // namespace peft::cpu::PEFT_PATH

#endif // PEFT_CPU_SIMD_ATTENTIONPACK_H
