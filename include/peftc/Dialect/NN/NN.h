//===- NN.h - the nn dialect ------------------------------------*- C++ -*-===//
//
// Layers, their gradients and the training step. See NNOps.td.
//
//===----------------------------------------------------------------------===//
#ifndef PEFTC_DIALECT_NN_NN_H
#define PEFTC_DIALECT_NN_NN_H

#include "peftc/Dialect/QW/QW.h"

#include "mlir/Bytecode/BytecodeOpInterface.h"
#include "mlir/IR/Builders.h"
#include "mlir/IR/BuiltinTypes.h"
#include "mlir/IR/Dialect.h"
#include "mlir/IR/OpDefinition.h"
#include "mlir/IR/OpImplementation.h"
#include "mlir/IR/SymbolTable.h"
#include "mlir/Interfaces/SideEffectInterfaces.h"

namespace peftc::nn {
class BackwardContext;
} // namespace peftc::nn

#include "peftc/Dialect/NN/NNInterfaces.h.inc"

#include "peftc/Dialect/NN/NNDialect.h.inc"

#define GET_OP_CLASSES
#include "peftc/Dialect/NN/NNOps.h.inc"

namespace peftc::nn {

/// The type of `result` with the leading dimensions of `operand` and element
/// type `element`; the last dimension stays. What `Specializable` ops are made
/// of.
mlir::RankedTensorType specializedLike(mlir::Value operand, mlir::Value result,
                                       mlir::Type element);

/// The parameter `name` as seen from `user`, or null after an error on `user`.
/// `shape` is what the use needs; -1 accepts any extent.
ParamOp verifyParameterUse(mlir::Operation *user,
                           mlir::SymbolTableCollection &symbols,
                           mlir::FlatSymbolRefAttr name,
                           llvm::ArrayRef<int64_t> shape);

/// Fails with an error on `op` unless both have the same rank and the same
/// leading dimensions.
mlir::LogicalResult verifySameRows(mlir::Operation *op, mlir::Value a,
                                   mlir::Value b, llvm::StringRef what);

/// The extent of the last dimension.
inline int64_t features(mlir::Value value) {
  return llvm::cast<mlir::RankedTensorType>(value.getType()).getShape().back();
}

} // namespace peftc::nn

#endif // PEFTC_DIALECT_NN_NN_H
