//===- DifferentiateGradients.h - who has which gradient --------*- C++ -*-===//
//
// The keeper of gradients that backward rules talk to, and the numbering of
// gradient sums. Private to peft-differentiate.
//
//===----------------------------------------------------------------------===//
#ifndef PEFTC_TRANSFORMS_DIFFERENTIATEGRADIENTS_H
#define PEFTC_TRANSFORMS_DIFFERENTIATEGRADIENTS_H

#include "peftc/Dialect/NN/BackwardContext.h"
#include "peftc/Dialect/NN/NN.h"

#include "mlir/IR/BuiltinOps.h"
#include "llvm/ADT/DenseMap.h"
#include "llvm/ADT/DenseSet.h"
#include "llvm/ADT/StringMap.h"

namespace peftc {

/// The trainable parameters of a model and the states that collect their
/// gradients: one per *use*, numbered in program order of @body, then @head.
class GradientSums {
public:
  /// Finds the trainable parameters of `module`, in order.
  explicit GradientSums(mlir::ModuleOp module);

  /// Gives each use of a trainable parameter by `op` its sum.
  void addUses(mlir::Operation *op);

  bool isTrainable(llvm::StringRef parameter) const {
    return sumsOf.contains(parameter);
  }
  /// The sum of `parameter` at its use by the model's op `use`, or null.
  mlir::FlatSymbolRefAttr at(mlir::Operation *use, llvm::StringRef parameter);

  llvm::ArrayRef<nn::ParamOp> parameters() const { return trainable; }
  /// The names of the parameter's sums, in order of use; empty if unused.
  llvm::ArrayRef<std::string> sums(nn::ParamOp parameter) const;

private:
  llvm::SmallVector<nn::ParamOp> trainable;
  llvm::StringMap<llvm::SmallVector<std::string, 1>> sumsOf;
  llvm::DenseMap<std::pair<mlir::Operation *, mlir::Attribute>,
                 mlir::FlatSymbolRefAttr>
      byUse;
};

/// A copy of the model's forward ops inside one entry point or chunk.
struct Tape {
  /// The copies, in order, and the op of the model each was made from.
  llvm::SmallVector<std::pair<mlir::Operation *, mlir::Operation *>> ops;
  mlir::Value result;
};

/// Activity analysis and gradients of one tape.
class TapeGradients final : public nn::BackwardContext {
public:
  /// `activeInputs` are values whose gradient is wanted although no parameter
  /// of this tape lies above them.
  TapeGradients(const Tape &tape, GradientSums &sums,
                mlir::ValueRange activeInputs = {});

  /// Runs the backward rules in reverse order at `builder`.
  void buildBackward(mlir::OpBuilder &builder);

  mlir::Value gradient(mlir::Value result) override {
    return partials.lookup(result);
  }
  bool needsGradient(mlir::Value value) override {
    return active.contains(value);
  }
  mlir::Value partial(mlir::Value value) override {
    return partials.lookup(value);
  }
  void setPartial(mlir::Value value, mlir::Value sum) override {
    partials[value] = sum;
  }
  mlir::Type gradientType(mlir::Value value) override;
  mlir::FlatSymbolRefAttr gradientSum(mlir::Operation *op,
                                      llvm::StringRef parameter) override;

private:
  const Tape &tape;
  GradientSums &sums;
  llvm::DenseSet<mlir::Value> active;
  llvm::DenseMap<mlir::Value, unsigned> consumers;
  llvm::DenseMap<mlir::Value, mlir::Value> partials;
  llvm::DenseMap<mlir::Operation *, mlir::Operation *> modelOp;
};

} // namespace peftc

#endif // PEFTC_TRANSFORMS_DIFFERENTIATEGRADIENTS_H
