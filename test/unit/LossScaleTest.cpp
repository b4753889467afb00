//===- LossScaleTest.cpp - the first loss scale of a run in f16 -----------===//
#include "train/LossScale.h"

#include <gtest/gtest.h>

using namespace peft;

TEST(LossScale, isTheNearestPowerOfTwoButAtLeastOne) {
  EXPECT_EQ(firstLossScale(1), 65536);
  EXPECT_EQ(firstLossScale(2), 32768);
  EXPECT_EQ(firstLossScale(3), 16384) << "21845.3 is nearer to 16384";
  EXPECT_EQ(firstLossScale(5), 16384) << "13107.2 is nearer to 16384";
  EXPECT_EQ(firstLossScale(6), 8192) << "10922.7 is nearer to 8192";
  EXPECT_EQ(firstLossScale(2048), 32);
  EXPECT_EQ(firstLossScale(43690), 2);
  EXPECT_EQ(firstLossScale(43691), 1);
  EXPECT_EQ(firstLossScale(65536), 1);
  EXPECT_EQ(firstLossScale(uint64_t(1) << 40), 1);
}
