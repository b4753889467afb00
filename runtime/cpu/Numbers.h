//===- Numbers.h - the scalar form of our number rules ----------*- C++ -*-===//
//
// What every path's wide instructions do to one value. bf16 conversion is
// vcvtneps2bf16's: nearest even, denormals to signed zero, NaN made quiet; f16
// conversion is vcvtps2ph's: nearest even, denormals kept, NaN made quiet, what
// is too large infinite. Addresses may be unaligned: mapped weights lie
// anywhere.
//
//===----------------------------------------------------------------------===//
#ifndef PEFT_CPU_NUMBERS_H
#define PEFT_CPU_NUMBERS_H

#include "Call.h"
#include "peft/FloatTypes.h"

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

/// What bf16 stores do; files keep denormals.
[[gnu::always_inline]] inline uint16_t floatToBf16(float value) {
  uint32_t bits = std::bit_cast<uint32_t>(value);
  if ((bits & 0x7fffffff) < 0x00800000)
    return static_cast<uint16_t>(bits >> 16 & 0x8000);
  return floatToBfloat(value);
}

/// `value` rounded to `type`.
[[gnu::always_inline]] inline float roundTo(DType type, float value) {
  switch (type) {
  case DType::bf16:
    return bfloatToFloat(floatToBf16(value));
  case DType::f16:
    return halfToFloat(floatToHalf(value));
  default:
    return value;
  }
}

/// Element `index` of a float tensor, widened.
inline float loadFloat(const Operand &operand, uint64_t index) {
  return peft::loadFloat(operand.data, operand.type, index);
}

/// Element `index` of a weight, rounded to the compute type.
inline float loadWeight(const Operand &weight, uint64_t index, DType compute) {
  float value = loadFloat(weight, index);
  return weight.type == compute ? value : roundTo(compute, value);
}

/// Stores f32 `value` in the operand's type.
inline void storeFloat(const Operand &operand, uint64_t index, float value) {
  switch (operand.type) {
  case DType::bf16:
    return storeAt(operand.data, index, floatToBf16(value));
  case DType::f16:
    return storeAt(operand.data, index, floatToHalf(value));
  default:
    return storeAt(operand.data, index, value);
  }
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
