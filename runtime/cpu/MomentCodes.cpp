//===- MomentCodes.cpp - codes of quantized moments by point --------------===//
#include "MomentCodes.h"

#include "peft/DynamicMap.h"

namespace peft::cpu {

namespace {

struct Codes {
  uint8_t of[65536];

  explicit Codes(const DynamicMap &map) {
    unsigned code = 0; // points ascend, and so do their codes
    for (uint32_t i = 0; i < 65536; ++i) {
      const float place = momentPlace(i);
      while (code < 255 && map[code + 1] - place < place - map[code])
        ++code;
      of[i] = static_cast<uint8_t>(code);
    }
  }
};

// Made when the program starts: kernels only read.
const Codes first(firstMomentMap), second(secondMomentMap);

} // namespace

const uint8_t *const firstMomentCodes = first.of;
const uint8_t *const secondMomentCodes = second.of;

} // namespace peft::cpu
