//===- Codebook.h - what codes stand for ------------------------*- C++ -*-===//
#ifndef PEFT_QUANTIZE_CODEBOOK_H
#define PEFT_QUANTIZE_CODEBOOK_H

#include <array>
#include <cstdint>

namespace peft {

/// The smallest absmax that is divided by: a block of zeros gets the code of
/// zero. A denormal of f32, so nothing may be flushed.
constexpr float smallestAbsmax = 1e-38f;

/// The sixteen codes of a 4-bit type.
struct Codebook {
  std::array<float, 16> values;  ///< by code
  std::array<uint8_t, 16> order; ///< codes by ascending value
  /// Midways between neighbours, in f32: a value's rank is the number of
  /// thresholds that are strictly below it.
  std::array<float, 15> thresholds;
};

extern const Codebook nf4Codebook, fp4Codebook;

} // namespace peft

#endif // PEFT_QUANTIZE_CODEBOOK_H
