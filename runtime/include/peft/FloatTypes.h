//===- FloatTypes.h - f32 from and to the types of 16 bits ------*- C++ -*-===//
//
// One scalar form of each conversion, for files, initial values and the plain
// CPU path. To 16 bits: nearest even, f16 beyond 65504 infinite, denormals of
// both types kept. NaN stays NaN and becomes quiet, as the processor's own
// conversions do it. No rounding depends on whether the thread flushes f32
// denormals. Inlined always: a path's copy must not serve another path.
//
//===----------------------------------------------------------------------===//
#ifndef PEFT_FLOATTYPES_H
#define PEFT_FLOATTYPES_H

#include "peft/DType.h"

#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>

namespace peft {

/// f32, bf16 or f16: the types that weights and adapters are stored in, and
/// that a step computes with.
constexpr bool isFloat(DType type) {
  return type == DType::f32 || type == DType::bf16 || type == DType::f16;
}

[[gnu::always_inline]] constexpr float bfloatToFloat(uint16_t bits) {
  return std::bit_cast<float>(uint32_t(bits) << 16);
}

/// Exact, denormals included.
[[gnu::always_inline]] constexpr float halfToFloat(uint16_t bits) {
  uint32_t sign = uint32_t(bits & 0x8000) << 16;
  uint32_t exponent = bits >> 10 & 31, fraction = bits & 0x3ff;
  if (exponent == 31)
    return std::bit_cast<float>(sign | 0x7f800000 | fraction << 13 |
                                (fraction ? 0x00400000 : 0));
  if (exponent)
    return std::bit_cast<float>(sign | (exponent + 112) << 23 | fraction << 13);
  float tiny = static_cast<float>(fraction) * 0x1p-24f;
  return std::bit_cast<float>(sign | std::bit_cast<uint32_t>(tiny));
}

[[gnu::always_inline]] constexpr uint16_t floatToBfloat(float value) {
  uint32_t bits = std::bit_cast<uint32_t>(value);
  if ((bits & 0x7fffffff) > 0x7f800000)
    return static_cast<uint16_t>(bits >> 16 | 0x40);
  return static_cast<uint16_t>((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}

[[gnu::always_inline]] constexpr uint16_t floatToHalf(float value) {
  uint32_t bits = std::bit_cast<uint32_t>(value);
  auto sign = static_cast<uint16_t>(bits >> 16 & 0x8000);
  uint32_t magnitude = bits & 0x7fffffff;
  if (magnitude > 0x7f800000)
    return static_cast<uint16_t>(sign | 0x7e00 | (magnitude >> 13 & 0x1ff));
  if (magnitude >= 0x477ff000) // 65520 is nearer to 65536 than to 65504
    return sign | 0x7c00;
  if (magnitude < 0x38800000) {
    // Below 2^-14 in units of 2^-24, which is what the last bit of 1/2 is
    // worth in f32: the addition rounds.
    float shifted = std::bit_cast<float>(magnitude) + 0.5f;
    return static_cast<uint16_t>(
        sign | (std::bit_cast<uint32_t>(shifted) - 0x3f000000));
  }
  uint32_t rounded = magnitude + 0xfff + (magnitude >> 13 & 1);
  return static_cast<uint16_t>(sign | (rounded - 0x38000000) >> 13);
}

/// Element `index` of an array that may lie at any address.
[[gnu::always_inline]] inline float loadFloat(const std::byte *data, DType type,
                                              uint64_t index) {
  if (type == DType::f32) {
    float value;
    std::memcpy(&value, data + 4 * index, 4);
    return value;
  }
  uint16_t bits;
  std::memcpy(&bits, data + 2 * index, 2);
  return type == DType::f16 ? halfToFloat(bits) : bfloatToFloat(bits);
}

[[gnu::always_inline]] inline void storeFloat(std::byte *data, DType type,
                                              uint64_t index, float value) {
  if (type == DType::f32) {
    std::memcpy(data + 4 * index, &value, 4);
    return;
  }
  uint16_t bits =
      type == DType::f16 ? floatToHalf(value) : floatToBfloat(value);
  std::memcpy(data + 2 * index, &bits, 2);
}

} // namespace peft

#endif // PEFT_FLOATTYPES_H
