//===- Kernels.h - the functions of every path ------------------*- C++ -*-===//
//
// One function per kernel of kernels.def and per path, called
// peft::cpu::<path>::<kernel>. Table.cpp names all of them, so a missing one
// fails at link.
//
//===----------------------------------------------------------------------===//
#ifndef PEFT_CPU_KERNELS_H
#define PEFT_CPU_KERNELS_H

#include "Call.h"

#define IN(name, shape, types)
#define OPTIONAL_IN(name, shape, types)
#define OUT(name, shape, types)
#define OPTIONAL_OUT(name, shape, types)
#define INOUT(name, shape, types)
#define ATTRIBUTES
#define INTEGER(name, byDefault, least, most)
#define FLOAT(name, byDefault, least, most)
#define FLOATS(name)
#define REQUIRE(text, condition)
#define WORKSPACE(shared, thread)
#define CUDA_WORKSPACE(bytes)
#define END_KERNEL(name)
#define KERNEL(name, summary)                                                  \
  namespace plain {                                                            \
  Fault name(const Call &call);                                                \
  }                                                                            \
  namespace avx2 {                                                             \
  Fault name(const Call &call);                                                \
  }                                                                            \
  namespace avx512 {                                                           \
  Fault name(const Call &call);                                                \
  }                                                                            \
  namespace avx512bf16 {                                                       \
  Fault name(const Call &call);                                                \
  }
namespace peft::cpu {
#include "../schema/kernels.def"
} // namespace peft::cpu
#include "peft/EndKernels.inc"

#endif // PEFT_CPU_KERNELS_H
