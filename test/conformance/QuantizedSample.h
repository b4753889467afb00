//===- QuantizedSample.h - a quantized weight and its values ----*- C++ -*-===//
#ifndef PEFT_TEST_CONFORMANCE_QUANTIZEDSAMPLE_H
#define PEFT_TEST_CONFORMANCE_QUANTIZEDSAMPLE_H

#include "peft/Plan.h"

#include <cmath>
#include <random>
#include <vector>

namespace peft::conformance {

/// How a weight is quantized; block and nested as in plan.fbs.
struct Quantization {
  DType type = DType::nf4;
  uint64_t block = 64, nested = 0;
};

/// Blocks that cross rows, rows of odd length, blocks of no power of two.
inline const Quantization quantizations[] = {
    {DType::nf4, 64, 0},   {DType::nf4, 64, 256}, {DType::fp4, 32, 3},
    {DType::nf4, 4096, 0}, {DType::fp4, 23, 0},   {DType::i8, 0, 0}};

/// Random codes and scales, and what they stand for, step by step as plan.fbs
/// says it.
struct QuantizedSample {
  QuantizedSample(const Quantization &how, uint64_t rows, uint64_t columns,
                  uint64_t seed) {
    std::mt19937_64 random(seed);
    auto positive = [&] { // as f32
      return static_cast<float>(1 + random() % 1000) / 300.0f;
    };
    const uint64_t elements = rows * columns;
    const bool bytes = how.type == DType::i8;
    const uint64_t block = bytes ? columns : how.block;
    const uint64_t blocks = (elements + block - 1) / block;
    codes.resize(byteCount(how.type, elements));
    for (uint8_t &code : codes)
      code = static_cast<uint8_t>(random());
    if (!bytes)
      for (int i = 0; i < 16; ++i)
        tables.push_back(static_cast<float>(i - 7) / 7.3f);
    if (how.nested) {
      for (int i = 0; i < 256; ++i)
        tables.push_back(static_cast<float>(i - 100) / 255.0f);
      tables.push_back(0.37f);
      for (uint64_t i = 0; i < (blocks + how.nested - 1) / how.nested; ++i)
        nestedAbsmax.push_back(positive());
    }
    for (uint64_t i = 0; i < blocks; ++i)
      absmax.push_back(how.nested ? double(random() % 256) : positive());
    for (uint64_t i = 0; i < elements; ++i) {
      const uint64_t b = i / block;
      auto scale = static_cast<float>(absmax[b]);
      if (how.nested) {
        const float product = tables[16 + size_t(absmax[b])] *
                              nestedAbsmax[b / how.nested];
        scale = product + tables[272];
      }
      if (bytes) {
        const float product = static_cast<float>(int8_t(codes[i])) * scale;
        values.push_back(product * (1.0f / 127));
      } else {
        const uint8_t pair = codes[i / 2];
        values.push_back(tables[i % 2 ? pair % 16 : pair / 16] * scale);
      }
    }
  }

  std::vector<uint8_t> codes;
  std::vector<double> absmax; ///< f32 or bytes
  std::vector<float> nestedAbsmax, tables;
  std::vector<float> values;
};

} // namespace peft::conformance

#endif // PEFT_TEST_CONFORMANCE_QUANTIZEDSAMPLE_H
