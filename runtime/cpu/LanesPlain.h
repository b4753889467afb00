//===- LanesPlain.h - Lanes as an array: the reference ----------*- C++ -*-===//
#ifndef PEFT_CPU_LANESPLAIN_H
#define PEFT_CPU_LANESPLAIN_H

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
  return perLane<Lanes>([&](unsigned i) {
    return std::bit_cast<float>(static_cast<uint32_t>(bits[i]) << 16);
  });
}
PEFT_INLINE float floatOfHalf(uint16_t half) {
  uint32_t sign = static_cast<uint32_t>(half & 0x8000) << 16;
  uint32_t exponent = half >> 10 & 31, fraction = half & 1023;
  if (exponent == 0) {
    float magnitude = static_cast<float>(fraction) * 0x1p-24f;
    return std::bit_cast<float>(std::bit_cast<uint32_t>(magnitude) | sign);
  }
  if (exponent == 31)
    return std::bit_cast<float>(sign | 0x7f800000u | fraction << 13 |
                                (fraction ? 0x400000u : 0u));
  return std::bit_cast<float>(sign | (exponent + 112) << 23 | fraction << 13);
}
PEFT_INLINE Lanes load(const F16 *from) {
  uint16_t bits[laneCount];
  std::memcpy(bits, from, sizeof bits);
  return perLane<Lanes>([&](unsigned i) { return floatOfHalf(bits[i]); });
}
PEFT_INLINE Ints loadInts(const int32_t *from) {
  Ints r;
  std::memcpy(&r, from, sizeof r);
  return r;
}

PEFT_INLINE void store(F32 *to, Lanes value) {
  std::memcpy(to, &value, sizeof value);
}
PEFT_INLINE uint16_t bf16Bits(float value) {
  uint32_t bits = std::bit_cast<uint32_t>(value);
  uint32_t magnitude = bits & 0x7fffffffu;
  if (magnitude > 0x7f800000u)
    return static_cast<uint16_t>(bits >> 16 | 0x40u);
  if (magnitude < 0x00800000u)
    return static_cast<uint16_t>(bits >> 16 & 0x8000u);
  return static_cast<uint16_t>((bits + 0x7fffu + (bits >> 16 & 1)) >> 16);
}
PEFT_INLINE void store(BF16 *to, Lanes value) {
  uint16_t bits[laneCount];
  for (unsigned i = 0; i < laneCount; ++i)
    bits[i] = bf16Bits(value.v[i]);
  std::memcpy(to, bits, sizeof bits);
}
/// `value` rounded to bf16, as f32.
PEFT_INLINE Lanes roundToBF16(Lanes value) {
  return perLane<Lanes>([&](unsigned i) {
    return std::bit_cast<float>(static_cast<uint32_t>(bf16Bits(value.v[i]))
                                << 16);
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
