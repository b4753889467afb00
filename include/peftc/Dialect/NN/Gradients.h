//===- Gradients.h - what backward rules are made of ------------*- C++ -*-===//
//
// Shared by the backward rules of every dialect.
//
//===----------------------------------------------------------------------===//
#ifndef PEFTC_DIALECT_NN_GRADIENTS_H
#define PEFTC_DIALECT_NN_GRADIENTS_H

#include "peftc/Dialect/NN/BackwardContext.h"
#include "peftc/Dialect/NN/NN.h"

#include "mlir/IR/TypeUtilities.h"

namespace peftc::nn {

/// `value` with element type `element`: itself, or an nn.cast of it.
mlir::Value roundTo(mlir::OpBuilder &builder, mlir::Location loc,
                    mlir::Value value, mlir::Type element);

/// Adds `gradient` to what other uses of `value` gave (nn.add), or makes it the
/// first part. For rules whose kernel cannot continue a sum by itself.
void addGradient(mlir::OpBuilder &builder, mlir::Location loc,
                 BackwardContext &context, mlir::Value value,
                 mlir::Value gradient);

} // namespace peftc::nn

#endif // PEFTC_DIALECT_NN_GRADIENTS_H
