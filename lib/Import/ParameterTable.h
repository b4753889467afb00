//===- ParameterTable.h - tensors of a model as nn.params -------*- C++ -*-===//
#ifndef PEFTC_LIB_IMPORT_PARAMETERTABLE_H
#define PEFTC_LIB_IMPORT_PARAMETERTABLE_H

#include "peft/ModelConfig.h"
#include "peft/ModelDirectory.h"
#include "peft/QuantizedTensor.h"

#include "peftc/Dialect/NN/NN.h"

#include "llvm/ADT/StringMap.h"
#include "llvm/ADT/StringSet.h"

namespace peftc {

/// Declares one nn.param per tensor that the model uses and checks each against
/// the headers of the weights. Errors are collected, so that a family's code
/// reads as plain dataflow; `finish` reports the first of them.
class ParameterTable {
public:
  /// Both references must outlive the table.
  ParameterTable(mlir::MLIRContext *context, const peft::ModelDirectory &model,
                 const peft::ModelConfig &config);

  /// Parameters are declared before `op`, in order of first use.
  void insertBefore(mlir::Operation *op) { builder.setInsertionPoint(op); }

  /// The parameter for tensor `name` of `shape`, made at its first use.
  nn::ParamOp get(const std::string &name, llvm::ArrayRef<int64_t> shape);

  /// The first error; else checks that every tensor of the files was used.
  peft::Status finish();

private:
  std::string storedName(const std::string &name) const;
  mlir::Type storedType(const std::string &name, llvm::ArrayRef<int64_t> shape);
  mlir::Type promisedType(const std::string &name,
                          llvm::ArrayRef<int64_t> shape);
  mlir::Type quantizedType(const peft::QuantizedTensor &tensor,
                           llvm::ArrayRef<int64_t> shape);
  void fail(peft::Status status);
  bool cannotMatter(llvm::StringRef name) const;

  mlir::OpBuilder builder;
  const peft::ModelDirectory &model;
  const peft::ModelConfig &config;
  bool olderNames = false; ///< of a text model inside another
  llvm::StringSet<> used;  ///< tensors of the files
  llvm::StringMap<nn::ParamOp> params;
  llvm::StringSet<> parts; ///< tensors that belong to a quantized one
  peft::Status error;
};

} // namespace peftc

#endif // PEFTC_LIB_IMPORT_PARAMETERTABLE_H
