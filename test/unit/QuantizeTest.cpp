//===- QuantizeTest.cpp - weights to codes of 4 and 8 bits ----------------===//
#include "peft/Quantize.h"
#include "TemporaryFiles.h"
#include "peft/FloatTypes.h"
#include "peft/Safetensors.h"

#include <cmath>
#include <cstring>
#include <limits>
#include <random>
#include <xmmintrin.h>

using namespace peft;

namespace {

constexpr QuantizePath paths[] = {QuantizePath::plain, QuantizePath::avx2};
constexpr DType sources[] = {DType::f32, DType::bf16, DType::f16};
constexpr DType fourBits[] = {DType::nf4, DType::fp4};

bool canRun(QuantizePath path) {
  return path == QuantizePath::plain || __builtin_cpu_supports("avx2");
}

std::vector<std::byte> stored(const std::vector<float> &values, DType type) {
  std::vector<std::byte> bytes(values.size() * byteSize(type));
  for (size_t i = 0; i < values.size(); ++i)
    storeFloat(bytes.data(), type, i, values[i]);
  return bytes;
}

struct Result {
  bool finite = false;
  std::vector<std::byte> codes;
  std::vector<float> absmax;

  unsigned code(size_t i) const {
    const auto byte = static_cast<unsigned>(codes[i / 2]);
    return i % 2 ? byte & 15 : byte >> 4;
  }
};

Result quantize(ByteSpan weights, DType source, DType type, uint32_t block,
                QuantizePath path) {
  const uint64_t count = weights.size() / byteSize(source);
  Result result;
  result.codes.resize(blockCount(count, 2));
  result.absmax.resize(blockCount(count, block));
  result.finite = quantizeBlocks({weights.data(), source, count}, type, block,
                                 result.codes.data(), result.absmax.data(),
                                 path);
  return result;
}

TEST(Quantize, DynamicMapIsThatOfBitsandbytes) {
  const auto map = dynamicMap();
  EXPECT_EQ(map[0], -0x1.fc6666p-1f);
  EXPECT_EQ(map[127], 0);
  EXPECT_EQ(map[254], 0x1.fc6666p-1f);
  EXPECT_EQ(map[255], 1);
  uint32_t hash = 0;
  for (const float value : map)
    hash = hash * 31 + std::bit_cast<uint32_t>(value);
  EXPECT_EQ(hash, 0xa4416a6cu); // of the map that bitsandbytes 0.50.2 makes
}

TEST(Quantize, ACodeBeginsStrictlyAboveItsThreshold) {
  for (const DType type : fourBits) {
    std::vector<float> values(codeMap(type).begin(), codeMap(type).end());
    std::sort(values.begin(), values.end());
    for (unsigned i = 0; i < 15; ++i) {
      const float middle = (values[i] + values[i + 1]) / 2;
      std::vector<float> block(32, 0.0f);
      block[0] = 1; // the absmax: what is divided by is one
      block[1] = std::nextafter(middle, -2.0f);
      block[2] = middle;
      block[3] = std::nextafter(middle, 2.0f);
      for (const QuantizePath path : paths) {
        if (!canRun(path))
          continue;
        const auto weights = stored(block, DType::f32);
        const Result result = quantize(weights, DType::f32, type, 32, path);
        EXPECT_EQ(codeMap(type)[result.code(1)], values[i]) << i;
        EXPECT_EQ(codeMap(type)[result.code(2)], values[i]) << i;
        EXPECT_EQ(codeMap(type)[result.code(3)], values[i + 1]) << i;
      }
    }
  }
}

TEST(Quantize, ThePathsAgree) {
  if (!canRun(QuantizePath::avx2))
    GTEST_SKIP() << "no avx2 here";
  std::mt19937 random(1);
  std::normal_distribution<float> normal;
  // Flushed denormals would change what the reciprocals are.
  const unsigned before = _mm_getcsr();
  for (const bool flushes : {false, true})
    for (const DType source : sources)
      for (const uint32_t block : {32u, 64u, 512u, 4096u})
        for (const size_t count : {size_t(3 * 4096 + 517), size_t(block), size_t(5)}) {
          std::vector<float> values(count);
          for (size_t i = 0; i < count; ++i)
            values[i] = normal(random) * (i % 4096 < 2048 ? 1 : 1e-7f);
          // At an odd address.
          std::vector<std::byte> weights(1);
          const auto bytes = stored(values, source);
          weights.insert(weights.end(), bytes.begin(), bytes.end());
          const ByteSpan span = ByteSpan(weights).subspan(1);
          for (const DType type : fourBits) {
            _mm_setcsr(before | (flushes ? 0x8040u : 0u));
            const Result fast =
                quantize(span, source, type, block, QuantizePath::avx2);
            _mm_setcsr(before);
            const Result plain =
                quantize(span, source, type, block, QuantizePath::plain);
            EXPECT_TRUE(fast.finite && plain.finite);
            EXPECT_EQ(fast.codes, plain.codes);
            EXPECT_EQ(fast.absmax, plain.absmax);
          }
        }
}

TEST(Quantize, EveryFiniteBfloatOnBothPaths) {
  if (!canRun(QuantizePath::avx2))
    GTEST_SKIP() << "no avx2 here";
  // In ascending order of magnitude each block spans few powers of two; in
  // steps of 257 it spans many.
  for (const uint32_t stride : {1u, 257u}) {
    std::vector<uint16_t> bits;
    for (uint32_t i = 0; i < 65536; ++i)
      if (const uint32_t value = i * stride % 65536; (value & 0x7f80) != 0x7f80)
        bits.push_back(static_cast<uint16_t>(value));
    ASSERT_EQ(bits.size(), 65280u);
    const ByteSpan weights = std::as_bytes(std::span(bits));
    for (const DType type : fourBits) {
      const Result fast =
          quantize(weights, DType::bf16, type, 64, QuantizePath::avx2);
      const Result plain =
          quantize(weights, DType::bf16, type, 64, QuantizePath::plain);
      EXPECT_TRUE(fast.finite && plain.finite);
      EXPECT_EQ(fast.codes, plain.codes);
      EXPECT_EQ(fast.absmax, plain.absmax);
    }
  }
}

TEST(Quantize, ZerosGetTheCodeOfZero) {
  for (const QuantizePath path : paths) {
    if (!canRun(path))
      continue;
    const auto zeros = stored(std::vector<float>(101, 0.0f), DType::bf16);
    const Result nf4 = quantize(zeros, DType::bf16, DType::nf4, 64, path);
    EXPECT_EQ(nf4.code(0), 7u);
    EXPECT_EQ(nf4.code(101), 7u); // what the odd end is padded with
    EXPECT_EQ(nf4.absmax[0], 0);
    EXPECT_EQ(nf4.absmax[1], 1e-38f); // bitsandbytes bounds a short block's
    const Result fp4 = quantize(zeros, DType::bf16, DType::fp4, 64, path);
    EXPECT_EQ(fp4.code(0), 0u);
  }
}

TEST(Quantize, WhatIsNotFiniteIsNoticedAnywhere) {
  constexpr float infinity = std::numeric_limits<float>::infinity();
  for (const QuantizePath path : paths)
    for (const DType source : sources)
      for (const size_t at : {0u, 17u, 63u, 64u, 130u})
        for (const float bad :
             {infinity, -infinity, std::numeric_limits<float>::quiet_NaN()}) {
          if (!canRun(path))
            continue;
          std::vector<float> values(131, 1.0f);
          values[at] = bad;
          const auto weights = stored(values, source);
          for (const DType type : fourBits)
            EXPECT_FALSE(quantize(weights, source, type, 64, path).finite);
          std::vector<std::byte> codes(131);
          float absmax = 0;
          EXPECT_FALSE(quantizeRows({weights.data(), source, 131}, 131,
                                    codes.data(), &absmax, path));
        }
}

TEST(Quantize, RowsOfBytes) {
  std::mt19937 random(2);
  std::normal_distribution<float> normal;
  for (const DType source : sources)
    for (const uint64_t columns : {1u, 15u, 64u, 257u}) {
      std::vector<float> values(9 * columns);
      for (uint64_t i = 0; i < values.size(); ++i) // row 4 is zero, 5 tiny
        values[i] = i / columns == 4   ? 0
                    : i / columns == 5 ? 1e-40f
                                       : normal(random);
      const auto weights = stored(values, source);
      std::vector<std::byte> codes[2];
      std::vector<float> absmax[2];
      for (const QuantizePath path : paths) {
        if (!canRun(path))
          continue;
        auto &c = codes[size_t(path)];
        auto &a = absmax[size_t(path)];
        c.resize(values.size());
        a.resize(9);
        EXPECT_TRUE(quantizeRows({weights.data(), source, values.size()},
                                 columns, c.data(), a.data(), path));
      }
      if (canRun(QuantizePath::avx2)) {
        EXPECT_EQ(codes[0], codes[1]);
        EXPECT_EQ(absmax[0], absmax[1]);
      }
      std::vector<float> back(values.size());
      dequantizeRows(codes[0].data(), 9, columns, absmax[0].data(),
                     back.data());
      for (uint64_t i = 0; i < values.size(); ++i)
        EXPECT_NEAR(back[i], loadFloat(weights.data(), source, i),
                    absmax[0][i / columns] / 250 + 1e-37f);
    }
}

TEST(Quantize, NestedScalesAreNearWhatTheyStandFor) {
  std::mt19937 random(3);
  std::normal_distribution<float> normal(2, 0.1f);
  std::vector<float> scales(1000);
  for (float &scale : scales)
    scale = normal(random);
  const NestedScales nested = nestScales(scales);
  ASSERT_EQ(nested.absmax.size(), 4u);
  for (size_t i = 0; i < scales.size(); ++i)
    EXPECT_NEAR(nestedScale(dynamicMap(), nested.codes[i],
                            nested.absmax[i / 256], nested.offset),
                scales[i], nested.absmax[i / 256] * 0.008f);
  // All equal: nothing is left after the mean.
  const NestedScales same = nestScales(std::vector<float>(300, 0.5f));
  EXPECT_EQ(same.offset, 0.5f);
  EXPECT_EQ(same.absmax, std::vector<float>(2, 0.0f));
  EXPECT_EQ(nestScales({}).codes.size(), 0u);
}

TEST(Quantize, FindsBadScales) {
  std::vector<float> scales(100, 1.0f);
  const auto find = [&](bool positive) {
    return findBadScale(std::as_bytes(std::span(scales)), positive);
  };
  EXPECT_FALSE(find(true));
  scales[70] = -1;
  EXPECT_EQ(find(true), 70u);
  EXPECT_FALSE(find(false));
  scales[3] = std::numeric_limits<float>::quiet_NaN();
  EXPECT_EQ(find(false), 3u);
  scales[3] = std::numeric_limits<float>::infinity();
  EXPECT_EQ(find(true), 3u);
}

/// What bitsandbytes made of some weights, as test/golden/make_quantized.py
/// wrote it down.
TEST(Quantize, SameCodesAsBitsandbytes) {
  const auto file = SafetensorsFile::open(PEFT_SOURCE_DIR
                                          "/test/golden/quantized.safetensors");
  ASSERT_TRUE(file.ok()) << file.status().message();
  const auto bytes = [&](const std::string &name) {
    const TensorHeader *tensor = file->find(name);
    EXPECT_TRUE(tensor) << name;
    return tensor ? file->bytes(*tensor) : ByteSpan();
  };
  const auto same = [](ByteSpan found, ByteSpan expected) {
    return found.size() == expected.size() &&
           std::memcmp(found.data(), expected.data(), found.size()) == 0;
  };
  for (const QuantizePath path : paths)
    for (const DType source : sources) {
      if (!canRun(path))
        continue;
      const std::string from(name(source));
      for (const DType type : fourBits)
        for (const uint32_t block : {32u, 64u, 4096u}) {
          const std::string key =
              from + "." + std::string(name(type)) + "." + std::to_string(block);
          const Result result =
              quantize(bytes(from), source, type, block, path);
          EXPECT_TRUE(same(result.codes, bytes(key + ".codes"))) << key;
          EXPECT_TRUE(same(std::as_bytes(std::span(result.absmax)),
                           bytes(key + ".absmax")))
              << key;
        }
      const ByteSpan rows = bytes(from + ".rows");
      const uint64_t count = rows.size() / byteSize(source), columns = 67;
      std::vector<std::byte> codes(count);
      std::vector<float> absmax(count / columns);
      EXPECT_TRUE(quantizeRows({rows.data(), source, count}, columns,
                               codes.data(), absmax.data(), path));
      EXPECT_TRUE(same(codes, bytes(from + ".rows.codes")));
      EXPECT_TRUE(same(std::as_bytes(std::span(absmax)),
                       bytes(from + ".rows.absmax")));
    }
  const ByteSpan scales = bytes("scales");
  std::vector<float> values(scales.size() / 4);
  std::memcpy(values.data(), scales.data(), scales.size());
  const float offset = loadFloat(bytes("scales.offset").data(), DType::f32, 0);
  const NestedScales nested = nestScales(values, nestedBlock, offset);
  EXPECT_TRUE(same(std::as_bytes(std::span(nested.codes)), bytes("scales.codes")));
  EXPECT_TRUE(same(std::as_bytes(std::span(nested.absmax)), bytes("scales.absmax")));
  EXPECT_NEAR(nestScales(values).offset, offset, offset * 1e-6f);
}

} // namespace
