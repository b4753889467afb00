//===- MathTest.cpp - exp, log, tanh, sin and cos of the kernels ----------------===//
#include "cpu/Math.h"

#include <gtest/gtest.h>

#include <functional>

namespace peft::cpu::PEFT_PATH {
namespace {

/// The largest error over [from, to] in units of the last place.
double worstError(float from, float to, const std::function<Lanes(Lanes)> &f,
                  const std::function<double(double)> &reference) {
  constexpr int count = 40000;
  double worst = 0;
  for (int i = 0; i < count; ++i) {
    const float x = from + (to - from) * static_cast<float>(i) / count;
    F32 out[laneCount];
    store(out, f(broadcast(x)));
    const double expected = reference(x);
    const float nearest = std::fabs(static_cast<float>(expected));
    const double unit = std::nextafter(nearest, INFINITY) - nearest;
    worst = std::max(worst, std::fabs(loadOne(out) - expected) / unit);
  }
  return worst;
}

float one(Lanes value) {
  F32 out[laneCount];
  store(out, value);
  return loadOne(out);
}

TEST(Math, ExpIsWithinTwoUnits) {
  auto f = [](Lanes x) { return exp(x); };
  auto reference = [](double x) { return std::exp(x); };
  EXPECT_LE(worstError(-87, 88, f, reference), 2);
  EXPECT_LE(worstError(-1, 1, f, reference), 2);
  EXPECT_EQ(one(exp(broadcast(0))), 1);
  EXPECT_EQ(one(exp(broadcast(89))), INFINITY);
  EXPECT_EQ(one(exp(broadcast(INFINITY))), INFINITY);
  EXPECT_EQ(one(exp(broadcast(-INFINITY))), 0);
  EXPECT_TRUE(std::isnan(one(exp(broadcast(NAN)))));
}

TEST(Math, Exp2IsWithinTwoUnits) {
  auto f = [](Lanes x) { return exp2(x); };
  auto reference = [](double x) { return std::exp2(x); };
  EXPECT_LE(worstError(-126, 1, f, reference), 2);
  EXPECT_EQ(one(exp2(broadcast(0))), 1);
  EXPECT_EQ(one(exp2(broadcast(-INFINITY))), 0);
  EXPECT_EQ(one(exp2(broadcast(-127))), 0);
  EXPECT_TRUE(std::isnan(one(exp2(broadcast(NAN)))));
}

TEST(Math, LogIsWithinTwoUnits) {
  auto f = [](Lanes x) { return log(x); };
  auto reference = [](double x) { return std::log(x); };
  EXPECT_LE(worstError(1e-30f, 2, f, reference), 2);
  EXPECT_LE(worstError(0.9f, 1.1f, f, reference), 2);
  EXPECT_LE(worstError(1, 1e6f, f, reference), 2);
  EXPECT_EQ(one(log(broadcast(0))), -INFINITY);
  EXPECT_EQ(one(log(broadcast(1))), 0);
  EXPECT_EQ(one(log(broadcast(INFINITY))), INFINITY);
  EXPECT_TRUE(std::isnan(one(log(broadcast(NAN)))));
}

TEST(Math, TanhIsWithinTwoUnits) {
  auto f = [](Lanes x) { return tanh(x); };
  auto reference = [](double x) { return std::tanh(x); };
  EXPECT_LE(worstError(-12, 12, f, reference), 2);
  EXPECT_LE(worstError(-1, 1, f, reference), 2);
  EXPECT_LE(worstError(1e-6f, 1e-3f, f, reference), 1);
  EXPECT_EQ(one(tanh(broadcast(0))), 0);
  EXPECT_EQ(one(tanh(broadcast(INFINITY))), 1);
  EXPECT_EQ(one(tanh(broadcast(-INFINITY))), -1);
  EXPECT_TRUE(std::isnan(one(tanh(broadcast(NAN)))));
}

TEST(Math, SineAndCosineOfLargeAngles) {
  for (double range : {4.0, 1e4, 1e7, 2e9})
    for (int i = -2000; i < 2000; ++i) {
      const double angle = range * i / 1999.5;
      const SineCosine at = sineCosine(angle);
      ASSERT_NEAR(at.sine, std::sin(angle), 1e-15) << angle;
      ASSERT_NEAR(at.cosine, std::cos(angle), 1e-15) << angle;
    }
}

TEST(Lanes, SumIsTheTree) {
  F32 values[laneCount];
  for (unsigned i = 0; i < laneCount; ++i)
    storeOne(values + i, i == 0 ? 1e8f : i == 8 ? -1e8f : 1.0f);
  // Lane 0 meets lane 8 first, so the large numbers cancel exactly.
  EXPECT_EQ(sum(load(values)), 14);
}

} // namespace
} // namespace peft::cpu::PEFT_PATH
