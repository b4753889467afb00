//===- InitialValues.cpp - what persistent buffers start with -------------===//
#include "InitialValues.h"

#include "peft/Philox.h"

#include <bit>
#include <cmath>
#include <cstring>
#include <numbers>

namespace peft {

/// Calls `four(words, values of these four)` along `values`.
template <typename Function>
static void drawWords(uint64_t seed, uint64_t stream, uint64_t first,
                      std::span<float> values, Function four) {
  PhiloxKey key = initializationKey(stream, seed);
  for (size_t i = 0; i < values.size(); i += 4) {
    uint32_t block = static_cast<uint32_t>((first + i) / 4);
    four(philox({block, 0, 0, 1}, key),
         values.subspan(i, std::min<size_t>(4, values.size() - i)));
  }
}

/// Strictly between 0 and 1.
static double unit(uint32_t word) { return (word + 0.5) * 0x1p-32; }

void drawUniform(uint64_t seed, uint64_t stream, double bound, uint64_t first,
                 std::span<float> values) {
  drawWords(seed, stream, first, values,
            [&](const auto &words, std::span<float> part) {
              for (size_t i = 0; i < part.size(); ++i)
                part[i] = static_cast<float>((2 * unit(words[i]) - 1) * bound);
            });
}

void drawGaussian(uint64_t seed, uint64_t stream, double standardDeviation,
                  uint64_t first, std::span<float> values) {
  drawWords(seed, stream, first, values,
            [&](const auto &words, std::span<float> part) {
              for (size_t i = 0; i < part.size(); ++i) {
                // Box-Muller: words 2j and 2j + 1 give elements 2j and 2j + 1.
                double radius = std::sqrt(-2 * std::log(unit(words[i & ~1u])));
                double angle = 2 * std::numbers::pi * unit(words[i | 1]);
                double value = i % 2 ? std::sin(angle) : std::cos(angle);
                part[i] =
                    static_cast<float>(radius * value * standardDeviation);
              }
            });
}

static float fromHalf(uint16_t bits) {
  uint32_t sign = uint32_t(bits & 0x8000u) << 16;
  uint32_t exponent = bits >> 10 & 31, fraction = bits & 0x3ffu;
  if (exponent == 0) {
    float value = std::ldexp(static_cast<float>(fraction), -24);
    return sign ? -value : value;
  }
  exponent = exponent == 31 ? 255 : exponent + 112;
  return std::bit_cast<float>(sign | exponent << 23 | fraction << 13);
}

void widen(DType type, const std::byte *source, std::span<float> values) {
  if (type == DType::f32) {
    std::memcpy(values.data(), source, values.size_bytes());
    return;
  }
  for (size_t i = 0; i < values.size(); ++i) {
    uint16_t bits;
    std::memcpy(&bits, source + 2 * i, sizeof bits);
    values[i] = type == DType::f16 ? fromHalf(bits)
                                   : std::bit_cast<float>(uint32_t(bits) << 16);
  }
}

static uint16_t toBrain(float value) {
  uint32_t bits = std::bit_cast<uint32_t>(value);
  if (std::isnan(value))
    return static_cast<uint16_t>(bits >> 16 | 0x40); // quiet
  return static_cast<uint16_t>((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}

static uint16_t toHalf(float value) {
  uint32_t bits = std::bit_cast<uint32_t>(value);
  uint16_t sign = bits >> 16 & 0x8000;
  bits &= 0x7fffffff;
  if (bits > 0x7f800000)
    return sign | 0x7e00; // a quiet NaN
  if (bits >= 0x477ff000) // 65520 is nearer to 65536 than to 65504
    return sign | 0x7c00;
  if (bits < 0x38800000) // below 2^-14: multiples of 2^-24
    return sign | static_cast<uint16_t>(std::nearbyint(
                      std::ldexp(std::bit_cast<float>(bits), 24)));
  bits += 0xfff + (bits >> 13 & 1);
  return sign | static_cast<uint16_t>((bits - 0x38000000) >> 13);
}

void narrow(DType type, std::span<const float> values, std::byte *result) {
  if (type == DType::f32) {
    std::memcpy(result, values.data(), values.size_bytes());
    return;
  }
  for (size_t i = 0; i < values.size(); ++i) {
    uint16_t bits = type == DType::f16 ? toHalf(values[i]) : toBrain(values[i]);
    std::memcpy(result + 2 * i, &bits, sizeof bits);
  }
}

} // namespace peft
