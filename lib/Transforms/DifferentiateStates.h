//===- DifferentiateStates.h - states of a step and its update --*- C++ -*-===//
//
// Private to peft-differentiate.
//
//===----------------------------------------------------------------------===//
#ifndef PEFTC_TRANSFORMS_DIFFERENTIATESTATES_H
#define PEFTC_TRANSFORMS_DIFFERENTIATESTATES_H

#include "DifferentiateGradients.h"

namespace peftc {

/// Whether gradients are multiplied by a loss scale: f16 has too few exponents
/// for small ones, bf16 has those of f32.
inline bool isLossScaled(mlir::Type compute) { return compute.isF16(); }

/// Declares every nn.state of a step: sums, run-time scalars, outputs, the loss
/// scale in f16, and for each trainable parameter its gradient sums and
/// moments.
/// With `coded`, moments of large tensors are 8-bit codes with the magnitudes of
/// their blocks.
void buildStates(mlir::OpBuilder &builder, const GradientSums &sums,
                 int64_t batch, int64_t vocab, mlir::Type compute, bool coded);

/// Appends `update`: merges the sums of parameters with several uses, takes
/// the global norm, turns sums into metrics, applies AdamW, clears gradients.
void buildUpdate(mlir::ModuleOp module, const GradientSums &sums,
                 mlir::Type compute, bool coded);

} // namespace peftc

#endif // PEFTC_TRANSFORMS_DIFFERENTIATESTATES_H
