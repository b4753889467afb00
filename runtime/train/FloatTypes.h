//===- FloatTypes.h - f32 from and to what files store ----------*- C++ -*-===//
//
// Only for reading and writing files; steps convert in kernels.
//
//===----------------------------------------------------------------------===//
#ifndef PEFT_TRAIN_FLOATTYPES_H
#define PEFT_TRAIN_FLOATTYPES_H

#include "peft/DType.h"

#include <bit>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>

namespace peft {

/// f32, bf16 or f16: the types that weights and adapters are stored in.
constexpr bool isFloat(DType type) {
  return type == DType::f32 || type == DType::bf16 || type == DType::f16;
}

inline float halfToFloat(uint16_t bits) {
  uint32_t sign = uint32_t(bits & 0x8000) << 16;
  uint32_t exponent = bits >> 10 & 31, fraction = bits & 0x3ff;
  if (exponent == 31)
    return std::bit_cast<float>(sign | 0x7f800000 | fraction << 13);
  if (exponent)
    return std::bit_cast<float>(sign | (exponent + 112) << 23 | fraction << 13);
  float tiny = std::ldexp(static_cast<float>(fraction), -24);
  return sign ? -tiny : tiny;
}

/// Element `index` of an array that may lie at any address.
inline float loadFloat(const std::byte *data, DType type, uint64_t index) {
  if (type == DType::f32) {
    float value;
    std::memcpy(&value, data + 4 * index, 4);
    return value;
  }
  uint16_t bits;
  std::memcpy(&bits, data + 2 * index, 2);
  return type == DType::f16 ? halfToFloat(bits)
                            : std::bit_cast<float>(uint32_t(bits) << 16);
}

/// Rounded to nearest even; NaN stays NaN.
inline uint16_t floatToBfloat(float value) {
  uint32_t bits = std::bit_cast<uint32_t>(value);
  if ((bits & 0x7fffffff) > 0x7f800000)
    return static_cast<uint16_t>(bits >> 16 | 0x40);
  return static_cast<uint16_t>((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}

/// Rounded to nearest even; beyond 65504 infinite.
inline uint16_t floatToHalf(float value) {
  uint32_t bits = std::bit_cast<uint32_t>(value);
  auto sign = static_cast<uint16_t>(bits >> 16 & 0x8000);
  uint32_t magnitude = bits & 0x7fffffff;
  if (magnitude > 0x7f800000)
    return sign | 0x7e00;
  if (magnitude >= 0x477ff000) // 65520 and more
    return sign | 0x7c00;
  if (magnitude < 0x38800000) // below 2^-14: units of 2^-24
    return sign | static_cast<uint16_t>(std::nearbyint(
                      std::ldexp(std::bit_cast<float>(magnitude), 24)));
  uint32_t rounded = magnitude + 0xfff + (magnitude >> 13 & 1);
  return sign | static_cast<uint16_t>((rounded - 0x38000000) >> 13);
}

inline void storeFloat(std::byte *data, DType type, uint64_t index,
                       float value) {
  if (type == DType::f32) {
    std::memcpy(data + 4 * index, &value, 4);
    return;
  }
  uint16_t bits =
      type == DType::f16 ? floatToHalf(value) : floatToBfloat(value);
  std::memcpy(data + 2 * index, &bits, 2);
}

} // namespace peft

#endif // PEFT_TRAIN_FLOATTYPES_H
