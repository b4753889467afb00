//===- Codebook.cpp - what codes stand for --------------------------------===//
#include "Codebook.h"
#include "peft/Quantize.h"

#include <algorithm>
#include <cmath>

using namespace peft;

namespace {

constexpr Codebook makeCodebook(const std::array<float, 16> &values) {
  Codebook book{};
  book.values = values;
  for (uint8_t code = 0; code < 16; ++code) {
    // Insertion keeps codes of equal value in order: fp4 has two zeros.
    unsigned at = code;
    for (; at > 0 && values[book.order[at - 1]] > values[code]; --at)
      book.order[at] = book.order[at - 1];
    book.order[at] = code;
  }
  for (unsigned i = 0; i < 15; ++i)
    book.thresholds[i] =
        (values[book.order[i]] + values[book.order[i + 1]]) / 2;
  return book;
}

/// Sign, two bits of exponent, one of fraction; the largest is 12.
constexpr std::array<float, 16> fp4Values() {
  constexpr float magnitudes[8] = {0, 0.0625f, 8, 12, 4, 6, 2, 3};
  std::array<float, 16> values{};
  for (unsigned i = 0; i < 8; ++i) {
    values[i] = magnitudes[i] / 12;
    values[8 + i] = i ? -values[i] : 0;
  }
  return values;
}

/// Seven decades, each half as finely cut as the next larger one: decade d
/// (10^(d - 6)) has 2^d values of each sign, the middles of equal parts of
/// [0.1, 1]. Zero and one are added. Every step is rounded to f32, in the order
/// in which bitsandbytes computes them.
std::array<float, 256> makeDynamicMap() {
  constexpr float decades[7] = {1e-6f, 1e-5f, 1e-4f, 1e-3f, 1e-2f, 1e-1f, 1};
  std::array<float, 256> map{};
  unsigned count = 0;
  for (unsigned decade = 0; decade < 7; ++decade) {
    const unsigned parts = 1u << decade;
    // As torch.linspace: the first half counted from the start, the rest from
    // the end, each rounded once.
    const float step = (1 - 0.1f) / static_cast<float>(parts);
    const auto boundary = [&](unsigned i) {
      return i < (parts + 1) / 2
                 ? std::fma(step, static_cast<float>(i), 0.1f)
                 : std::fma(-step, static_cast<float>(parts - i), 1.0f);
    };
    for (unsigned i = 0; i < parts; ++i) {
      const float middle = (boundary(i) + boundary(i + 1)) / 2;
      map[count++] = decades[decade] * middle;
      map[count++] = -decades[decade] * middle;
    }
  }
  map[count++] = 0;
  map[count++] = 1;
  std::sort(map.begin(), map.end());
  return map;
}

} // namespace

// The quantiles of a normal distribution that NF4 is made of, as the paper's
// authors rounded them.
constexpr const Codebook peft::nf4Codebook = makeCodebook(
    {-1.0f, -0.6961928009986877f, -0.5250730514526367f, -0.39491748809814453f,
     -0.28444138169288635f, -0.18477343022823334f, -0.09105003625154495f, 0.0f,
     0.07958029955625534f, 0.16093020141124725f, 0.24611230194568634f,
     0.33791524171829224f, 0.44070982933044434f, 0.5626170039176941f,
     0.7229568362236023f, 1.0f});

constexpr const Codebook peft::fp4Codebook = makeCodebook(fp4Values());

std::span<const float, 16> peft::codeMap(DType type) {
  return type == DType::fp4 ? fp4Codebook.values : nf4Codebook.values;
}

std::span<const float, 256> peft::dynamicMap() {
  static const std::array<float, 256> map = makeDynamicMap();
  return map;
}

std::string QuantFormat::describe() const {
  std::string text(name(type));
  if (block)
    text += " in blocks of " + std::to_string(block);
  if (nested)
    text += ", nested " + std::to_string(nested);
  return text;
}
