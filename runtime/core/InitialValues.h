//===- InitialValues.h - what persistent buffers start with -----*- C++ -*-===//
#ifndef PEFT_CORE_INITIALVALUES_H
#define PEFT_CORE_INITIALVALUES_H

#include "peft/DType.h"

#include <cstddef>
#include <cstdint>
#include <span>

namespace peft {

/// Elements [first, first + values.size()) of U(-bound, bound) drawn with
/// Philox from `seed` and `stream`; `first` is a multiple of 4.
void drawUniform(uint64_t seed, uint64_t stream, double bound, uint64_t first,
                 std::span<float> values);
/// Likewise of N(0, standardDeviation).
void drawGaussian(uint64_t seed, uint64_t stream, double standardDeviation,
                  uint64_t first, std::span<float> values);

/// Converts stored elements (f32, bf16 or f16 at any address) to f32, exactly.
void widen(DType type, const std::byte *source, std::span<float> values);

/// Converts f32 to f32, bf16 or f16, rounding to nearest even; what is too
/// large for the type becomes an infinity.
void narrow(DType type, std::span<const float> values, std::byte *result);

} // namespace peft

#endif // PEFT_CORE_INITIALVALUES_H
