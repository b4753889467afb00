//===- Math.h - exp, log, tanh, sin, cos as fixed fma sequences ----*- C++ -*-===//
//
// The same instructions on every path, hence the same bits; no libm call but
// the exactly rounded fma. f32 functions are within 2 ulp of the true value.
//
//===----------------------------------------------------------------------===//
#ifndef PEFT_CPU_MATH_H
#define PEFT_CPU_MATH_H

#include "Lanes.h"

#include <bit>
#include <cmath>

namespace peft::cpu::PEFT_PATH {

constexpr float log2e = 0x1.715476p+0f, ln2 = 0x1.62e430p-1f;

/// 1.5 x 2^23: adding it rounds to an integer, kept in the low bits.
constexpr float roundingShift = 12582912.0f;

/// 2^n for n in [-127, 128], given n + roundingShift; 2^-127 comes out as zero
/// and 2^128 as infinity.
PEFT_INLINE Lanes powerOfTwo(Lanes shifted) {
  return asLanes(shiftLeft<23>(asInts(shifted) + broadcastInts(127)));
}

/// e^x: infinity above 88.73, zero below -87.34 (denormals are flushed), NaN of
/// NaN.
PEFT_INLINE Lanes exp(Lanes x) {
  x = maximum(broadcast(-104.0f), minimum(broadcast(89.0f), x));
  Lanes shift = broadcast(roundingShift);
  Lanes shifted = fma(x, broadcast(log2e), shift), n = shifted - shift;
  Lanes r = fma(n, broadcast(-0x1.62e400p-1f), x);
  r = fma(n, broadcast(-0x1.7f7d1cp-20f), r);
  Lanes q = broadcast(0x1.6a2310p-10f);
  q = fma(q, r, broadcast(0x1.123a8ep-7f));
  q = fma(q, r, broadcast(0x1.5558f6p-5f));
  q = fma(q, r, broadcast(0x1.555490p-3f));
  q = fma(q, r, broadcast(0x1.fffffcp-2f));
  Lanes p = fma(r * r, q, r) + broadcast(1.0f);
  // n may leave the exponent range of one factor, so 2^n is two of them.
  Ints whole = asInts(shifted) - asInts(shift);
  Ints half = shiftRight<1>(whole);
  Lanes first = asLanes(shiftLeft<23>(half + broadcastInts(127)));
  Lanes second = asLanes(shiftLeft<23>(whole - half + broadcastInts(127)));
  return p * first * second;
}

/// 2^x for x up to 127; exactly zero below -126.5, NaN of NaN. Cheaper than
/// exp: the attention's inner loop.
PEFT_INLINE Lanes exp2(Lanes x) {
  x = maximum(broadcast(-127.0f), x);
  Lanes shift = broadcast(roundingShift);
  Lanes shifted = x + shift, f = x - (shifted - shift);
  Lanes q = broadcast(0x1.41fb2ap-13f);
  q = fma(q, f, broadcast(0x1.5f3f32p-10f));
  q = fma(q, f, broadcast(0x1.3b2d50p-7f));
  q = fma(q, f, broadcast(0x1.c6aee6p-5f));
  q = fma(q, f, broadcast(0x1.ebfbdcp-3f));
  q = fma(q, f, broadcast(0x1.62e430p-1f));
  return fma(q, f, broadcast(1.0f)) * powerOfTwo(shifted);
}

/// The natural logarithm of x > 0; -infinity of zero, x itself if it is
/// infinite or NaN, and meaningless for x < 0.
PEFT_INLINE Lanes log(Lanes x) {
  // x = 2^e m with m in [sqrt(1/2), sqrt(2)).
  Ints bits = asInts(x) - broadcastInts(0x3f3504f3);
  Lanes e = toFloats(shiftRight<23>(bits));
  Lanes f =
      asLanes((bits & broadcastInts(0x007fffff)) + broadcastInts(0x3f3504f3)) -
      broadcast(1.0f);
  Lanes q = broadcast(0x1.14414ep-4f);
  q = fma(q, f, broadcast(-0x1.de3322p-4f));
  q = fma(q, f, broadcast(0x1.e6f526p-4f));
  q = fma(q, f, broadcast(-0x1.fc23cep-4f));
  q = fma(q, f, broadcast(0x1.23373ap-3f));
  q = fma(q, f, broadcast(-0x1.555c40p-3f));
  q = fma(q, f, broadcast(0x1.99a4b6p-3f));
  q = fma(q, f, broadcast(-0x1.000006p-2f));
  q = fma(q, f, broadcast(0x1.555548p-2f));
  Lanes square = f * f;
  Lanes low = fma(e, broadcast(0x1.7f7d1cp-20f), q * f * square);
  low = fma(square, broadcast(-0.5f), low);
  Lanes r = fma(e, broadcast(0x1.62e400p-1f), f + low);
  float infinity = std::bit_cast<float>(0x7f800000u);
  r = select(less(x, broadcast(infinity)), r, x);
  return select(less(broadcast(0.0f), x), r,
                select(less(x, broadcast(0x1p-126f)), broadcast(-infinity), r));
}

/// tanh x, within 2 ulp also near zero; NaN of NaN.
PEFT_INLINE Lanes tanh(Lanes x) {
  Lanes z = x * x;
  Lanes q = broadcast(-0x1.75e1ccp-8f);
  q = fma(q, z, broadcast(0x1.52269ap-6f));
  q = fma(q, z, broadcast(-0x1.b83c5ap-5f));
  q = fma(q, z, broadcast(0x1.110726p-3f));
  q = fma(q, z, broadcast(-0x1.555532p-2f));
  Lanes small = fma(x * z, q, x);
  // A NaN is the second operand and stays.
  Lanes minus = broadcast(0.0f) - x, size = maximum(minus, x);
  Lanes large = broadcast(1.0f) -
                broadcast(2.0f) / (exp(size + size) + broadcast(1.0f));
  large = select(less(x, broadcast(0.0f)), broadcast(0.0f) - large, large);
  return select(less(size, broadcast(0.625f)), small, large);
}

struct SineCosine {
  double sine, cosine;
};

/// Both of an angle in radians, |angle| below 2^31, within 1e-15 of the true
/// values; NaN or infinity give NaN.
PEFT_INLINE SineCosine sineCosine(double angle) {
  // The multiple of pi/2 nearest to the angle, taken off in three parts.
  constexpr double shift = 0x1.8p52;
  double shifted = std::fma(angle, 0x1.45f306dc9c883p-1, shift);
  double n = shifted - shift;
  double r = std::fma(n, -0x1.921fb54442d18p+0, angle);
  r = std::fma(n, -0x1.1a62633145c07p-54, r);
  double z = r * r;
  double s = -0x1.ae7f3e733b81fp-41;
  s = std::fma(s, z, 0x1.6124613a86d09p-33);
  s = std::fma(s, z, -0x1.ae64567f544e4p-26);
  s = std::fma(s, z, 0x1.71de3a556c734p-19);
  s = std::fma(s, z, -0x1.a01a01a01a01ap-13);
  s = std::fma(s, z, 0x1.1111111111111p-7);
  s = std::fma(s, z, -0x1.5555555555555p-3);
  double sine = std::fma(s * z, r, r);
  double c = 0x1.ae7f3e733b81fp-45;
  c = std::fma(c, z, -0x1.93974a8c07c9dp-37);
  c = std::fma(c, z, 0x1.1eed8eff8d898p-29);
  c = std::fma(c, z, -0x1.27e4fb7789f5cp-22);
  c = std::fma(c, z, 0x1.a01a01a01a01ap-16);
  c = std::fma(c, z, -0x1.6c16c16c16c17p-10);
  c = std::fma(c, z, 0x1.5555555555555p-5);
  c = std::fma(c, z, -0.5);
  double cosine = std::fma(c, z, 1.0);
  uint64_t quarter = std::bit_cast<uint64_t>(shifted) & 3;
  double a = quarter & 1 ? cosine : sine, b = quarter & 1 ? sine : cosine;
  return {quarter & 2 ? -a : a, (quarter + 1) & 2 ? -b : b};
}

} // namespace peft::cpu::PEFT_PATH

#endif // PEFT_CPU_MATH_H
