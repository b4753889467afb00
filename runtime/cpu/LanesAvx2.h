//===- LanesAvx2.h - Lanes in two ymm registers -----------------*- C++ -*-===//
#ifndef PEFT_CPU_LANESAVX2_H
#define PEFT_CPU_LANESAVX2_H

#include <immintrin.h>

namespace peft::cpu::PEFT_PATH {

struct Lanes {
  __m256 low, high;
};
struct Ints {
  __m256i low, high;
};
/// All bits of a lane are set or none is.
struct Mask {
  __m256 low, high;
};

PEFT_INLINE Lanes broadcast(float x) {
  return {_mm256_set1_ps(x), _mm256_set1_ps(x)};
}
PEFT_INLINE Lanes operator+(Lanes a, Lanes b) {
  return {_mm256_add_ps(a.low, b.low), _mm256_add_ps(a.high, b.high)};
}
PEFT_INLINE Lanes operator-(Lanes a, Lanes b) {
  return {_mm256_sub_ps(a.low, b.low), _mm256_sub_ps(a.high, b.high)};
}
PEFT_INLINE Lanes operator*(Lanes a, Lanes b) {
  return {_mm256_mul_ps(a.low, b.low), _mm256_mul_ps(a.high, b.high)};
}
PEFT_INLINE Lanes operator/(Lanes a, Lanes b) {
  return {_mm256_div_ps(a.low, b.low), _mm256_div_ps(a.high, b.high)};
}
PEFT_INLINE Lanes fma(Lanes a, Lanes b, Lanes c) {
  return {_mm256_fmadd_ps(a.low, b.low, c.low),
          _mm256_fmadd_ps(a.high, b.high, c.high)};
}
PEFT_INLINE Lanes minimum(Lanes a, Lanes b) {
  return {_mm256_min_ps(a.low, b.low), _mm256_min_ps(a.high, b.high)};
}
PEFT_INLINE Lanes maximum(Lanes a, Lanes b) {
  return {_mm256_max_ps(a.low, b.low), _mm256_max_ps(a.high, b.high)};
}
PEFT_INLINE Lanes squareRoot(Lanes a) {
  return {_mm256_sqrt_ps(a.low), _mm256_sqrt_ps(a.high)};
}
PEFT_INLINE Mask less(Lanes a, Lanes b) {
  return {_mm256_cmp_ps(a.low, b.low, _CMP_LT_OQ),
          _mm256_cmp_ps(a.high, b.high, _CMP_LT_OQ)};
}
PEFT_INLINE Lanes select(Mask m, Lanes a, Lanes b) {
  return {_mm256_blendv_ps(b.low, a.low, m.low),
          _mm256_blendv_ps(b.high, a.high, m.high)};
}

PEFT_INLINE Ints broadcastInts(int32_t x) {
  return {_mm256_set1_epi32(x), _mm256_set1_epi32(x)};
}
PEFT_INLINE Ints operator+(Ints a, Ints b) {
  return {_mm256_add_epi32(a.low, b.low), _mm256_add_epi32(a.high, b.high)};
}
PEFT_INLINE Ints operator-(Ints a, Ints b) {
  return {_mm256_sub_epi32(a.low, b.low), _mm256_sub_epi32(a.high, b.high)};
}
PEFT_INLINE Ints operator&(Ints a, Ints b) {
  return {_mm256_and_si256(a.low, b.low), _mm256_and_si256(a.high, b.high)};
}
template <int count> PEFT_INLINE Ints shiftLeft(Ints a) {
  return {_mm256_slli_epi32(a.low, count), _mm256_slli_epi32(a.high, count)};
}
/// Arithmetic: the sign is kept.
template <int count> PEFT_INLINE Ints shiftRight(Ints a) {
  return {_mm256_srai_epi32(a.low, count), _mm256_srai_epi32(a.high, count)};
}
PEFT_INLINE Mask asMask(__m256i low, __m256i high) {
  return {_mm256_castsi256_ps(low), _mm256_castsi256_ps(high)};
}
PEFT_INLINE Mask lessEqual(Ints a, Ints b) {
  __m256i ones = _mm256_set1_epi32(-1);
  return asMask(_mm256_andnot_si256(_mm256_cmpgt_epi32(a.low, b.low), ones),
                _mm256_andnot_si256(_mm256_cmpgt_epi32(a.high, b.high), ones));
}
PEFT_INLINE Mask equal(Ints a, Ints b) {
  return asMask(_mm256_cmpeq_epi32(a.low, b.low),
                _mm256_cmpeq_epi32(a.high, b.high));
}
PEFT_INLINE Mask operator&(Mask a, Mask b) {
  return {_mm256_and_ps(a.low, b.low), _mm256_and_ps(a.high, b.high)};
}
/// Lane i of the mask is bit i.
PEFT_INLINE Mask maskOfBits(uint16_t bits) {
  __m256i low = _mm256_setr_epi32(1, 2, 4, 8, 16, 32, 64, 128);
  __m256i high = _mm256_slli_epi32(low, 8), all = _mm256_set1_epi32(bits);
  return asMask(_mm256_cmpeq_epi32(_mm256_and_si256(all, low), low),
                _mm256_cmpeq_epi32(_mm256_and_si256(all, high), high));
}
PEFT_INLINE Ints asInts(Lanes a) {
  return {_mm256_castps_si256(a.low), _mm256_castps_si256(a.high)};
}
PEFT_INLINE Lanes asLanes(Ints a) {
  return {_mm256_castsi256_ps(a.low), _mm256_castsi256_ps(a.high)};
}
PEFT_INLINE Lanes toFloats(Ints a) {
  return {_mm256_cvtepi32_ps(a.low), _mm256_cvtepi32_ps(a.high)};
}

PEFT_INLINE Lanes load(const F32 *from) {
  const float *p = reinterpret_cast<const float *>(from);
  return {_mm256_loadu_ps(p), _mm256_loadu_ps(p + 8)};
}
PEFT_INLINE __m256 widen(__m128i bits) {
  return _mm256_castsi256_ps(
      _mm256_slli_epi32(_mm256_cvtepu16_epi32(bits), 16));
}
PEFT_INLINE Lanes load(const BF16 *from) {
  const __m128i *p = reinterpret_cast<const __m128i *>(from);
  return {widen(_mm_loadu_si128(p)), widen(_mm_loadu_si128(p + 1))};
}
PEFT_INLINE Lanes load(const F16 *from) {
  const __m128i *p = reinterpret_cast<const __m128i *>(from);
  return {_mm256_cvtph_ps(_mm_loadu_si128(p)),
          _mm256_cvtph_ps(_mm_loadu_si128(p + 1))};
}
PEFT_INLINE Ints loadInts(const int32_t *from) {
  const __m256i *p = reinterpret_cast<const __m256i *>(from);
  return {_mm256_loadu_si256(p), _mm256_loadu_si256(p + 1)};
}

PEFT_INLINE void store(F32 *to, Lanes value) {
  float *p = reinterpret_cast<float *>(to);
  _mm256_storeu_ps(p, value.low);
  _mm256_storeu_ps(p + 8, value.high);
}
/// The bf16 bits of each lane in the high half, zeros below.
PEFT_INLINE __m256i roundHalf(__m256 value) {
  __m256i bits = _mm256_castps_si256(value);
  __m256i magnitude = _mm256_and_si256(bits, _mm256_set1_epi32(0x7fffffff));
  __m256i odd =
      _mm256_and_si256(_mm256_srli_epi32(bits, 16), _mm256_set1_epi32(1));
  __m256i rounded =
      _mm256_add_epi32(_mm256_add_epi32(bits, _mm256_set1_epi32(0x7fff)), odd);
  __m256i isNaN = _mm256_cmpgt_epi32(magnitude, _mm256_set1_epi32(0x7f800000));
  __m256i quiet = _mm256_or_si256(bits, _mm256_set1_epi32(0x400000));
  rounded = _mm256_blendv_epi8(rounded, quiet, isNaN);
  __m256i isDenormal =
      _mm256_cmpgt_epi32(_mm256_set1_epi32(0x00800000), magnitude);
  __m256i sign = _mm256_and_si256(bits, _mm256_set1_epi32(INT32_MIN));
  rounded = _mm256_blendv_epi8(rounded, sign, isDenormal);
  return _mm256_and_si256(rounded, _mm256_set1_epi32(~0xffff));
}
PEFT_INLINE void store(BF16 *to, Lanes value) {
  __m256i low = _mm256_srli_epi32(roundHalf(value.low), 16);
  __m256i high = _mm256_srli_epi32(roundHalf(value.high), 16);
  __m256i words = _mm256_permute4x64_epi64(_mm256_packus_epi32(low, high),
                                           _MM_SHUFFLE(3, 1, 2, 0));
  _mm256_storeu_si256(reinterpret_cast<__m256i *>(to), words);
}
PEFT_INLINE __m128i halfBits(__m256 value) {
  return _mm256_cvtps_ph(value, _MM_FROUND_TO_NEAREST_INT);
}
PEFT_INLINE void store(F16 *to, Lanes value) {
  __m128i *p = reinterpret_cast<__m128i *>(to);
  _mm_storeu_si128(p, halfBits(value.low));
  _mm_storeu_si128(p + 1, halfBits(value.high));
}
/// `value` rounded to bf16 or f16, as f32.
PEFT_INLINE Lanes roundAs(F16, Lanes value) {
  return {_mm256_cvtph_ps(halfBits(value.low)),
          _mm256_cvtph_ps(halfBits(value.high))};
}
PEFT_INLINE Lanes roundAs(BF16, Lanes value) {
  return {_mm256_castsi256_ps(roundHalf(value.low)),
          _mm256_castsi256_ps(roundHalf(value.high))};
}

/// The low and the high bytes of sixteen words.
struct BytePlanes {
  __m128i low, high;
};
PEFT_INLINE BytePlanes splitWords(__m128i a, __m128i b) {
  __m128i byte = _mm_set1_epi16(0xff);
  return {_mm_packus_epi16(_mm_and_si128(a, byte), _mm_and_si128(b, byte)),
          _mm_packus_epi16(_mm_srli_epi16(a, 8), _mm_srli_epi16(b, 8))};
}
/// The low and the high words of sixteen numbers of 32 bits.
PEFT_INLINE BytePlanes lowWords(const __m128i *from) {
  __m128i word = _mm_set1_epi32(0xffff);
  return splitWords(_mm_packus_epi32(_mm_and_si128(from[0], word),
                                     _mm_and_si128(from[1], word)),
                    _mm_packus_epi32(_mm_and_si128(from[2], word),
                                     _mm_and_si128(from[3], word)));
}
PEFT_INLINE BytePlanes highWords(const __m128i *from) {
  return splitWords(_mm_packus_epi32(_mm_srli_epi32(from[0], 16),
                                     _mm_srli_epi32(from[1], 16)),
                    _mm_packus_epi32(_mm_srli_epi32(from[2], 16),
                                     _mm_srli_epi32(from[3], 16)));
}

/// Sixteen numbers to look up. An instruction looks up sixteen bytes, so byte i
/// of all numbers stands in one register.
template <typename T> struct Table {
  BytePlanes planes[sizeof(T) / 2];
};
template <typename T> PEFT_INLINE Table<T> makeTable(Lanes numbers) {
  alignas(16) T values[laneCount];
  store(values, numbers);
  const auto *from = reinterpret_cast<const __m128i *>(values);
  if constexpr (sizeof(T) == 2)
    return {{splitWords(from[0], from[1])}};
  else
    return {{lowWords(from), highWords(from)}};
}
PEFT_INLINE BytePlanes lookup(BytePlanes planes, __m128i indices) {
  return {_mm_shuffle_epi8(planes.low, indices),
          _mm_shuffle_epi8(planes.high, indices)};
}
/// The numbers of sixteen codes of 4 bits, the first in the high half of the
/// first byte.
template <typename T>
PEFT_INLINE void lookup(const Table<T> &table, const std::byte *codes, T *to) {
  __m128i pairs = _mm_loadl_epi64(reinterpret_cast<const __m128i *>(codes));
  __m128i half = _mm_set1_epi8(15);
  __m128i indices = _mm_unpacklo_epi8(
      _mm_and_si128(_mm_srli_epi16(pairs, 4), half), _mm_and_si128(pairs, half));
  auto *p = reinterpret_cast<__m128i *>(to);
  BytePlanes low = lookup(table.planes[0], indices);
  __m128i words[2] = {_mm_unpacklo_epi8(low.low, low.high),
                      _mm_unpackhi_epi8(low.low, low.high)};
  if constexpr (sizeof(T) == 2) {
    _mm_storeu_si128(p, words[0]);
    _mm_storeu_si128(p + 1, words[1]);
  } else {
    BytePlanes high = lookup(table.planes[1], indices);
    __m128i upper[2] = {_mm_unpacklo_epi8(high.low, high.high),
                        _mm_unpackhi_epi8(high.low, high.high)};
    for (int i = 0; i < 2; ++i)
      _mm256_storeu_si256(
          reinterpret_cast<__m256i *>(p + 2 * i),
          _mm256_set_m128i(_mm_unpackhi_epi16(words[i], upper[i]),
                           _mm_unpacklo_epi16(words[i], upper[i])));
  }
}
/// Sixteen signed bytes.
PEFT_INLINE Ints loadBytes(const std::byte *from) {
  __m128i bytes = _mm_loadu_si128(reinterpret_cast<const __m128i *>(from));
  return {_mm256_cvtepi8_epi32(bytes),
          _mm256_cvtepi8_epi32(_mm_unpackhi_epi64(bytes, bytes))};
}

PEFT_INLINE float sum(Lanes a) {
  __m256 e = _mm256_add_ps(a.low, a.high);
  __m128 q = _mm_add_ps(_mm256_castps256_ps128(e), _mm256_extractf128_ps(e, 1));
  q = _mm_add_ps(q, _mm_movehl_ps(q, q));
  return _mm_cvtss_f32(_mm_add_ss(q, _mm_movehdup_ps(q)));
}
PEFT_INLINE float largest(Lanes a) {
  __m256 e = _mm256_max_ps(a.low, a.high);
  __m128 q = _mm_max_ps(_mm256_castps256_ps128(e), _mm256_extractf128_ps(e, 1));
  q = _mm_max_ps(q, _mm_movehl_ps(q, q));
  return _mm_cvtss_f32(_mm_max_ss(q, _mm_movehdup_ps(q)));
}

} // namespace peft::cpu::PEFT_PATH

#endif // PEFT_CPU_LANESAVX2_H
