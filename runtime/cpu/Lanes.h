//===- Lanes.h - sixteen f32 at once, the same bits everywhere --*- C++ -*-===//
//
// A kernel is written once over Lanes and compiled for every path; the three
// implementations differ in registers only. What the bits rest on:
//   * fma is one rounding on all paths, + - * / and squareRoot are exact;
//   * minimum and maximum are `a < b ? a : b` and `a > b ? a : b`: with a NaN
//     among the operands, or two zeros, the second one is the result;
//   * bf16 stores round to nearest even, denormals become zeros of their sign
//     and NaNs quiet ones, as vcvtneps2bf16 does;
//   * f16 stores round to nearest even, denormals are kept, NaNs become quiet
//     ones and what is too large infinite, as vcvtps2ph does;
//   * sum and largest use one fixed tree over the sixteen lanes.
// Denormals are flushed in arithmetic by every thread (ThreadPool). Loads from
// bf16 keep the bits; f16 denormals become the f32 numbers they stand for.
//
//===----------------------------------------------------------------------===//
#ifndef PEFT_CPU_LANES_H
#define PEFT_CPU_LANES_H

#include "Element.h"
#include "peft/FloatTypes.h"

#include <bit>
#include <type_traits>

#ifndef PEFT_PATH
#define PEFT_PATH plain
#endif

#define PEFT_INLINE [[gnu::always_inline]] inline

namespace peft::cpu::PEFT_PATH {
constexpr unsigned laneCount = 16;
}

#if defined(__AVX512F__)
#include "LanesAvx512.h"
#elif defined(__AVX2__)
#include "LanesAvx2.h"
#else
#include "LanesPlain.h"
#endif

namespace peft::cpu::PEFT_PATH {

/// The first `count` (< 16) lanes from `from`, the others zero.
template <typename T> PEFT_INLINE Lanes load(const T *from, uint64_t count) {
  T buffer[laneCount] = {};
  std::memcpy(buffer, from, count * sizeof(T));
  return load(buffer);
}

/// Stores the first `count` (< 16) lanes.
template <typename T>
PEFT_INLINE void store(T *to, Lanes value, uint64_t count) {
  T buffer[laneCount];
  store(buffer, value);
  std::memcpy(to, buffer, count * sizeof(T));
}

PEFT_INLINE Ints loadInts(const int32_t *from, uint64_t count) {
  int32_t buffer[laneCount] = {};
  std::memcpy(buffer, from, count * sizeof(int32_t));
  return loadInts(buffer);
}

PEFT_INLINE float loadOne(const F32 *from) {
  float value;
  std::memcpy(&value, from, sizeof value);
  return value;
}
PEFT_INLINE float loadOne(const BF16 *from) {
  uint16_t upper;
  std::memcpy(&upper, from, sizeof upper);
  return std::bit_cast<float>(uint32_t(upper) << 16);
}
PEFT_INLINE float loadOne(const F16 *from) {
  uint16_t bits;
  std::memcpy(&bits, from, sizeof bits);
  return halfToFloat(bits);
}
PEFT_INLINE void storeOne(F32 *to, float value) {
  std::memcpy(to, &value, sizeof value);
}

/// `value` as an operand of the compute type C holds it.
template <typename C> PEFT_INLINE Lanes rounded(Lanes value) {
  if constexpr (std::is_same_v<C, F32>)
    return value;
  else
    return roundAs(C(), value);
}

/// whole(offset) for each sixteen of [0, count), then tail(offset, left) for
/// the rest, if there is one.
template <typename Whole, typename Tail>
PEFT_INLINE void forChunks(uint64_t count, const Whole &whole,
                           const Tail &tail) {
  uint64_t i = 0;
  for (; i + laneCount <= count; i += laneCount)
    whole(i);
  if (i < count)
    tail(i, count - i);
}

} // namespace peft::cpu::PEFT_PATH

#endif // PEFT_CPU_LANES_H
