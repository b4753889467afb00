//===- Transpose.h - sixteen by sixteen words -------------------*- C++ -*-===//
#ifndef PEFT_CPU_SIMD_TRANSPOSE_H
#define PEFT_CPU_SIMD_TRANSPOSE_H

#include "../Lanes.h"

#include <utility>

namespace peft::cpu::PEFT_PATH {

#if defined(__AVX512F__)

/// Row i, lane j becomes row j, lane i.
PEFT_INLINE void transpose(Ints (&r)[16]) {
  __m512i t[16];
  for (unsigned i = 0; i < 16; i += 2) {
    t[i] = _mm512_unpacklo_epi32(r[i].v, r[i + 1].v);
    t[i + 1] = _mm512_unpackhi_epi32(r[i].v, r[i + 1].v);
  }
  // Now 4 x 4 words of four rows each are together in 128-bit quarters.
  for (unsigned i = 0; i < 16; i += 4) {
    r[i].v = _mm512_unpacklo_epi64(t[i], t[i + 2]);
    r[i + 1].v = _mm512_unpackhi_epi64(t[i], t[i + 2]);
    r[i + 2].v = _mm512_unpacklo_epi64(t[i + 1], t[i + 3]);
    r[i + 3].v = _mm512_unpackhi_epi64(t[i + 1], t[i + 3]);
  }
  // What is left is a 4 x 4 transpose of the quarters.
  for (unsigned i = 0; i < 4; ++i) {
    __m512i a = _mm512_shuffle_i32x4(r[i].v, r[i + 4].v, 0x88);
    __m512i b = _mm512_shuffle_i32x4(r[i].v, r[i + 4].v, 0xdd);
    __m512i c = _mm512_shuffle_i32x4(r[i + 8].v, r[i + 12].v, 0x88);
    __m512i d = _mm512_shuffle_i32x4(r[i + 8].v, r[i + 12].v, 0xdd);
    t[i] = _mm512_shuffle_i32x4(a, c, 0x88);
    t[i + 4] = _mm512_shuffle_i32x4(b, d, 0x88);
    t[i + 8] = _mm512_shuffle_i32x4(a, c, 0xdd);
    t[i + 12] = _mm512_shuffle_i32x4(b, d, 0xdd);
  }
  for (unsigned i = 0; i < 16; ++i)
    r[i].v = t[i];
}

#else

PEFT_INLINE void transposeEight(__m256i (&r)[8]) {
  __m256i t[8];
  for (unsigned i = 0; i < 8; i += 2) {
    t[i] = _mm256_unpacklo_epi32(r[i], r[i + 1]);
    t[i + 1] = _mm256_unpackhi_epi32(r[i], r[i + 1]);
  }
  for (unsigned i = 0; i < 8; i += 4) {
    r[i] = _mm256_unpacklo_epi64(t[i], t[i + 2]);
    r[i + 1] = _mm256_unpackhi_epi64(t[i], t[i + 2]);
    r[i + 2] = _mm256_unpacklo_epi64(t[i + 1], t[i + 3]);
    r[i + 3] = _mm256_unpackhi_epi64(t[i + 1], t[i + 3]);
  }
  for (unsigned i = 0; i < 4; ++i) {
    t[i] = _mm256_permute2x128_si256(r[i], r[i + 4], 0x20);
    t[i + 4] = _mm256_permute2x128_si256(r[i], r[i + 4], 0x31);
  }
  for (unsigned i = 0; i < 8; ++i)
    r[i] = t[i];
}

/// Row i, lane j becomes row j, lane i.
PEFT_INLINE void transpose(Ints (&r)[16]) {
  __m256i quarters[4][8];
  for (unsigned i = 0; i < 8; ++i) {
    quarters[0][i] = r[i].low;
    quarters[1][i] = r[i].high;
    quarters[2][i] = r[i + 8].low;
    quarters[3][i] = r[i + 8].high;
  }
  for (auto &quarter : quarters)
    transposeEight(quarter);
  for (unsigned i = 0; i < 8; ++i) {
    r[i] = {quarters[0][i], quarters[2][i]};
    r[i + 8] = {quarters[1][i], quarters[3][i]};
  }
}

#endif

} // namespace peft::cpu::PEFT_PATH

#endif // PEFT_CPU_SIMD_TRANSPOSE_H
