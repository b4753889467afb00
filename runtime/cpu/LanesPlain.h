//===- LanesPlain.h - Lanes as an array: the reference ----------*- C++ -*-===//
#ifndef PEFT_CPU_LANESPLAIN_H
#define PEFT_CPU_LANESPLAIN_H

#include "Numbers.h"

#include <bit>
#include <cmath>

namespace peft::cpu::PEFT_PATH {

struct Lanes {
  float v[laneCount];
};
struct Ints {
  int32_t v[laneCount];
};
struct Mask {
  bool v[laneCount];
};

template <typename R, typename F> PEFT_INLINE R perLane(const F &f) {
  R r;
  for (unsigned i = 0; i < laneCount; ++i)
    r.v[i] = f(i);
  return r;
}

PEFT_INLINE Lanes broadcast(float x) {
  return perLane<Lanes>([&](unsigned) { return x; });
}
PEFT_INLINE Lanes operator+(Lanes a, Lanes b) {
  return perLane<Lanes>([&](unsigned i) { return a.v[i] + b.v[i]; });
}
PEFT_INLINE Lanes operator-(Lanes a, Lanes b) {
  return perLane<Lanes>([&](unsigned i) { return a.v[i] - b.v[i]; });
}
PEFT_INLINE Lanes operator*(Lanes a, Lanes b) {
  return perLane<Lanes>([&](unsigned i) { return a.v[i] * b.v[i]; });
}
PEFT_INLINE Lanes operator/(Lanes a, Lanes b) {
  return perLane<Lanes>([&](unsigned i) { return a.v[i] / b.v[i]; });
}
PEFT_INLINE Lanes fma(Lanes a, Lanes b, Lanes c) {
  return perLane<Lanes>(
      [&](unsigned i) { return std::fma(a.v[i], b.v[i], c.v[i]); });
}
PEFT_INLINE Lanes minimum(Lanes a, Lanes b) {
  return perLane<Lanes>(
      [&](unsigned i) { return a.v[i] < b.v[i] ? a.v[i] : b.v[i]; });
}
PEFT_INLINE Lanes maximum(Lanes a, Lanes b) {
  return perLane<Lanes>(
      [&](unsigned i) { return a.v[i] > b.v[i] ? a.v[i] : b.v[i]; });
}
PEFT_INLINE Lanes squareRoot(Lanes a) {
  return perLane<Lanes>([&](unsigned i) { return std::sqrt(a.v[i]); });
}
PEFT_INLINE Mask less(Lanes a, Lanes b) {
  return perLane<Mask>([&](unsigned i) { return a.v[i] < b.v[i]; });
}
PEFT_INLINE Lanes select(Mask m, Lanes a, Lanes b) {
  return perLane<Lanes>([&](unsigned i) { return m.v[i] ? a.v[i] : b.v[i]; });
}

PEFT_INLINE Ints broadcastInts(int32_t x) {
  return perLane<Ints>([&](unsigned) { return x; });
}
PEFT_INLINE Ints operator+(Ints a, Ints b) {
  return perLane<Ints>([&](unsigned i) {
    return static_cast<int32_t>(static_cast<uint32_t>(a.v[i]) +
                                static_cast<uint32_t>(b.v[i]));
  });
}
PEFT_INLINE Ints operator-(Ints a, Ints b) {
  return perLane<Ints>([&](unsigned i) {
    return static_cast<int32_t>(static_cast<uint32_t>(a.v[i]) -
                                static_cast<uint32_t>(b.v[i]));
  });
}
PEFT_INLINE Ints operator&(Ints a, Ints b) {
  return perLane<Ints>([&](unsigned i) { return a.v[i] & b.v[i]; });
}
template <int count> PEFT_INLINE Ints shiftLeft(Ints a) {
  return perLane<Ints>([&](unsigned i) {
    return static_cast<int32_t>(static_cast<uint32_t>(a.v[i]) << count);
  });
}
/// Arithmetic: the sign is kept.
template <int count> PEFT_INLINE Ints shiftRight(Ints a) {
  return perLane<Ints>([&](unsigned i) { return a.v[i] >> count; });
}
PEFT_INLINE Mask lessEqual(Ints a, Ints b) {
  return perLane<Mask>([&](unsigned i) { return a.v[i] <= b.v[i]; });
}
PEFT_INLINE Mask equal(Ints a, Ints b) {
  return perLane<Mask>([&](unsigned i) { return a.v[i] == b.v[i]; });
}
PEFT_INLINE Mask operator&(Mask a, Mask b) {
  return perLane<Mask>([&](unsigned i) { return a.v[i] && b.v[i]; });
}
/// Lane i of the mask is bit i.
PEFT_INLINE Mask maskOfBits(uint16_t bits) {
  return perLane<Mask>([&](unsigned i) { return (bits >> i & 1) != 0; });
}
PEFT_INLINE Ints asInts(Lanes a) { return std::bit_cast<Ints>(a); }
PEFT_INLINE Lanes asLanes(Ints a) { return std::bit_cast<Lanes>(a); }
PEFT_INLINE Lanes toFloats(Ints a) {
  return perLane<Lanes>([&](unsigned i) { return static_cast<float>(a.v[i]); });
}

PEFT_INLINE Lanes load(const F32 *from) {
  Lanes r;
  std::memcpy(&r, from, sizeof r);
  return r;
}
PEFT_INLINE Lanes load(const BF16 *from) {
  uint16_t bits[laneCount];
  std::memcpy(bits, from, sizeof bits);
  return perLane<Lanes>([&](unsigned i) { return bfloatToFloat(bits[i]); });
}
PEFT_INLINE Lanes load(const F16 *from) {
  uint16_t bits[laneCount];
  std::memcpy(bits, from, sizeof bits);
  return perLane<Lanes>([&](unsigned i) { return halfToFloat(bits[i]); });
}
PEFT_INLINE Ints loadInts(const int32_t *from) {
  Ints r;
  std::memcpy(&r, from, sizeof r);
  return r;
}

PEFT_INLINE void store(F32 *to, Lanes value) {
  std::memcpy(to, &value, sizeof value);
}
PEFT_INLINE void store(BF16 *to, Lanes value) {
  uint16_t bits[laneCount];
  for (unsigned i = 0; i < laneCount; ++i)
    bits[i] = floatToBf16(value.v[i]);
  std::memcpy(to, bits, sizeof bits);
}
PEFT_INLINE void store(F16 *to, Lanes value) {
  uint16_t bits[laneCount];
  for (unsigned i = 0; i < laneCount; ++i)
    bits[i] = floatToHalf(value.v[i]);
  std::memcpy(to, bits, sizeof bits);
}
/// `value` rounded to bf16 or f16, as f32.
PEFT_INLINE Lanes roundAs(BF16, Lanes value) {
  return perLane<Lanes>(
      [&](unsigned i) { return bfloatToFloat(floatToBf16(value.v[i])); });
}
PEFT_INLINE Lanes roundAs(F16, Lanes value) {
  return perLane<Lanes>(
      [&](unsigned i) { return halfToFloat(floatToHalf(value.v[i])); });
}

/// Sixteen numbers to look up.
template <typename T> struct Table {
  Lanes numbers;
};
template <typename T> PEFT_INLINE Table<T> makeTable(Lanes numbers) {
  return {numbers};
}
/// The numbers of sixteen codes of 4 bits, the first in the high half of the
/// first byte.
template <typename T>
PEFT_INLINE void lookup(const Table<T> &table, const std::byte *codes, T *to) {
  store(to, perLane<Lanes>([&](unsigned i) {
          auto pair = static_cast<unsigned>(codes[i / 2]);
          return table.numbers.v[i % 2 ? pair & 15 : pair >> 4];
        }));
}
/// Sixteen signed bytes.
PEFT_INLINE Ints loadBytes(const std::byte *from) {
  return perLane<Ints>([&](unsigned i) {
    return static_cast<int32_t>(static_cast<int8_t>(from[i]));
  });
}

PEFT_INLINE float sum(Lanes a) {
  for (unsigned half = laneCount / 2; half; half /= 2)
    for (unsigned i = 0; i < half; ++i)
      a.v[i] = a.v[i] + a.v[i + half];
  return a.v[0];
}
PEFT_INLINE float largest(Lanes a) {
  for (unsigned half = laneCount / 2; half; half /= 2)
    for (unsigned i = 0; i < half; ++i)
      a.v[i] = a.v[i] > a.v[i + half] ? a.v[i] : a.v[i + half];
  return a.v[0];
}

} // namespace peft::cpu::PEFT_PATH

#endif // PEFT_CPU_LANESPLAIN_H
