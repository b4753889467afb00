//===- Philox.h - counter-based random bits ---------------------*- C++ -*-===//
//
// Philox4x32-10 (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3",
// SC 2011): ten rounds turn a key and a counter into four words. There is no
// state, so any thread can draw any word.
//
//===----------------------------------------------------------------------===//
#ifndef PEFT_CPU_PHILOX_H
#define PEFT_CPU_PHILOX_H

#include <array>
#include <cstdint>

namespace peft::cpu {

namespace philox {
constexpr uint32_t multiplier0 = 0xD2511F53, multiplier1 = 0xCD9E8D57;
constexpr uint32_t step0 = 0x9E3779B9, step1 = 0xBB67AE85;
constexpr unsigned rounds = 10;
} // namespace philox

constexpr std::array<uint32_t, 4> philox4x32(std::array<uint32_t, 2> key,
                                             std::array<uint32_t, 4> counter) {
  for (unsigned round = 0; round < philox::rounds; ++round) {
    uint64_t product0 = uint64_t{philox::multiplier0} * counter[0];
    uint64_t product1 = uint64_t{philox::multiplier1} * counter[2];
    counter = {static_cast<uint32_t>(product1 >> 32) ^ counter[1] ^ key[0],
               static_cast<uint32_t>(product1),
               static_cast<uint32_t>(product0 >> 32) ^ counter[3] ^ key[1],
               static_cast<uint32_t>(product0)};
    key[0] += philox::step0;
    key[1] += philox::step1;
  }
  return counter;
}

} // namespace peft::cpu

#endif // PEFT_CPU_PHILOX_H
