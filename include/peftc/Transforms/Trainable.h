//===- Trainable.h - what becoming trainable means --------------*- C++ -*-===//
#ifndef PEFTC_TRANSFORMS_TRAINABLE_H
#define PEFTC_TRANSFORMS_TRAINABLE_H

#include "peftc/Dialect/NN/NN.h"

namespace peftc {

/// Fails with an error on `param` if it is stored as codes.
mlir::LogicalResult checkTrainable(nn::ParamOp param);

/// Turns a frozen parameter into an f32 master that remembers the element type
/// it is stored in; vectors (biases, norm weights) are exempt from decay.
void makeTrainable(nn::ParamOp param);

} // namespace peftc

#endif // PEFTC_TRANSFORMS_TRAINABLE_H
