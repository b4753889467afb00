//===- Mask.h - dropout, 64 features at a time ------------------*- C++ -*-===//
#ifndef PEFT_CPU_SIMD_MASK_H
#define PEFT_CPU_SIMD_MASK_H

#include "../Dropout.h"
#include "../Lanes.h"

namespace peft::cpu::PEFT_PATH {

/// Sixteen 32-bit words, two to a 64-bit lane, which is how they multiply.
typedef uint64_t Words __attribute__((vector_size(64)));

PEFT_INLINE Words broadcastWord(uint32_t word) {
  return Words{} + (uint64_t{word} << 32 | word);
}

/// The low halves of the products of all words with `by`; the high ones in
/// `high`.
PEFT_INLINE Words multiplyWords(Words words, uint32_t by, Words &high) {
  constexpr uint64_t low = 0xffffffff;
  Words even = (words & low) * uint64_t{by};
  Words odd = (words >> 32) * uint64_t{by};
  high = even >> 32 | (odd & ~low);
  return (even & low) | odd << 32;
}

/// Bit i: word i is at least `least`.
PEFT_INLINE uint64_t bitsNotBelow(Words words, uint32_t least) {
#if defined(__AVX512F__)
  return _mm512_cmpge_epu32_mask((__m512i)words, (__m512i)broadcastWord(least));
#else
  __m256i halves[2], limit = _mm256_set1_epi32(static_cast<int>(least));
  std::memcpy(halves, &words, sizeof halves);
  uint64_t bits = 0;
  for (unsigned i = 0; i < 2; ++i) {
    __m256i kept =
        _mm256_cmpeq_epi32(_mm256_max_epu32(halves[i], limit), halves[i]);
    auto mask =
        static_cast<unsigned>(_mm256_movemask_ps(_mm256_castsi256_ps(kept)));
    bits |= static_cast<uint64_t>(mask) << 8 * i;
  }
  return bits;
#endif
}

/// Bit i of the low sixteen to bit 4 i.
PEFT_INLINE uint64_t spreadBits(uint64_t bits) {
  bits = (bits | bits << 24) & 0x000000ff000000ff;
  bits = (bits | bits << 12) & 0x000f000f000f000f;
  bits = (bits | bits << 6) & 0x0303030303030303;
  return (bits | bits << 3) & 0x1111111111111111;
}

/// dropoutKeep of peft/Philox.h, sixteen counters at a time: bit i is whether
/// feature 64 x block + i is kept.
PEFT_INLINE uint64_t keepBits(const Dropout &dropout, uint32_t block,
                              std::array<uint32_t, 2> position) {
  Words first = Words{0x100000000, 0x300000002, 0x500000004, 0x700000006,
                      0x900000008, 0xb0000000a, 0xd0000000c, 0xf0000000e} +
                broadcastWord(16 * block);
  Words word[4] = {first, broadcastWord(position[0]),
                   broadcastWord(position[1]), Words{}};
  PhiloxKey key = dropout.key;
  for (unsigned round = 0; round < 10; ++round) {
    Words high0, high2;
    Words low0 = multiplyWords(word[0], 0xD2511F53u, high0);
    Words low2 = multiplyWords(word[2], 0xCD9E8D57u, high2);
    word[0] = high2 ^ word[1] ^ broadcastWord(key.low);
    word[1] = low2;
    word[2] = high0 ^ word[3] ^ broadcastWord(key.high);
    word[3] = low0;
    key.low += 0x9E3779B9u;
    key.high += 0xBB67AE85u;
  }
  uint64_t bits = 0;
  for (unsigned i = 0; i < 4; ++i)
    bits |= spreadBits(bitsNotBelow(word[i], dropout.threshold)) << i;
  return bits;
}

/// Drops or scales `count` elements of row `row` from feature `feature` on (a
/// multiple of 64) and rounds them to their type.
template <typename From, typename To>
void dropRow(const Dropout &dropout, uint64_t row, uint64_t feature,
             const From *from, uint64_t count, To *to) {
  auto position = dropout.position(row);
  auto block = static_cast<uint32_t>(feature / 64);
  Lanes scale = broadcast(dropout.scale);
  for (uint64_t i = 0; i < count; i += 64, ++block) {
    uint64_t bits = keepBits(dropout, block, position);
    for (uint64_t j = i; j < i + 64 && j < count; j += laneCount) {
      Mask kept = maskOfBits(static_cast<uint16_t>(bits >> (j - i)));
      uint64_t left = count - j;
      Lanes value = left < laneCount ? load(from + j, left) : load(from + j);
      value = select(kept, value * scale, broadcast(0));
      if (left < laneCount)
        store(to + j, value, left);
      else
        store(to + j, value);
    }
  }
}

} // namespace peft::cpu::PEFT_PATH

#endif // PEFT_CPU_SIMD_MASK_H
