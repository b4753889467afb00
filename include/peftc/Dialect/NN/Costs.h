//===- Costs.h - what ops cost are made of ----------------------*- C++ -*-===//
#ifndef PEFTC_DIALECT_NN_COSTS_H
#define PEFTC_DIALECT_NN_COSTS_H

#include "peftc/Dialect/NN/NN.h"

namespace peftc::nn {

/// Elements of a tensor value; 0 while its shape is dynamic.
uint64_t elementsOf(mlir::Value value);

/// Bytes of a tensor; 0 while its shape is dynamic.
uint64_t bytesOf(mlir::RankedTensorType type);

/// Bytes of the operands, the results and `parameters` of `op`.
uint64_t bytesTouched(mlir::Operation *op,
                      llvm::ArrayRef<llvm::StringRef> parameters);

} // namespace peftc::nn

#endif // PEFTC_DIALECT_NN_COSTS_H
