//===- InitialValues.cpp - what persistent buffers start with -------------===//
#include "InitialValues.h"

#include "peft/FloatTypes.h"
#include "peft/Philox.h"

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

void widen(DType type, const std::byte *source, std::span<float> values) {
  if (type == DType::f32) {
    std::memcpy(values.data(), source, values.size_bytes());
    return;
  }
  for (size_t i = 0; i < values.size(); ++i)
    values[i] = loadFloat(source, type, i);
}

void narrow(DType type, std::span<const float> values, std::byte *result) {
  if (type == DType::f32) {
    std::memcpy(result, values.data(), values.size_bytes());
    return;
  }
  for (size_t i = 0; i < values.size(); ++i)
    storeFloat(result, type, i, values[i]);
}

} // namespace peft
