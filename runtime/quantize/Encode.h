//===- Encode.h - one block, one row ----------------------------*- C++ -*-===//
#ifndef PEFT_QUANTIZE_ENCODE_H
#define PEFT_QUANTIZE_ENCODE_H

#include "Codebook.h"
#include "peft/DType.h"

#include <cstddef>
#include <cstdint>

namespace peft {

/// Whole blocks, none of them short, and an even number of weights in each.
/// False when a weight is not finite. Needs avx2 and f16c.
bool encodeBlocksAvx2(const std::byte *weights, DType type, uint64_t blocks,
                      uint32_t block, const Codebook &book, std::byte *codes,
                      float *absmax);

/// Whole rows of int8.
bool encodeRowsAvx2(const std::byte *weights, DType type, uint64_t rows,
                    uint64_t columns, std::byte *codes, float *absmax);

/// What the weights of a row of int8 are multiplied by: torch divides by a
/// tensor with its reciprocal. Where that overflows, in rows of almost nothing,
/// it is finite here, so that zeros stay zeros.
[[gnu::always_inline]] inline float rowScale(float absmax) {
  constexpr float most = 0x1.fffffep127f;
  const float scale = 1.0f / absmax * 127.0f;
  return scale < most ? scale : most;
}

/// Whether this processor can run the two above.
bool hasAvx2();

} // namespace peft

#endif // PEFT_QUANTIZE_ENCODE_H
