//===- Quantize.cpp - weights to codes and back ---------------------------===//
//
// The plain form says what is computed; EncodeAvx2.cpp computes the same.
//
//===----------------------------------------------------------------------===//
#include "peft/Quantize.h"

#include "Encode.h"
#include "peft/FloatTypes.h"

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <cstring>
#include <limits>
#include <string_view>
#include <xmmintrin.h>

using namespace peft;

namespace {

/// Scales may be denormal and their reciprocals must be right: while it lives,
/// the thread rounds and keeps denormals as IEEE 754 says.
class KeepDenormals {
public:
  KeepDenormals() : before(_mm_getcsr()) { _mm_setcsr(0x1f80); }
  ~KeepDenormals() { _mm_setcsr(before); }
  KeepDenormals(const KeepDenormals &) = delete;
  KeepDenormals &operator=(const KeepDenormals &) = delete;

private:
  unsigned before;
};

/// The largest magnitude, or NaN when a weight is not finite.
float largest(const SourceWeights &weights, uint64_t begin, uint64_t end) {
  float most = 0;
  for (uint64_t i = begin; i < end; ++i) {
    const float magnitude =
        std::fabs(loadFloat(weights.data, weights.type, i));
    if (!std::isfinite(magnitude))
      return std::numeric_limits<float>::quiet_NaN();
    most = magnitude > most ? magnitude : most;
  }
  return most;
}

uint8_t encode(const Codebook &book, float value) {
  unsigned rank = 0;
  for (const float threshold : book.thresholds)
    rank += value > threshold;
  return book.order[rank];
}

/// One block, which starts at an even element.
bool quantizeBlock(const SourceWeights &weights, const Codebook &book,
                   uint64_t begin, uint64_t end, bool isShort,
                   std::byte *codes, float &absmax) {
  absmax = largest(weights, begin, end);
  if (std::isnan(absmax))
    return false;
  // bitsandbytes divides in a short block, where it multiplies in a whole one,
  // and stores the bounded scale there.
  const float bounded = absmax < smallestAbsmax ? smallestAbsmax : absmax;
  if (isShort)
    absmax = bounded;
  const float inverse = 1.0f / bounded;
  const auto code = [&](uint64_t i) {
    if (i >= end)
      return encode(book, 0);
    const float weight = loadFloat(weights.data, weights.type, i);
    return encode(book, isShort ? weight / bounded : weight * inverse);
  };
  for (uint64_t i = begin; i < end; i += 2)
    codes[i / 2] = static_cast<std::byte>(code(i) << 4 | code(i + 1));
  return true;
}

} // namespace

QuantizePath peft::bestQuantizePath() {
  static const QuantizePath best = [] {
    const char *path = std::getenv("PEFT_CPU");
    const bool plain = path && std::string_view(path) == "plain";
    return plain || !hasAvx2() ? QuantizePath::plain : QuantizePath::avx2;
  }();
  return best;
}

bool peft::quantizeBlocks(const SourceWeights &weights, DType type,
                          uint32_t block, std::byte *codes, float *absmax,
                          QuantizePath path) {
  const KeepDenormals keep;
  const Codebook &book = type == DType::fp4 ? fp4Codebook : nf4Codebook;
  const uint64_t whole = weights.count / block;
  uint64_t done = 0;
  if (path == QuantizePath::avx2) {
    if (!encodeBlocksAvx2(weights.data, weights.type, whole, block, book, codes,
                          absmax))
      return false;
    done = whole;
  }
  for (; done < blockCount(weights.count, block); ++done) {
    const uint64_t begin = done * block;
    const bool isShort = done == whole;
    const uint64_t end = isShort ? weights.count : begin + block;
    if (!quantizeBlock(weights, book, begin, end, isShort, codes, absmax[done]))
      return false;
  }
  return true;
}

bool peft::quantizeRows(const SourceWeights &weights, uint64_t columns,
                        std::byte *codes, float *absmax, QuantizePath path) {
  const KeepDenormals keep;
  const uint64_t rows = columns ? weights.count / columns : 0;
  if (path == QuantizePath::avx2)
    return encodeRowsAvx2(weights.data, weights.type, rows, columns, codes,
                          absmax);
  for (uint64_t row = 0; row < rows; ++row) {
    const uint64_t begin = row * columns, end = begin + columns;
    absmax[row] = largest(weights, begin, end);
    if (std::isnan(absmax[row]))
      return false;
    const float scale = rowScale(absmax[row]);
    for (uint64_t i = begin; i < end; ++i) {
      const float weight = loadFloat(weights.data, weights.type, i);
      codes[i] = static_cast<std::byte>(
          static_cast<int8_t>(std::nearbyint(weight * scale)));
    }
  }
  return true;
}

NestedScales peft::nestScales(std::span<const float> absmax, uint32_t nested,
                              std::optional<float> offset) {
  const KeepDenormals keep;
  NestedScales result;
  if (absmax.empty())
    return result;
  double sum = 0;
  for (const float scale : absmax)
    sum += static_cast<double>(scale);
  result.offset = offset.value_or(
      static_cast<float>(sum / static_cast<double>(absmax.size())));

  const auto map = dynamicMap();
  std::array<float, 255> middles;
  for (unsigned i = 0; i < 255; ++i)
    middles[i] = 0.5f * (map[i] + map[i + 1]);
  // bitsandbytes first rounds a value of [-1, 1] to one of 65536 steps.
  std::vector<uint8_t> codeOfStep(65536);
  unsigned code = 0;
  for (unsigned step = 0; step < 65536; ++step) {
    const float value = -1.0f + 2.0f * static_cast<float>(step) / 65535.0f;
    while (code < 255 && middles[code] < value)
      ++code;
    codeOfStep[step] = static_cast<uint8_t>(code);
  }

  result.codes.resize(absmax.size());
  for (uint64_t begin = 0; begin < absmax.size(); begin += nested) {
    const uint64_t end = std::min<uint64_t>(absmax.size(), begin + nested);
    float most = 0;
    for (uint64_t i = begin; i < end; ++i)
      most = std::fmax(most, std::fabs(absmax[i] - result.offset));
    result.absmax.push_back(most);
    const float inverse = 1.0f / most;
    for (uint64_t i = begin; i < end && most != 0; ++i) {
      float value = (absmax[i] - result.offset) * inverse;
      value = value < 1 ? value > -1 ? value : -1.0f : 1.0f;
      result.codes[i] = codeOfStep[static_cast<size_t>(
          (value + 1.0f) * 0.5f * 65535.0f + 0.5f)];
    }
  }
  return result;
}

void peft::dequantizeBlocks(const std::byte *codes, uint64_t count,
                            std::span<const float, 16> map, uint32_t block,
                            const float *absmax, float *values) {
  for (uint64_t i = 0; i < count; ++i) {
    const auto byte = static_cast<uint8_t>(codes[i / 2]);
    values[i] = map[i % 2 ? byte & 15 : byte >> 4] * absmax[i / block];
  }
}

void peft::dequantizeRows(const std::byte *codes, uint64_t rows,
                          uint64_t columns, const float *absmax,
                          float *values) {
  for (uint64_t i = 0; i < rows * columns; ++i) {
    const float code = static_cast<int8_t>(codes[i]);
    values[i] = code * absmax[i / columns] * (1.0f / 127.0f);
  }
}

std::optional<uint64_t> peft::findBadScale(std::span<const std::byte> values,
                                           bool positive) {
  const float least = positive ? 0 : std::numeric_limits<float>::lowest();
  const float most = std::numeric_limits<float>::max();
  const auto isGood = [&](uint64_t i) {
    const float value = loadFloat(values.data(), DType::f32, i);
    return value >= least && value <= most;
  };
  // All at first: that is a loop which the compiler vectorizes.
  const uint64_t count = values.size() / sizeof(float);
  bool good = true;
  for (uint64_t i = 0; i < count; ++i)
    good &= isGood(i);
  for (uint64_t i = 0; !good && i < count; ++i)
    if (!isGood(i))
      return i;
  return std::nullopt;
}
