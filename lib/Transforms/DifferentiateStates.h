//===- DifferentiateStates.h - states of a step and its update --*- C++ -*-===//
//
// Private to peft-differentiate.
//
//===----------------------------------------------------------------------===//
#ifndef PEFTC_TRANSFORMS_DIFFERENTIATESTATES_H
#define PEFTC_TRANSFORMS_DIFFERENTIATESTATES_H

#include "DifferentiateGradients.h"

namespace peftc {

/// Declares every nn.state of a step: sums, run-time scalars, outputs, and for
/// each trainable parameter its gradient sums and moments.
void buildStates(mlir::OpBuilder &builder, const GradientSums &sums,
                 int64_t batch, int64_t vocab);

/// Appends `update`: merges the sums of parameters with several uses, takes
/// the global norm, turns sums into metrics, applies AdamW, clears gradients.
void buildUpdate(mlir::ModuleOp module, const GradientSums &sums);

} // namespace peftc

#endif // PEFTC_TRANSFORMS_DIFFERENTIATESTATES_H
