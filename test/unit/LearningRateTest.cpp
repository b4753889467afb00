//===- LearningRateTest.cpp - against transformers' schedules -------------===//
#include "train/LearningRate.h"

#include <gtest/gtest.h>

using namespace peft;

// Numbers printed by transformers 5.23 get_*_schedule_with_warmup through
// LambdaLR, 3 warm-up steps of 10.
TEST(LearningRate, linearWithWarmup) {
  const double expected[] = {0,
                             0.3333333333333333,
                             0.6666666666666666,
                             1,
                             0.8571428571428571,
                             0.7142857142857143,
                             0.5714285714285714,
                             0.42857142857142855,
                             0.2857142857142857,
                             0.14285714285714285};
  for (uint64_t step = 0; step < 10; ++step)
    EXPECT_DOUBLE_EQ(rateFactor(Schedule::linear, step, 3, 10), expected[step]);
  EXPECT_EQ(rateFactor(Schedule::linear, 10, 3, 10), 0);
  EXPECT_EQ(rateFactor(Schedule::linear, 11, 3, 10), 0) << "never negative";
}

TEST(LearningRate, cosineWithWarmup) {
  const double expected[] = {0,
                             0.3333333333333333,
                             0.6666666666666666,
                             1,
                             0.9504844339512095,
                             0.8117449009293668,
                             0.6112604669781572,
                             0.38873953302184283,
                             0.18825509907063326,
                             0.04951556604879048};
  for (uint64_t step = 0; step < 10; ++step)
    EXPECT_NEAR(rateFactor(Schedule::cosine, step, 3, 10), expected[step],
                1e-15);
}

TEST(LearningRate, constantWithWarmup) {
  EXPECT_EQ(rateFactor(Schedule::constant, 0, 2, 10), 0);
  EXPECT_EQ(rateFactor(Schedule::constant, 1, 2, 10), 0.5);
  EXPECT_EQ(rateFactor(Schedule::constant, 2, 2, 10), 1);
  EXPECT_EQ(rateFactor(Schedule::constant, 900, 2, 10), 1);
}

TEST(LearningRate, withoutWarmupTheFirstStepHasTheFullRate) {
  for (Schedule schedule :
       {Schedule::constant, Schedule::linear, Schedule::cosine})
    EXPECT_EQ(rateFactor(schedule, 0, 0, 40), 1);
}

TEST(LearningRate, warmupMayBeLongerThanTheRun) {
  EXPECT_EQ(rateFactor(Schedule::linear, 4, 100, 5), 0.04);
  EXPECT_EQ(rateFactor(Schedule::cosine, 5, 5, 5), 1)
      << "no division by a length of zero";
}
