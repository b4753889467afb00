//===- LanesAvx512.h - Lanes in one zmm register ----------------*- C++ -*-===//
#ifndef PEFT_CPU_LANESAVX512_H
#define PEFT_CPU_LANESAVX512_H

#include <immintrin.h>

namespace peft::cpu::PEFT_PATH {

struct Lanes {
  __m512 v;
};
struct Ints {
  __m512i v;
};
struct Mask {
  __mmask16 v;
};

PEFT_INLINE Lanes broadcast(float x) { return {_mm512_set1_ps(x)}; }
PEFT_INLINE Lanes operator+(Lanes a, Lanes b) {
  return {_mm512_add_ps(a.v, b.v)};
}
PEFT_INLINE Lanes operator-(Lanes a, Lanes b) {
  return {_mm512_sub_ps(a.v, b.v)};
}
PEFT_INLINE Lanes operator*(Lanes a, Lanes b) {
  return {_mm512_mul_ps(a.v, b.v)};
}
PEFT_INLINE Lanes operator/(Lanes a, Lanes b) {
  return {_mm512_div_ps(a.v, b.v)};
}
PEFT_INLINE Lanes fma(Lanes a, Lanes b, Lanes c) {
  return {_mm512_fmadd_ps(a.v, b.v, c.v)};
}
PEFT_INLINE Lanes minimum(Lanes a, Lanes b) {
  return {_mm512_min_ps(a.v, b.v)};
}
PEFT_INLINE Lanes maximum(Lanes a, Lanes b) {
  return {_mm512_max_ps(a.v, b.v)};
}
PEFT_INLINE Lanes squareRoot(Lanes a) { return {_mm512_sqrt_ps(a.v)}; }
PEFT_INLINE Mask less(Lanes a, Lanes b) {
  return {_mm512_cmp_ps_mask(a.v, b.v, _CMP_LT_OQ)};
}
PEFT_INLINE Lanes select(Mask m, Lanes a, Lanes b) {
  return {_mm512_mask_blend_ps(m.v, b.v, a.v)};
}

PEFT_INLINE Ints broadcastInts(int32_t x) { return {_mm512_set1_epi32(x)}; }
PEFT_INLINE Ints operator+(Ints a, Ints b) {
  return {_mm512_add_epi32(a.v, b.v)};
}
PEFT_INLINE Ints operator-(Ints a, Ints b) {
  return {_mm512_sub_epi32(a.v, b.v)};
}
PEFT_INLINE Ints operator&(Ints a, Ints b) {
  return {_mm512_and_si512(a.v, b.v)};
}
template <int count> PEFT_INLINE Ints shiftLeft(Ints a) {
  return {_mm512_slli_epi32(a.v, count)};
}
/// Arithmetic: the sign is kept.
template <int count> PEFT_INLINE Ints shiftRight(Ints a) {
  return {_mm512_srai_epi32(a.v, count)};
}
PEFT_INLINE Mask lessEqual(Ints a, Ints b) {
  return {_mm512_cmple_epi32_mask(a.v, b.v)};
}
PEFT_INLINE Mask equal(Ints a, Ints b) {
  return {_mm512_cmpeq_epi32_mask(a.v, b.v)};
}
PEFT_INLINE Mask operator&(Mask a, Mask b) {
  return {static_cast<__mmask16>(a.v & b.v)};
}
/// Lane i of the mask is bit i.
PEFT_INLINE Mask maskOfBits(uint16_t bits) { return {bits}; }
PEFT_INLINE Ints asInts(Lanes a) { return {_mm512_castps_si512(a.v)}; }
PEFT_INLINE Lanes asLanes(Ints a) { return {_mm512_castsi512_ps(a.v)}; }
PEFT_INLINE Lanes toFloats(Ints a) { return {_mm512_cvtepi32_ps(a.v)}; }

PEFT_INLINE Lanes load(const F32 *from) { return {_mm512_loadu_ps(from)}; }
PEFT_INLINE Lanes widen(__m256i bits) {
  return {
      _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(bits), 16))};
}
PEFT_INLINE Lanes load(const BF16 *from) {
  return widen(_mm256_loadu_si256(reinterpret_cast<const __m256i *>(from)));
}
PEFT_INLINE Lanes load(const F16 *from) {
  return {_mm512_cvtph_ps(
      _mm256_loadu_si256(reinterpret_cast<const __m256i *>(from)))};
}
PEFT_INLINE Ints loadInts(const int32_t *from) {
  return {_mm512_loadu_si512(from)};
}

PEFT_INLINE void store(F32 *to, Lanes value) { _mm512_storeu_ps(to, value.v); }
PEFT_INLINE __m256i narrow(Lanes value) {
#if defined(__AVX512BF16__)
  return (__m256i)_mm512_cvtneps_pbh(value.v);
#else
  __m512i bits = _mm512_castps_si512(value.v);
  __m512i magnitude = _mm512_and_si512(bits, _mm512_set1_epi32(0x7fffffff));
  __m512i odd =
      _mm512_and_si512(_mm512_srli_epi32(bits, 16), _mm512_set1_epi32(1));
  __m512i rounded =
      _mm512_add_epi32(_mm512_add_epi32(bits, _mm512_set1_epi32(0x7fff)), odd);
  rounded = _mm512_mask_or_epi32(
      rounded,
      _mm512_cmpgt_epi32_mask(magnitude, _mm512_set1_epi32(0x7f800000)), bits,
      _mm512_set1_epi32(0x400000));
  rounded = _mm512_mask_and_epi32(
      rounded,
      _mm512_cmplt_epi32_mask(magnitude, _mm512_set1_epi32(0x00800000)), bits,
      _mm512_set1_epi32(INT32_MIN));
  return _mm512_cvtepi32_epi16(_mm512_srli_epi32(rounded, 16));
#endif
}
PEFT_INLINE void store(BF16 *to, Lanes value) {
  _mm256_storeu_si256(reinterpret_cast<__m256i *>(to), narrow(value));
}
PEFT_INLINE __m256i halfBits(Lanes value) {
  return _mm512_cvtps_ph(value.v, _MM_FROUND_TO_NEAREST_INT);
}
PEFT_INLINE void store(F16 *to, Lanes value) {
  _mm256_storeu_si256(reinterpret_cast<__m256i *>(to), halfBits(value));
}
/// `value` rounded to bf16 or f16, as f32.
PEFT_INLINE Lanes roundAs(BF16, Lanes value) { return widen(narrow(value)); }
PEFT_INLINE Lanes roundAs(F16, Lanes value) {
  return {_mm512_cvtph_ps(halfBits(value))};
}

/// Sixteen numbers to look up.
template <typename T> struct Table {
  __m512 numbers;
};
template <typename T> PEFT_INLINE Table<T> makeTable(Lanes numbers) {
  return {numbers.v};
}
/// The numbers of sixteen codes of 4 bits, the first in the high half of the
/// first byte.
template <typename T>
PEFT_INLINE void lookup(const Table<T> &table, const std::byte *codes, T *to) {
  // Eight bytes to eight words; each word to two halves, the high nibble first.
  __m512i pairs = _mm512_cvtepu8_epi64(
      _mm_loadl_epi64(reinterpret_cast<const __m128i *>(codes)));
  __m512i low = _mm512_slli_epi64(
      _mm512_and_si512(pairs, _mm512_set1_epi64(15)), 32);
  __m512i indices = _mm512_or_si512(_mm512_srli_epi64(pairs, 4), low);
  store(to, Lanes{_mm512_permutexvar_ps(indices, table.numbers)});
}
/// Sixteen signed bytes.
PEFT_INLINE Ints loadBytes(const std::byte *from) {
  return {_mm512_cvtepi8_epi32(
      _mm_loadu_si128(reinterpret_cast<const __m128i *>(from)))};
}

PEFT_INLINE float sum(Lanes a) {
  __m256 e = _mm256_add_ps(_mm512_castps512_ps256(a.v),
                           _mm512_extractf32x8_ps(a.v, 1));
  __m128 q = _mm_add_ps(_mm256_castps256_ps128(e), _mm256_extractf128_ps(e, 1));
  q = _mm_add_ps(q, _mm_movehl_ps(q, q));
  return _mm_cvtss_f32(_mm_add_ss(q, _mm_movehdup_ps(q)));
}
PEFT_INLINE float largest(Lanes a) {
  __m256 e = _mm256_max_ps(_mm512_castps512_ps256(a.v),
                           _mm512_extractf32x8_ps(a.v, 1));
  __m128 q = _mm_max_ps(_mm256_castps256_ps128(e), _mm256_extractf128_ps(e, 1));
  q = _mm_max_ps(q, _mm_movehl_ps(q, q));
  return _mm_cvtss_f32(_mm_max_ss(q, _mm_movehdup_ps(q)));
}

} // namespace peft::cpu::PEFT_PATH

#endif // PEFT_CPU_LANESAVX512_H
