//===- Numbers.h - the scalar form of our number rules ----------*- C++ -*-===//
//
// What every path's wide instructions do to one value. bf16 conversion is
// vcvtneps2bf16's: nearest even, denormals to signed zero, NaN made quiet.
// Addresses may be unaligned: mapped weights lie anywhere.
//
//===----------------------------------------------------------------------===//
#ifndef PEFT_CPU_NUMBERS_H
#define PEFT_CPU_NUMBERS_H

#include "Call.h"

#include <algorithm>
#include <bit>
#include <cstring>

namespace peft::cpu {

template <typename T> inline T loadAt(const std::byte *base, uint64_t index) {
  T value;
  std::memcpy(&value, base + index * sizeof(T), sizeof(T));
  return value;
}

template <typename T>
inline void storeAt(std::byte *base, uint64_t index, T value) {
  std::memcpy(base + index * sizeof(T), &value, sizeof(T));
}

inline float bf16ToFloat(uint16_t bits) {
  return std::bit_cast<float>(static_cast<uint32_t>(bits) << 16);
}

inline uint16_t floatToBf16(float value) {
  uint32_t bits = std::bit_cast<uint32_t>(value);
  uint32_t magnitude = bits & 0x7fffffff;
  if (magnitude > 0x7f800000)
    return static_cast<uint16_t>(bits >> 16 | 0x40);
  if (magnitude < 0x00800000)
    return static_cast<uint16_t>(bits >> 16 & 0x8000);
  return static_cast<uint16_t>((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}

/// Exact; f16 denormals keep their value, NaN becomes quiet.
inline float f16ToFloat(uint16_t half) {
  uint32_t sign = static_cast<uint32_t>(half & 0x8000) << 16;
  uint32_t exponent = half >> 10 & 0x1f, mantissa = half & 0x3ff;
  if (exponent == 0x1f)
    return std::bit_cast<float>(sign | 0x7f800000 | mantissa << 13 |
                                (mantissa ? 0x00400000 : 0));
  if (exponent != 0)
    return std::bit_cast<float>(sign | (exponent + 112) << 23 | mantissa << 13);
  if (mantissa == 0)
    return std::bit_cast<float>(sign);
  uint32_t shift = static_cast<uint32_t>(std::countl_zero(mantissa)) - 21;
  return std::bit_cast<float>(sign | (113 - shift) << 23 |
                              (mantissa << (13 + shift) & 0x007fffff));
}

/// Element `index` of a float tensor, widened.
inline float loadFloat(const Operand &operand, uint64_t index) {
  switch (operand.type) {
  case DType::bf16:
    return bf16ToFloat(loadAt<uint16_t>(operand.data, index));
  case DType::f16:
    return f16ToFloat(loadAt<uint16_t>(operand.data, index));
  default:
    return loadAt<float>(operand.data, index);
  }
}

/// Element `index` of a weight, rounded to the compute type.
inline float loadWeight(const Operand &weight, uint64_t index, DType compute) {
  float value = loadFloat(weight, index);
  bool exact = compute == DType::f32 || weight.type == compute;
  return exact ? value : bf16ToFloat(floatToBf16(value));
}

/// Stores f32 `value` in the operand's type (f32 or bf16).
inline void storeFloat(const Operand &operand, uint64_t index, float value) {
  if (operand.type == DType::bf16)
    storeAt(operand.data, index, floatToBf16(value));
  else
    storeAt(operand.data, index, value);
}

/// How many rows of a launch over `rows` rows are to be computed.
inline uint64_t activeRows(const Operand &count, int64_t rowStart,
                           uint64_t rows) {
  if (!count)
    return rows;
  int64_t left = loadAt<int32_t>(count.data, 0) - rowStart;
  return std::clamp<int64_t>(left, 0, static_cast<int64_t>(rows));
}

} // namespace peft::cpu

#endif // PEFT_CPU_NUMBERS_H
