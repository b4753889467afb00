//===- Kernels.h - the function of every kernel -----------------*- C++ -*-===//
//
// One function per kernel of kernels.def, peft::cuda::<kernel>. Table.cpp names
// all of them, so a missing one fails at link.
//
//===----------------------------------------------------------------------===//
#ifndef PEFT_CUDA_KERNELS_H
#define PEFT_CUDA_KERNELS_H

#include "cuda/Call.h"

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
#define KERNEL(name, summary) Status name(const Call &call);
namespace peft::cuda {
#include "../schema/kernels.def"
} // namespace peft::cuda
#include "peft/EndKernels.inc"

#endif // PEFT_CUDA_KERNELS_H
