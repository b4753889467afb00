//===- Multiply.cpp - products in the emulation ---------------------------===//
#include "cuda/library/Multiply.h"

namespace peft::cuda {

// Nothing else in this file: a test that has a library of its own defines it
// too, and then this one is not linked.
Status multiply(const Call &call, const Product &product,
                const LibraryArea &area) {
  return multiplyPlain(call, product, area);
}

} // namespace peft::cuda
