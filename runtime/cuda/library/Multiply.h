//===- Multiply.h - a product of two matrices by a library ------*- C++ -*-===//
#ifndef PEFT_CUDA_LIBRARY_MULTIPLY_H
#define PEFT_CUDA_LIBRARY_MULTIPLY_H

#include "Linear.h"

namespace peft::cuda {

/// Enqueues a product on the call's stream: by cuBLASLt on a card, by
/// multiplyPlain in the emulation. The library does not know the call's gate; whatever
/// enqueues a predicated call sees to that. Errors: internal.
Status multiply(const Call &call, const Product &product,
                const LibraryArea &area);

/// The same by our own kernel, for shapes that the library has no algorithm for.
Status multiplyPlain(const Call &call, const Product &product,
                     const LibraryArea &area);

} // namespace peft::cuda

#endif // PEFT_CUDA_LIBRARY_MULTIPLY_H
