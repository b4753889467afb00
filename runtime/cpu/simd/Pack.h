//===- Pack.h - operands laid out for the tiles -----------------*- C++ -*-===//
//
// Packing turns any stored type, direction and address into the words of a
// form, in the order in which the tile reads them. What a step lacks (the
// second half of a last odd pair) is minus zero on the left and zero on the
// right: their product changes no sum, not even the sign of a zero.
//
//===----------------------------------------------------------------------===//
#ifndef PEFT_CPU_SIMD_PACK_H
#define PEFT_CPU_SIMD_PACK_H

#include "Tile.h"
#include "Transpose.h"

#include <type_traits>

namespace peft::cpu::PEFT_PATH {

/// Sixteen elements, rounded to the form's type.
template <Form form, typename T> PEFT_INLINE Lanes loadRounded(const T *from) {
  if constexpr (std::is_same_v<T, TypeOf<form>>)
    return load(from);
  else
    return rounded<TypeOf<form>>(load(from));
}

/// Sixteen steps of one row, that is of 16 or 32 consecutive elements.
template <Form form, typename T> PEFT_INLINE Ints loadSteps(const T *from) {
#if defined(__AVX512BF16__)
  if constexpr (form == Form::pairs && std::is_same_v<T, BF16>)
    return {_mm512_rol_epi32(_mm512_loadu_si512(from), 16)};
  else if constexpr (form == Form::pairs)
    return {_mm512_rol_epi32(
        (__m512i)_mm512_cvtne2ps_pbh(load(from + laneCount).v, load(from).v),
        16)};
#endif
  return asInts(loadRounded<form>(from));
}

/// The same of the `count` elements there are; the others are `padding`.
template <Form form, typename T>
PEFT_INLINE Ints loadSteps(const T *from, uint64_t count, T padding) {
  T buffer[laneCount * elementsPerStep(form)];
  std::fill_n(buffer, std::size(buffer), padding);
  std::memcpy(buffer, from, count * sizeof(T));
  return loadSteps<form>(buffer);
}

/// One step of sixteen neighbours: element i of row `even`, and for pairs of
/// row `odd` (null: `padding`).
template <Form form, typename T>
PEFT_INLINE Ints loadAcross(const T *even, const T *odd, uint32_t padding) {
#if defined(__AVX512BF16__)
  if constexpr (form == Form::pairs) {
    auto words = [](const T *from) {
      if constexpr (std::is_same_v<T, BF16>)
        return _mm512_cvtepu16_epi32(
            _mm256_loadu_si256(reinterpret_cast<const __m256i *>(from)));
      else
        return _mm512_cvtepu16_epi32(narrow(load(from)));
    };
    __m512i low =
        odd ? words(odd) : _mm512_set1_epi32(static_cast<int>(padding));
    return {_mm512_or_si512(_mm512_slli_epi32(words(even), 16), low)};
  }
#endif
  return asInts(loadRounded<form>(even));
}

/// The same where only `count` elements of a row may be read.
template <Form form, typename T>
Ints loadAcrossEnd(const T *even, const T *odd, uint32_t padding,
                   uint64_t count) {
  T rows[2][laneCount] = {};
  std::memcpy(rows[0], even, count * sizeof(T));
  if (odd)
    std::memcpy(rows[1], odd, count * sizeof(T));
  return loadAcross<form>(rows[0], odd ? rows[1] : nullptr, padding);
}

PEFT_INLINE void storeWords(uint32_t *to, Ints words) {
  store(reinterpret_cast<F32 *>(to), asLanes(words));
}

/// One row of a left tile: `elements` of it as steps from `to` on, where there
/// is room for sixteen steps more. Elements may be read up to `end`.
template <Form form, typename T>
void packRow(const T *from, const T *end, uint64_t elements, uint32_t *to) {
  constexpr uint64_t chunk = laneCount * elementsPerStep(form);
  for (; elements >= chunk; elements -= chunk, from += chunk, to += laneCount)
    storeWords(to, loadSteps<form>(from));
  if (elements == 0)
    return;
  T minusZero{};
  minusZero.bytes[sizeof(T) - 1] = 0x80;
  bool whole = elements % elementsPerStep(form) == 0 && from + chunk <= end;
  storeWords(to, whole ? loadSteps<form>(from)
                       : loadSteps<form>(from, elements, minusZero));
}

/// Steps of up to sixteen neighbouring columns of a row-major matrix that ends
/// at `end`; of the `columns` wanted, the others may hold anything.
template <Form form, typename T>
PEFT_INLINE void packAcross(const T *even, const T *odd, const T *end,
                            uint64_t columns, uint32_t padding, uint32_t *to) {
  const T *last = odd && form == Form::pairs ? odd : even;
  if (last + laneCount <= end)
    storeWords(to, loadAcross<form>(even, odd, padding));
  else
    storeWords(to, loadAcrossEnd<form>(even, odd, padding,
                                       std::min<uint64_t>(columns, laneCount)));
}

/// A left tile of `rows` columns of a row-major matrix with `stride` elements
/// to a row, which ends at `end`: [step][16 rows].
template <Form form, typename T>
void packLeftTransposed(const T *from, const T *end, uint64_t stride,
                        uint64_t elements, uint64_t rows, uint32_t *to) {
  constexpr uint32_t minusZero = 0x8000;
  for (uint64_t k = 0; k < elements;
       k += elementsPerStep(form), to += laneCount) {
    const T *even = from + k * stride;
    packAcross<form>(even, k + 1 < elements ? even + stride : nullptr, end,
                     rows, minusZero, to);
  }
}

/// Sixteen words of 32 bits from memory: two bf16 each, or an f32.
template <typename T>
PEFT_INLINE Ints loadWords(const T *from, uint64_t count, uint64_t most) {
  if (count == most)
    return asInts(load(reinterpret_cast<const F32 *>(from)));
  T buffer[laneCount * 2] = {};
  std::memcpy(buffer, from, count * sizeof(T));
  return asInts(load(reinterpret_cast<const F32 *>(buffer)));
}

/// packColumns for bf16 that is widened: pairs are turned as they are and
/// taken apart at the end, which takes half as many shuffles.
template <typename T>
void packColumnsApart(const T *from, const T *end, uint64_t stride,
                      uint64_t columns, uint64_t elements, uint32_t *to,
                      uint64_t toStride) {
  constexpr uint64_t chunk = 2 * laneCount;
  for (uint64_t k = 0; k < elements; k += chunk, to += chunk * toStride) {
    Ints rows[laneCount];
    uint64_t left = std::min(chunk, elements - k);
    for (uint64_t j = 0; j < laneCount; ++j) {
      const T *row = from + j * stride + k;
      rows[j] = j < columns
                    ? loadWords(row, row + chunk <= end ? chunk : left, chunk)
                    : broadcastInts(0);
    }
    transpose(rows);
    for (uint64_t s = 0; s < left; s += 2) {
      Ints pair = rows[s / 2];
      storeWords(to + s * toStride, shiftLeft<16>(pair));
      if (s + 1 < left)
        storeWords(to + (s + 1) * toStride, pair & broadcastInts(~0xffff));
    }
  }
}

/// Sixteen panel columns, stored as rows of `stride` elements, of which
/// `columns` exist: column j of step s goes to to[s * toStride + j]. The matrix
/// ends at `end`.
template <Form form, typename T>
void packColumns(const T *from, const T *end, uint64_t stride, uint64_t columns,
                 uint64_t elements, uint32_t *to, uint64_t toStride) {
  if constexpr (form == Form::widened && std::is_same_v<T, BF16>)
    return packColumnsApart(from, end, stride, columns, elements, to, toStride);
  constexpr uint64_t chunk = laneCount * elementsPerStep(form);
  for (uint64_t k = 0; k < elements; k += chunk, to += laneCount * toStride) {
    Ints rows[laneCount];
    uint64_t left = std::min(chunk, elements - k);
    // What lies behind the last step is packed but never read.
    bool whole = left % elementsPerStep(form) == 0;
    for (uint64_t j = 0; j < laneCount; ++j) {
      const T *row = from + j * stride + k;
      rows[j] = j >= columns                  ? broadcastInts(0)
                : whole && row + chunk <= end ? loadSteps<form>(row)
                                              : loadSteps<form>(row, left, T{});
    }
    transpose(rows);
    uint64_t steps = (left + elementsPerStep(form) - 1) / elementsPerStep(form);
    for (uint64_t s = 0; s < steps; ++s)
      storeWords(to + s * toStride, rows[s]);
  }
}

} // namespace peft::cpu::PEFT_PATH

#endif // PEFT_CPU_SIMD_PACK_H
