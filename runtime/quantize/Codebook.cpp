//===- Codebook.cpp - what codes stand for --------------------------------===//
#include "Codebook.h"
#include "peft/DynamicMap.h"
#include "peft/Quantize.h"

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

std::span<const float, 256> peft::dynamicMap() { return firstMomentMap; }

std::string QuantFormat::describe() const {
  std::string text(type == DType::i8 ? "int8" : name(type));
  if (block)
    text += " in blocks of " + std::to_string(block);
  if (nested)
    text += ", nested " + std::to_string(nested);
  return text;
}
