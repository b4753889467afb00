//===- Quantized.h - a quantized weight, element by element -----*- C++ -*-===//
//
// What its numbers are stands in plan.fbs (WeightPart). Every operation rounds
// to f32: no fma.
//
//===----------------------------------------------------------------------===//
#ifndef PEFT_CPU_QUANTIZED_H
#define PEFT_CPU_QUANTIZED_H

#include "Numbers.h"
#include "schema/QuantizedParts.h"

namespace peft::cpu {

/// Divides by a number that is a power of two in all but odd cases.
class Divisor {
public:
  Divisor() : Divisor(1) {}
  explicit Divisor(uint64_t value)
      : value(value), shift(std::countr_zero(value)),
        shifts(std::has_single_bit(value)) {}
  uint64_t quotient(uint64_t number) const {
    return shifts ? number >> shift : number / value;
  }
  uint64_t multiple(uint64_t quotient) const { return quotient * value; }

private:
  uint64_t value;
  int shift;
  bool shifts;
};

/// The codes of a weight and what makes numbers of them. An i8 weight has one
/// block to a row.
struct Quantized {
  const std::byte *codes = nullptr; ///< null: the weight is not quantized
  DType type = DType::nf4;
  uint64_t elements = 0;
  const std::byte *absmax = nullptr, *nestedAbsmax = nullptr, *tables = nullptr;
  Divisor block, nested;

  explicit operator bool() const { return codes != nullptr; }

  /// What all elements of block `index` are multiplied with.
  [[gnu::always_inline]] float scale(uint64_t index) const {
    if (!nestedAbsmax)
      return loadAt<float>(absmax, index);
    uint8_t code = loadAt<uint8_t>(absmax, index);
    float product = loadAt<float>(tables, codeTable + code) *
                    loadAt<float>(nestedAbsmax, nested.quotient(index));
    return product + loadAt<float>(tables, nestedTables - 1);
  }

  /// The number that the code of `element` stands for, before it is scaled.
  [[gnu::always_inline]] float number(uint64_t element) const {
    if (type == DType::i8)
      return static_cast<float>(loadAt<int8_t>(codes, element));
    auto pair = loadAt<uint8_t>(codes, element / 2);
    return loadAt<float>(tables, element % 2 ? pair & 15 : pair >> 4);
  }

  /// bitsandbytes multiplies with this where it means a division by 127.
  static constexpr float perStep = 7.874015718698502e-3f;

  [[gnu::always_inline]] float value(uint64_t element) const {
    float product = number(element) * scale(block.quotient(element));
    return type == DType::i8 ? product * perStep : product;
  }
};

/// The weight that `parts` name in a call, or none if it is not quantized.
inline Quantized readQuantized(const Call &call,
                               const QuantizedOperands &parts) {
  const Operand &codes = call[parts.codes];
  Quantized weight;
  if (!isQuantized(codes.type))
    return weight;
  weight.codes = codes.data;
  weight.type = codes.type;
  weight.elements = codes.elements();
  weight.absmax = call[parts.absmax].data;
  weight.nestedAbsmax = call[parts.nestedAbsmax].data;
  weight.tables = call[parts.tables].data;
  bool rows = codes.type == DType::i8;
  weight.block = Divisor(rows ? codes.columns
                              : static_cast<uint64_t>(call.integer(parts.block)));
  weight.nested =
      Divisor(weight.nestedAbsmax
                  ? static_cast<uint64_t>(call.integer(parts.nested))
                  : 1);
  return weight;
}

} // namespace peft::cpu

#endif // PEFT_CPU_QUANTIZED_H
