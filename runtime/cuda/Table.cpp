//===- Table.cpp - which function runs a kernel ---------------------------===//
#include "cuda/Kernels.h"

#include <cassert>
#include <iterator>

namespace peft::cuda {

namespace {

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
#define KERNEL(name, summary) name,
constexpr KernelFunction functions[] = {
#include "../schema/kernels.def"
};
#include "peft/EndKernels.inc"

} // namespace

KernelFunction findFunction(size_t kernel) {
  assert(kernel < std::size(functions) && "kernels.def has no such kernel");
  return functions[kernel];
}

} // namespace peft::cuda
