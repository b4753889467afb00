//===- ForwardPass.h - the forward ops of a step, by layer ------*- C++ -*-===//
//
// Pure functions over a function of the step stage: where its forward pass ends
// and which layer an op belongs to. Both are read off the IR, so any pass that
// decides about forward values can ask.
//
//===----------------------------------------------------------------------===//
#ifndef PEFTC_ANALYSIS_FORWARDPASS_H
#define PEFTC_ANALYSIS_FORWARDPASS_H

#include "mlir/Dialect/Func/IR/FuncOps.h"

#include <string>

namespace peftc {

/// The Hugging Face module that `op` belongs to: the name in its location, or
/// the op's own name where it has none.
std::string moduleOf(mlir::Operation *op);

/// The layer that `op` belongs to: its module up to the first part that is a
/// number (`model.layers.7`), or "" for ops outside the layers.
std::string layerOf(mlir::Operation *op);

/// The ops of `function` in front of the first that is no op of a model: in
/// micro_step the body, up to the loss.
llvm::SmallVector<mlir::Operation *> forwardOps(mlir::func::FuncOp function);

} // namespace peftc

#endif // PEFTC_ANALYSIS_FORWARDPASS_H
