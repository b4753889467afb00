//===- PhiloxTest.cpp - random numbers against known answers --------------===//
#include "peft/Philox.h"

#include <gtest/gtest.h>

#include <bit>

namespace peft::cpu {
namespace {

using Words = std::array<uint32_t, 4>;

// The published known answers of Philox4x32-10.
TEST(Philox, KnownAnswers) {
  EXPECT_EQ(philox({0, 0, 0, 0}, {0, 0}),
            (Words{0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}));
  const uint32_t ones = 0xffffffff;
  EXPECT_EQ(philox({ones, ones, ones, ones}, {ones, ones}),
            (Words{0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}));
  EXPECT_EQ(philox({0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344},
                   {0xa4093822, 0x299f31d0}),
            (Words{0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1}));
}

TEST(Philox, KeepBitsAreTheWordsAboveTheThreshold) {
  const PhiloxKey key = dropoutKey(0x1234567890abcdef, 42, 7);
  const uint32_t threshold = dropoutThreshold(0.1);
  int kept = 0;
  for (uint32_t block = 0; block < 200; ++block) {
    const uint64_t keep = dropoutKeep(key, block, 3, 9, threshold);
    kept += std::popcount(keep);
    for (uint32_t i = 0; i < 64; ++i) {
      const uint32_t j = block * 64 + i;
      const Words words = philox({j / 4, 3, 9, 0}, key);
      ASSERT_EQ(keep >> i & 1, words[j % 4] >= threshold ? 1u : 0u) << j;
    }
  }
  EXPECT_NEAR(kept / 12800.0, 0.9, 0.01);
  EXPECT_EQ(dropoutKeep(key, 0, 3, 9, dropoutThreshold(0)), ~uint64_t(0));
}

TEST(Philox, EveryPartOfAKeyCounts) {
  auto bits = [](uint64_t module, int64_t seed, int32_t step, uint32_t token,
                 uint32_t row) {
    return dropoutKeep(dropoutKey(module, seed, step), 0, token, row,
                       dropoutThreshold(0.5));
  };
  const uint64_t base = bits(1, 2, 3, 4, 5);
  EXPECT_EQ(base, bits(1, 2, 3, 4, 5));
  EXPECT_NE(base, bits(2, 2, 3, 4, 5));
  EXPECT_NE(base, bits(1, 3, 3, 4, 5));
  EXPECT_NE(base, bits(1, 2, 4, 4, 5));
  EXPECT_NE(base, bits(1, 2, 3, 5, 5));
  EXPECT_NE(base, bits(1, 2, 3, 4, 6));
}

} // namespace
} // namespace peft::cpu
