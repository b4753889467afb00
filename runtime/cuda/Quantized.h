//===- Quantized.h - a quantized weight in device code ----------*- C++ -*-===//
//
// What its numbers are stands in plan.fbs (WeightPart). Every operation rounds
// to f32: files that include this are compiled without fused multiply-add.
//
//===----------------------------------------------------------------------===//
#ifndef PEFT_CUDA_QUANTIZED_H
#define PEFT_CUDA_QUANTIZED_H

#include "cuda/Numbers.h"
#include "cuda/QuantizedWeight.h"

namespace peft::cuda {

/// Divides by a number that is a power of two in all but odd cases.
struct Divisor {
  uint64_t value = 1;
  int shift = 0; ///< below 0: no power of two

  Divisor() = default;
  explicit Divisor(uint64_t value)
      : value(value), shift(value & (value - 1) ? -1 : __builtin_ctzll(value)) {
  }
  __device__ uint64_t quotient(uint64_t number) const {
    return shift >= 0 ? number >> shift : number / value;
  }
};

/// The weight as a kernel gets it.
struct QuantizedIn {
  const uint8_t *codes = nullptr;
  const std::byte *absmax = nullptr; ///< f32, or bytes with nested scales
  const float *nestedAbsmax = nullptr, *tables = nullptr;
  Divisor block, nested;
  bool bytes = false; ///< i8: a block is a row

  explicit QuantizedIn(const QuantizedWeight &weight)
      : codes(weight.codes.as<const uint8_t>()), absmax(weight.absmax.data),
        nestedAbsmax(weight.nestedAbsmax.as<const float>()),
        tables(weight.tables.as<const float>()),
        block(weight.codes.type == DType::i8 ? weight.codes.columns
                                             : weight.block),
        nested(weight.nested ? weight.nested : 1),
        bytes(weight.codes.type == DType::i8) {}

  /// What all elements of block `index` are multiplied with.
  __device__ float scale(uint64_t index) const {
    if (!nestedAbsmax)
      return reinterpret_cast<const float *>(absmax)[index];
    const auto code = static_cast<unsigned>(absmax[index]);
    const float product =
        tables[codeTable + code] * nestedAbsmax[nested.quotient(index)];
    return product + tables[nestedTables - 1];
  }

  /// The code of an element, of 4 bits or signed.
  __device__ int code(uint64_t element) const {
    if (bytes)
      return static_cast<int8_t>(codes[element]);
    const unsigned pair = codes[element / 2];
    return static_cast<int>(element % 2 ? pair & 15 : pair >> 4);
  }

  /// A code as a number; `table` holds the first sixteen of `tables`.
  __device__ float scaled(int code, float scale, const float *table) const {
    // bitsandbytes multiplies with this where it means a division by 127.
    constexpr float perStep = 7.874015718698502e-3f;
    if (bytes)
      return static_cast<float>(code) * scale * perStep;
    return table[code] * scale;
  }

  __device__ float value(uint64_t element) const {
    return scaled(code(element), scale(block.quotient(element)), tables);
  }
};

} // namespace peft::cuda

#endif // PEFT_CUDA_QUANTIZED_H
