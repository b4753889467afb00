//===- Quantize.h - weights of 4 and 8 bits ---------------------*- C++ -*-===//
//
// The arithmetic of bitsandbytes' formats, on memory; which file a weight comes
// from is decided elsewhere. Codes equal those that bitsandbytes 0.50 computes
// on a CPU, bit for bit (docs/Quantization.md). Nothing here depends on whether
// the calling thread flushes denormals.
//
// A weight of n elements in blocks of b has ceil(n / b) scales: blocks run over
// the flattened row-major tensor, across rows, and the last may be short. With
// int8 there is one scale a row.
//
//===----------------------------------------------------------------------===//
#ifndef PEFT_QUANTIZE_H
#define PEFT_QUANTIZE_H

#include "peft/DType.h"

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

namespace peft {

/// How a weight is quantized.
struct QuantFormat {
  DType type = DType::nf4; ///< nf4, fp4 or i8
  uint32_t block = 64;     ///< elements that share a scale; int8: 0 (a row)
  uint32_t nested = 0;     ///< scales that share a nested scale; 0: none

  bool operator==(const QuantFormat &) const = default;
  /// "nf4 in blocks of 64, nested 256"
  std::string describe() const;
};

/// The sizes of a block that bitsandbytes has: 32, 64, ..., 4096.
constexpr bool isBlockSize(uint64_t block) {
  return block >= 32 && block <= 4096 && (block & (block - 1)) == 0;
}

/// Scales under one nested scale, in every file that bitsandbytes writes.
constexpr uint32_t nestedBlock = 256;

constexpr uint64_t blockCount(uint64_t elements, uint64_t block) {
  return elements / block + (elements % block != 0);
}

/// What the sixteen codes of nf4 or fp4 stand for, before scaling.
std::span<const float, 16> codeMap(DType type);

/// What the 256 codes of a nested scale stand for: bitsandbytes' signed
/// "dynamic" map, ascending from -0.993 to 1.
std::span<const float, 256> dynamicMap();

/// Which implementation computes; both give the same bits.
enum class QuantizePath : uint8_t { plain, avx2 };

/// avx2 where the processor has it, unless PEFT_CPU is `plain`.
QuantizePath bestQuantizePath();

/// Weights as they lie in a file: f32, bf16 or f16, at any address.
struct SourceWeights {
  const std::byte *data = nullptr;
  DType type = DType::bf16;
  uint64_t count = 0;
};

/// Quantizes whole blocks (the last may be short, if it ends the tensor) to nf4
/// or fp4: ceil(count / 2) bytes of codes, one f32 a block. Element 2j is in
/// the high nibble; an odd end is padded with the code of zero. False when a
/// weight is NaN or infinite: codes and absmax are then unspecified.
[[nodiscard]] bool quantizeBlocks(const SourceWeights &weights, DType type,
                                  uint32_t block, std::byte *codes,
                                  float *absmax,
                                  QuantizePath path = bestQuantizePath());

/// Quantizes whole rows of `columns` weights to int8, as bitsandbytes'
/// int8_vectorwise_quant does: one f32 a row, code = round(w (127 / absmax)).
/// False as above.
[[nodiscard]] bool quantizeRows(const SourceWeights &weights, uint64_t columns,
                                std::byte *codes, float *absmax,
                                QuantizePath path = bestQuantizePath());

/// Scales, quantized themselves.
struct NestedScales {
  std::vector<uint8_t> codes; ///< [scales]
  std::vector<float> absmax;  ///< [ceil(scales / nested)]
  float offset = 0;
};

/// Quantizes the scales of a whole tensor. `offset` is what is subtracted
/// first: their mean, rounded from a sum in f64. bitsandbytes sums in f32 in an
/// order of torch's, and may be off by an ulp or two of it; with the same
/// offset the codes are the same.
NestedScales nestScales(std::span<const float> absmax,
                        uint32_t nested = nestedBlock,
                        std::optional<float> offset = std::nullopt);

/// The f32 value of a nested scale: multiplied, rounded, added, rounded.
inline float nestedScale(std::span<const float, 256> map, uint8_t code,
                         float absmax, float offset) {
  const float product = map[code] * absmax;
  return product + offset;
}

/// The f32 values of codes of 4 bits, element by element from the first of a
/// block on: map[code] * absmax[i / block]. The reference of every kernel.
void dequantizeBlocks(const std::byte *codes, uint64_t count,
                      std::span<const float, 16> map, uint32_t block,
                      const float *absmax, float *values);

/// The f32 values of rows of int8 codes: code * absmax, rounded, times 1/127.
void dequantizeRows(const std::byte *codes, uint64_t rows, uint64_t columns,
                    const float *absmax, float *values);

/// The index of the first f32 that is NaN, infinite or, if `positive`, below
/// zero. The values may lie at any address.
std::optional<uint64_t> findBadScale(std::span<const std::byte> values,
                                     bool positive);

} // namespace peft

#endif // PEFT_QUANTIZE_H
