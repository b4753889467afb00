//===- DType.h - the element types a plan names -----------------*- C++ -*-===//
#ifndef PEFT_DTYPE_H
#define PEFT_DTYPE_H

#include <cstdint>
#include <optional>
#include <string_view>

namespace peft {

/// Values are those of `DType` in schema/plan.fbs and never change.
enum class DType : uint8_t {
  f32 = 0,
  bf16,
  f16,
  f64,
  i32,
  i64,
  u8,
  i8,
  nf4, ///< codes of 4 bits, two to a byte: element 2j in the high nibble
  fp4, ///< the same; they differ in what a code stands for
};

/// Codes, which are a weight only together with its scales.
constexpr bool isQuantized(DType type) {
  return type == DType::nf4 || type == DType::fp4 || type == DType::i8;
}

/// Whether two elements share a byte.
constexpr bool isPacked(DType type) {
  return type == DType::nf4 || type == DType::fp4;
}

/// Bytes of one element; of packed types ask byteCount.
constexpr uint64_t byteSize(DType type) {
  switch (type) {
  case DType::f64:
  case DType::i64:
    return 8;
  case DType::f32:
  case DType::i32:
    return 4;
  case DType::bf16:
  case DType::f16:
    return 2;
  case DType::u8:
  case DType::i8:
  case DType::nf4:
  case DType::fp4:
    return 1;
  }
  return 0;
}

/// Bytes of `elements` elements.
constexpr uint64_t byteCount(DType type, uint64_t elements) {
  return isPacked(type) ? elements / 2 + elements % 2
                        : elements * byteSize(type);
}

constexpr std::string_view name(DType type) {
  constexpr std::string_view names[] = {"f32", "bf16", "f16", "f64", "i32",
                                        "i64", "u8",   "i8",  "nf4", "fp4"};
  return names[static_cast<uint8_t>(type)];
}

/// The type called `text` ("bf16"), if there is one.
constexpr std::optional<DType> parseDType(std::string_view text) {
  for (uint8_t i = 0; i <= static_cast<uint8_t>(DType::fp4); ++i)
    if (name(static_cast<DType>(i)) == text)
      return static_cast<DType>(i);
  return std::nullopt;
}

} // namespace peft

#endif // PEFT_DTYPE_H
