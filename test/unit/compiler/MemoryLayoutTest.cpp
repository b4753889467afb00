//===- MemoryLayoutTest.cpp - offsets for buffers with lifetimes ----------===//
#include "peftc/Analysis/MemoryLayout.h"

#include <chrono>
#include <gtest/gtest.h>
#include <random>

using namespace peftc;

/// Lifetimes as a training step has them: most are short, some go from the
/// forward to the backward direction.
static std::vector<LiveRange> randomBuffers(size_t count, unsigned seed) {
  std::mt19937 random(seed);
  std::vector<LiveRange> buffers;
  for (uint32_t i = 0; i < count; ++i) {
    auto items = static_cast<uint32_t>(count);
    bool saved = random() % 6 == 0 && i < items / 2;
    uint32_t last =
        saved ? items - i : std::min<uint32_t>(items, i + random() % 8);
    buffers.push_back({1 + random() % 100000, i, last});
  }
  return buffers;
}

static bool meet(const LiveRange &a, const LiveRange &b) {
  return a.first <= b.last && b.first <= a.last;
}

TEST(MemoryLayout, LiveBuffersShareNoByte) {
  for (unsigned seed = 0; seed < 20; ++seed) {
    std::vector<LiveRange> buffers = randomBuffers(300, seed);
    MemoryLayout layout = packBuffers(buffers, 64);
    uint64_t end = 0;
    for (size_t i = 0; i < buffers.size(); ++i) {
      EXPECT_EQ(layout.offsets[i] % 64, 0u);
      end = std::max(end, layout.offsets[i] + (buffers[i].size + 63) / 64 * 64);
      for (size_t j = 0; j < i; ++j) {
        bool apart = layout.offsets[i] >= layout.offsets[j] + buffers[j].size ||
                     layout.offsets[j] >= layout.offsets[i] + buffers[i].size;
        EXPECT_TRUE(apart || !meet(buffers[i], buffers[j]))
            << "buffers " << i << " and " << j << ", seed " << seed;
      }
    }
    EXPECT_EQ(layout.size, end);
    EXPECT_GE(layout.size, layout.lowerBound);
    EXPECT_LE(layout.size, layout.lowerBound * 5 / 4) << "seed " << seed;
  }
}

TEST(MemoryLayout, LowerBoundIsTheMostBytesAtOnce) {
  std::vector<LiveRange> buffers = {{100, 0, 1}, {50, 1, 2}, {120, 2, 2}};
  EXPECT_EQ(packBuffers(buffers, 1).lowerBound, 170u);
  EXPECT_EQ(packBuffers(buffers, 1).size, 170u);
  EXPECT_EQ(packBuffers({}, 64).size, 0u);
}

TEST(MemoryLayout, EqualInputGivesEqualOutput) {
  std::vector<LiveRange> buffers = randomBuffers(500, 3);
  EXPECT_EQ(packBuffers(buffers, 64).offsets, packBuffers(buffers, 64).offsets);
}

TEST(MemoryLayout, TenThousandBuffersAreFast) {
  std::vector<LiveRange> buffers = randomBuffers(10000, 1);
  auto begin = std::chrono::steady_clock::now();
  MemoryLayout layout = packBuffers(buffers, 64);
  std::chrono::duration<double> took = std::chrono::steady_clock::now() - begin;
  RecordProperty("milliseconds", static_cast<int>(took.count() * 1000));
  EXPECT_GT(layout.size, 0u);
  // Meant to be 0.1 s; a loaded machine and a debug build get more.
  EXPECT_LT(took.count(), 2.0);
}
