//===- Mask.h - dropout, 64 features at a time ------------------*- C++ -*-===//
#ifndef PEFT_CPU_SIMD_MASK_H
#define PEFT_CPU_SIMD_MASK_H

#include "../Dropout.h"
#include "../Lanes.h"

namespace peft::cpu::PEFT_PATH {

/// Drops or scales `count` elements of row `row` from feature `feature` on (a
/// multiple of 64) and rounds them to their type.
template <typename From, typename To>
void dropRow(const Dropout &dropout, uint64_t row, uint64_t feature,
             const From *from, uint64_t count, To *to) {
  auto [token, globalRow] = dropout.position(row);
  auto block = static_cast<uint32_t>(feature / 64);
  Lanes scale = broadcast(dropout.scale);
  for (uint64_t i = 0; i < count; i += 64, ++block) {
    uint64_t bits =
        dropoutKeep(dropout.key, block, token, globalRow, dropout.threshold);
    for (uint64_t j = i; j < i + 64 && j < count; j += laneCount) {
      Mask kept = maskOfBits(static_cast<uint16_t>(bits >> (j - i)));
      uint64_t left = count - j;
      Lanes value = left < laneCount ? load(from + j, left) : load(from + j);
      value = select(kept, value * scale, broadcast(0));
      if (left < laneCount)
        store(to + j, value, left);
      else
        store(to + j, value);
    }
  }
}

} // namespace peft::cpu::PEFT_PATH

#endif // PEFT_CPU_SIMD_MASK_H
