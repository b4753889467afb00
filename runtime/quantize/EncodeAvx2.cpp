//===- EncodeAvx2.cpp - sixteen weights at a time -------------------------===//
//
// Sixteen weights travel as two vectors `low` and `high`, in the order in which
// unpacking bf16 within 128-bit lanes leaves them: 0-3, 8-11 and 4-7, 12-15.
// Packing both to 16 bits within lanes restores the order.
//
//===----------------------------------------------------------------------===//
#include "Encode.h"

#include <cstring>
#include <immintrin.h>

using namespace peft;

namespace {

struct Sixteen {
  __m256 low, high;
};

/// The types a weight may have: how sixteen are loaded, and how many bits of a
/// magnitude decide which is larger (as whole numbers they compare alike).
struct Bfloats {
  static constexpr unsigned bytes = 2;
  static Sixteen load(const std::byte *from) {
    const __m256i raw =
        _mm256_loadu_si256(reinterpret_cast<const __m256i *>(from));
    const __m256i zero = _mm256_setzero_si256();
    return {_mm256_castsi256_ps(_mm256_unpacklo_epi16(zero, raw)),
            _mm256_castsi256_ps(_mm256_unpackhi_epi16(zero, raw))};
  }
};
struct Halves {
  static constexpr unsigned bytes = 2;
  static Sixteen load(const std::byte *from) {
    __m256i raw = _mm256_loadu_si256(reinterpret_cast<const __m256i *>(from));
    raw = _mm256_permute4x64_epi64(raw, 0xd8); // quarters 0, 2, 1, 3
    return {_mm256_cvtph_ps(_mm256_castsi256_si128(raw)),
            _mm256_cvtph_ps(_mm256_extracti128_si256(raw, 1))};
  }
};
struct Floats {
  static constexpr unsigned bytes = 4;
  static Sixteen load(const std::byte *from) {
    const auto *data = reinterpret_cast<const float *>(from);
    return {_mm256_loadu2_m128(data + 8, data),
            _mm256_loadu2_m128(data + 12, data + 4)};
  }
};

/// Magnitudes as whole numbers: NaN and infinity are the largest, whatever was
/// compared before. Two sixteenths give the same maximum in any order.
template <typename T>
__m256i largerMagnitude(__m256i most, const std::byte *from) {
  const __m256i magnitude = _mm256_set1_epi32(0x7fffffff);
  const Sixteen x = T::load(from);
  most = _mm256_max_epu32(most,
                          _mm256_and_si256(_mm256_castps_si256(x.low), magnitude));
  return _mm256_max_epu32(
      most, _mm256_and_si256(_mm256_castps_si256(x.high), magnitude));
}
template <>
__m256i largerMagnitude<Bfloats>(__m256i most, const std::byte *from) {
  const __m256i raw =
      _mm256_loadu_si256(reinterpret_cast<const __m256i *>(from));
  return _mm256_max_epu16(most,
                          _mm256_and_si256(raw, _mm256_set1_epi16(0x7fff)));
}

/// The f32 bits of the largest of the magnitudes gathered in `most`.
template <typename T> uint32_t horizontal(__m256i most) {
  __m128i x = _mm_max_epu32(_mm256_castsi256_si128(most),
                            _mm256_extracti128_si256(most, 1));
  x = _mm_max_epu32(x, _mm_shuffle_epi32(x, 0x4e));
  x = _mm_max_epu32(x, _mm_shuffle_epi32(x, 0xb1));
  return static_cast<uint32_t>(_mm_cvtsi128_si32(x));
}
template <> uint32_t horizontal<Bfloats>(__m256i most) {
  // The instruction finds the smallest of eight: so of the complements.
  const __m128i x = _mm_max_epu16(_mm256_castsi256_si128(most),
                                  _mm256_extracti128_si256(most, 1));
  const __m128i least =
      _mm_minpos_epu16(_mm_xor_si128(x, _mm_set1_epi16(-1)));
  return (static_cast<uint32_t>(~_mm_cvtsi128_si32(least)) & 0xffff) << 16;
}

/// The largest magnitude of `count` weights; false when one is not finite.
template <typename T>
bool findAbsmax(const std::byte *from, uint64_t count, float &absmax) {
  __m256i most = _mm256_setzero_si256();
  uint64_t i = 0;
  for (; i + 16 <= count; i += 16)
    most = largerMagnitude<T>(most, from + T::bytes * i);
  if (i < count) {
    std::byte rest[16 * T::bytes] = {};
    std::memcpy(rest, from + T::bytes * i, T::bytes * (count - i));
    most = largerMagnitude<T>(most, rest);
  }
  const uint32_t bits = horizontal<T>(most);
  std::memcpy(&absmax, &bits, 4);
  return bits < 0x7f800000;
}

/// The thresholds as a search tree. A comparison gives 0 or -1, so the path to
/// a node is a number from 0 down to -7, whose low three bits choose the next
/// threshold in a table of eight.
struct Tree {
  __m256 root, left, right, third, fourth;
  __m256i order;

  explicit Tree(const Codebook &book) {
    const auto &t = book.thresholds;
    root = _mm256_set1_ps(t[7]);
    left = _mm256_set1_ps(t[3]);
    right = _mm256_set1_ps(t[11]);
    alignas(32) float table[8];
    for (unsigned i = 0; i < 8; ++i)
      table[i] = t[1 + 4 * ((8 - i) % 4)];
    third = _mm256_load_ps(table);
    for (unsigned i = 0; i < 8; ++i)
      table[i] = t[2 * ((8 - i) % 8)];
    fourth = _mm256_load_ps(table);
    order = _mm256_broadcastsi128_si256(
        _mm_loadu_si128(reinterpret_cast<const __m128i *>(book.order.data())));
  }

  /// Minus the rank, in each of eight.
  __m256i rank(__m256 x) const {
    const auto above = [&](__m256 threshold) {
      return _mm256_castps_si256(_mm256_cmp_ps(x, threshold, _CMP_GT_OQ));
    };
    __m256i path = above(root);
    const __m256 second =
        _mm256_blendv_ps(left, right, _mm256_castsi256_ps(path));
    path = _mm256_add_epi32(_mm256_add_epi32(path, path), above(second));
    path = _mm256_add_epi32(_mm256_add_epi32(path, path),
                            above(_mm256_permutevar8x32_ps(third, path)));
    return _mm256_add_epi32(_mm256_add_epi32(path, path),
                            above(_mm256_permutevar8x32_ps(fourth, path)));
  }
};

/// Bytes of codes, as eight numbers of 32 bits, from sixteen weights.
template <typename T, bool sorted>
__m256i encodeSixteen(const Tree &tree, const std::byte *from, __m256 inverse) {
  const Sixteen x = T::load(from);
  const __m256i ranks =
      _mm256_packs_epi32(tree.rank(_mm256_mul_ps(x.low, inverse)),
                         tree.rank(_mm256_mul_ps(x.high, inverse)));
  if constexpr (sorted) // of nf4 the rank is the code
    return _mm256_madd_epi16(ranks, _mm256_set1_epi32(0xfff0 | -1 << 16));
  // A byte with its highest bit set looks up zero.
  const __m256i indices =
      _mm256_or_si256(_mm256_sub_epi16(_mm256_setzero_si256(), ranks),
                      _mm256_set1_epi16(static_cast<short>(0x8000)));
  const __m256i codes = _mm256_shuffle_epi8(tree.order, indices);
  return _mm256_madd_epi16(codes, _mm256_set1_epi32(16 | 1 << 16));
}

/// Eight bytes of codes.
void storeEight(__m256i pairs, std::byte *to) {
  const __m128i words = _mm_packus_epi32(_mm256_castsi256_si128(pairs),
                                         _mm256_extracti128_si256(pairs, 1));
  _mm_storel_epi64(reinterpret_cast<__m128i *>(to),
                   _mm_packus_epi16(words, words));
}

template <typename T, bool sorted>
bool encodeBlocks(const std::byte *weights, uint64_t blocks, uint32_t block,
                  const Codebook &book, std::byte *codes, float *absmax) {
  const Tree tree(book);
  for (uint64_t b = 0; b < blocks; ++b) {
    if (!findAbsmax<T>(weights, block, absmax[b]))
      return false;
    const float bounded =
        absmax[b] < smallestAbsmax ? smallestAbsmax : absmax[b];
    const __m256 inverse = _mm256_set1_ps(1.0f / bounded);
    for (uint32_t i = 0; i < block; i += 16)
      storeEight(encodeSixteen<T, sorted>(tree, weights + T::bytes * i, inverse),
                 codes + i / 2);
    weights += T::bytes * uint64_t(block);
    codes += block / 2;
  }
  return true;
}

template <typename T>
__m128i roundSixteen(const std::byte *from, __m256 scale) {
  const Sixteen x = T::load(from);
  const __m256i words =
      _mm256_packs_epi32(_mm256_cvtps_epi32(_mm256_mul_ps(x.low, scale)),
                         _mm256_cvtps_epi32(_mm256_mul_ps(x.high, scale)));
  return _mm_packs_epi16(_mm256_castsi256_si128(words),
                         _mm256_extracti128_si256(words, 1));
}

template <typename T>
bool encodeRows(const std::byte *weights, uint64_t rows, uint64_t columns,
                std::byte *codes, float *absmax) {
  for (uint64_t row = 0; row < rows; ++row) {
    if (!findAbsmax<T>(weights, columns, absmax[row]))
      return false;
    const __m256 scale = _mm256_set1_ps(rowScale(absmax[row]));
    uint64_t i = 0;
    for (; i + 16 <= columns; i += 16)
      _mm_storeu_si128(reinterpret_cast<__m128i *>(codes + i),
                       roundSixteen<T>(weights + T::bytes * i, scale));
    if (i < columns) {
      std::byte rest[16 * T::bytes] = {}, last[16];
      std::memcpy(rest, weights + T::bytes * i, T::bytes * (columns - i));
      _mm_storeu_si128(reinterpret_cast<__m128i *>(last),
                       roundSixteen<T>(rest, scale));
      std::memcpy(codes + i, last, columns - i);
    }
    weights += T::bytes * columns;
    codes += columns;
  }
  return true;
}

template <typename T>
bool encodeBlocksOf(const std::byte *weights, uint64_t blocks, uint32_t block,
                    const Codebook &book, std::byte *codes, float *absmax) {
  return &book == &nf4Codebook ? encodeBlocks<T, true>(weights, blocks, block,
                                                       book, codes, absmax)
                               : encodeBlocks<T, false>(weights, blocks, block,
                                                        book, codes, absmax);
}

} // namespace

bool peft::encodeBlocksAvx2(const std::byte *weights, DType type,
                            uint64_t blocks, uint32_t block,
                            const Codebook &book, std::byte *codes,
                            float *absmax) {
  if (type == DType::f32)
    return encodeBlocksOf<Floats>(weights, blocks, block, book, codes, absmax);
  if (type == DType::f16)
    return encodeBlocksOf<Halves>(weights, blocks, block, book, codes, absmax);
  return encodeBlocksOf<Bfloats>(weights, blocks, block, book, codes, absmax);
}

bool peft::encodeRowsAvx2(const std::byte *weights, DType type, uint64_t rows,
                          uint64_t columns, std::byte *codes, float *absmax) {
  if (type == DType::f32)
    return encodeRows<Floats>(weights, rows, columns, codes, absmax);
  if (type == DType::f16)
    return encodeRows<Halves>(weights, rows, columns, codes, absmax);
  return encodeRows<Bfloats>(weights, rows, columns, codes, absmax);
}

bool peft::hasAvx2() {
  return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("f16c");
}
