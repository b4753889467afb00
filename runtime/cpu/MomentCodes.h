//===- MomentCodes.h - codes of quantized moments by point ------*- C++ -*-===//
#ifndef PEFT_CPU_MOMENTCODES_H
#define PEFT_CPU_MOMENTCODES_H

#include <cstdint>

namespace peft::cpu {

/// The code of each of the 65,536 points (peft/DynamicMap.h).
extern const uint8_t *const firstMomentCodes;
extern const uint8_t *const secondMomentCodes;

} // namespace peft::cpu

#endif // PEFT_CPU_MOMENTCODES_H
