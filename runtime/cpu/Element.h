//===- Element.h - stored elements at any byte address ----------*- C++ -*-===//
//
// A mapped safetensors file promises no alignment, so elements in memory are
// byte arrays: pointers to them count in elements and are never dereferenced as
// numbers. Lanes.h loads and stores them.
//
//===----------------------------------------------------------------------===//
#ifndef PEFT_CPU_ELEMENT_H
#define PEFT_CPU_ELEMENT_H

#include "Call.h"

#include <cstring>
#include <initializer_list>

namespace peft::cpu {

struct F32 {
  unsigned char bytes[4];
};
struct BF16 {
  unsigned char bytes[2];
};
struct F16 {
  unsigned char bytes[2];
};

/// Calls `body` with a value of the element type that stands for `type`, which
/// kernels.def has limited to the three.
template <typename Body>
[[gnu::always_inline]] inline void withElement(DType type, const Body &body) {
  if (type == DType::f32)
    body(F32());
  else if (type == DType::bf16)
    body(BF16());
  else
    body(F16());
}

/// Where several operands are "f32|C": calls `body` with the 16-bit type among
/// `types`, of which a launch has one. Each operand then is of that type or
/// f32, which withFloat tells apart, so no code is made for mixtures that a
/// launch cannot have.
template <typename Body>
[[gnu::always_inline]] inline void withHalf(std::initializer_list<DType> types,
                                            const Body &body) {
  for (DType type : types)
    if (type == DType::f16)
      return body(F16());
  body(BF16());
}

template <typename Half, typename Body>
[[gnu::always_inline]] inline void withFloat(DType type, Half half,
                                             const Body &body) {
  if (type == DType::f32)
    body(F32());
  else
    body(half);
}

/// Rows [0, m) of a launch that its optional `count` and its row_start leave.
[[gnu::always_inline]] inline uint64_t
limitedRows(uint64_t rows, const Operand &count, int64_t rowStart) {
  if (!count)
    return rows;
  int64_t left = int64_t(*count.as<int32_t>()) - rowStart;
  if (left <= 0)
    return 0;
  return uint64_t(left) < rows ? uint64_t(left) : rows;
}

} // namespace peft::cpu

#endif // PEFT_CPU_ELEMENT_H
