//===- FlushDenormals.h - how this thread treats f32 denormals --*- C++ -*-===//
#ifndef PEFT_CPU_FLUSHDENORMALS_H
#define PEFT_CPU_FLUSHDENORMALS_H

#include <xmmintrin.h>

namespace peft::cpu {

/// While it lives, the calling thread takes f32 and f64 denormals for zeros and
/// makes none. Conversions from and to f16 keep f16 denormals all the same.
class FlushDenormals {
public:
  FlushDenormals() : before(_mm_getcsr()) {
    _mm_setcsr(before | flushToZero | denormalsAreZero);
  }
  ~FlushDenormals() { _mm_setcsr(before); }
  FlushDenormals(const FlushDenormals &) = delete;
  FlushDenormals &operator=(const FlushDenormals &) = delete;

private:
  /// Bits of MXCSR.
  static constexpr unsigned flushToZero = 0x8000, denormalsAreZero = 0x0040;

  unsigned before;
};

} // namespace peft::cpu

#endif // PEFT_CPU_FLUSHDENORMALS_H
