//===- InitialValuesTest.cpp - conversions of weights at load -------------===//
#include "core/InitialValues.h"

#include <bit>
#include <cmath>
#include <gtest/gtest.h>
#include <limits>

using namespace peft;

static uint16_t narrowed(DType type, float value) {
  uint16_t bits = 0;
  narrow(type, {&value, 1}, reinterpret_cast<std::byte *>(&bits));
  return bits;
}

static float widened(DType type, uint16_t bits) {
  float value = 0;
  widen(type, reinterpret_cast<const std::byte *>(&bits), {&value, 1});
  return value;
}

TEST(InitialValues, EveryHalfAndBrainNumberSurvivesF32) {
  for (DType type : {DType::f16, DType::bf16})
    for (uint32_t bits = 0; bits <= 0xffff; ++bits) {
      float value = widened(type, static_cast<uint16_t>(bits));
      if (std::isnan(value))
        EXPECT_TRUE(std::isnan(widened(type, narrowed(type, value))));
      else
        EXPECT_EQ(narrowed(type, value), bits) << name(type);
    }
}

TEST(InitialValues, NarrowRoundsToNearestEven) {
  for (DType type : {DType::f16, DType::bf16})
    for (uint16_t bits : {0x0001, 0x03ff, 0x1234, 0x3c00, 0x3c01, 0x7000}) {
      double low = widened(type, bits), high = widened(type, bits + 1);
      auto between = static_cast<float>((low + high) / 2);
      EXPECT_EQ(narrowed(type, between), bits + (bits & 1)) << name(type);
      EXPECT_EQ(narrowed(type, std::nextafter(between, 0.f)), bits);
      EXPECT_EQ(narrowed(type, std::nextafter(between, 1e38f)), bits + 1);
      EXPECT_EQ(narrowed(type, -between), (bits + (bits & 1)) | 0x8000);
    }
}

TEST(InitialValues, TooLargeForHalfIsInfinite) {
  EXPECT_EQ(narrowed(DType::f16, 65504), 0x7bff);
  EXPECT_EQ(narrowed(DType::f16, 65519.996f), 0x7bff);
  EXPECT_EQ(narrowed(DType::f16, 65520), 0x7c00);
  EXPECT_EQ(narrowed(DType::f16, -1e30f), 0xfc00);
  EXPECT_EQ(narrowed(DType::bf16, std::numeric_limits<float>::infinity()),
            0x7f80);
}
