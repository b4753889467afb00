//===- Philox.h - counter-based random numbers ------------------*- C++ -*-===//
//
// Philox4x32-10 (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3").
// A number is a pure function of its key and counter, so dropout masks do not
// depend on threads, on how a batch is split, or on the order of computation.
//
//   dropout: key = dropoutKey(module_key, seed, step),
//            counter = (j / 4, token, global row, 0), word j % 4 of feature j
//   initial values: key = initializationKey(stream, seed),
//            counter = (i / 4, 0, 0, 1), word i % 4 of element i
//
// Always inlined: the header is compiled for several instruction sets, and the
// linker must not give the code of one to another.
//
//===----------------------------------------------------------------------===//
#ifndef PEFT_PHILOX_H
#define PEFT_PHILOX_H

#include <array>
#include <cstdint>

namespace peft {

struct PhiloxKey {
  uint32_t low = 0, high = 0;
};

/// Lane-wise rounds over `lanes` counters that differ in word 0.
template <unsigned lanes> struct PhiloxBlock {
  uint32_t word[4][lanes];

  [[gnu::always_inline]] inline void round(PhiloxKey key) {
    for (unsigned i = 0; i < lanes; ++i) {
      uint64_t a = uint64_t(0xD2511F53u) * word[0][i];
      uint64_t b = uint64_t(0xCD9E8D57u) * word[2][i];
      uint32_t c1 = word[1][i], c3 = word[3][i];
      word[0][i] = uint32_t(b >> 32) ^ c1 ^ key.low;
      word[1][i] = uint32_t(b);
      word[2][i] = uint32_t(a >> 32) ^ c3 ^ key.high;
      word[3][i] = uint32_t(a);
    }
  }
  [[gnu::always_inline]] inline void encrypt(PhiloxKey key) {
    for (unsigned i = 0; i < 10; ++i) {
      round(key);
      key.low += 0x9E3779B9u;
      key.high += 0xBB67AE85u;
    }
  }
};

/// The four words of one counter.
[[gnu::always_inline]] inline std::array<uint32_t, 4>
philox(const std::array<uint32_t, 4> &counter, PhiloxKey key) {
  PhiloxBlock<1> block;
  for (unsigned i = 0; i < 4; ++i)
    block.word[i][0] = counter[i];
  block.encrypt(key);
  return {block.word[0][0], block.word[1][0], block.word[2][0],
          block.word[3][0]};
}

/// The splitmix64 finalizer.
[[gnu::always_inline]] constexpr uint64_t splitmix64(uint64_t x) {
  x = (x ^ x >> 30) * 0xBF58476D1CE4E5B9u;
  x = (x ^ x >> 27) * 0x94D049BB133111EBu;
  return x ^ x >> 31;
}

[[gnu::always_inline]] constexpr PhiloxKey keyOf(uint64_t bits) {
  return {uint32_t(bits), uint32_t(bits >> 32)};
}
[[gnu::always_inline]] constexpr PhiloxKey
dropoutKey(uint64_t moduleKey, int64_t seed, int32_t step) {
  uint64_t ofStep =
      uint64_t(seed) + 0x9E3779B97F4A7C15u * uint64_t(int64_t(step) + 1);
  return keyOf(splitmix64(splitmix64(ofStep) ^ moduleKey));
}
[[gnu::always_inline]] constexpr PhiloxKey initializationKey(uint64_t stream,
                                                             uint64_t seed) {
  return keyOf(splitmix64(seed ^ splitmix64(stream)));
}

/// A feature is kept iff its word is at least this.
[[gnu::always_inline]] constexpr uint32_t dropoutThreshold(double dropout) {
  return uint32_t(dropout * 4294967296.0);
}

/// Bit i: whether feature 64 x block + i of this token and row is kept.
[[gnu::always_inline]] inline uint64_t dropoutKeep(PhiloxKey key,
                                                   uint32_t block,
                                                   uint32_t token, uint32_t row,
                                                   uint32_t threshold) {
  constexpr unsigned lanes = 16;
  PhiloxBlock<lanes> random;
  for (unsigned i = 0; i < lanes; ++i) {
    random.word[0][i] = block * lanes + i;
    random.word[1][i] = token;
    random.word[2][i] = row;
    random.word[3][i] = 0;
  }
  random.encrypt(key);
  uint64_t keep = 0;
  for (unsigned w = 0; w < 4; ++w) {
    uint64_t bits = 0;
    for (unsigned i = 0; i < lanes; ++i)
      bits |= uint64_t(random.word[w][i] >= threshold) << i;
    // Counter i holds features 4i .. 4i + 3: spread bit i to bit 4i.
    bits = (bits | bits << 24) & 0x000000ff000000ffu;
    bits = (bits | bits << 12) & 0x000f000f000f000fu;
    bits = (bits | bits << 6) & 0x0303030303030303u;
    bits = (bits | bits << 3) & 0x1111111111111111u;
    keep |= bits << w;
  }
  return keep;
}

} // namespace peft

#endif // PEFT_PHILOX_H
