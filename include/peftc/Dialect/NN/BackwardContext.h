//===- BackwardContext.h - what a backward rule may ask ---------*- C++ -*-===//
//
// `peft-differentiate` walks the forward ops in reverse and calls
// Differentiable::buildBackward of each. The rule sees gradients through this
// interface only, so it does not know who keeps them.
//
//===----------------------------------------------------------------------===//
#ifndef PEFTC_DIALECT_NN_BACKWARDCONTEXT_H
#define PEFTC_DIALECT_NN_BACKWARDCONTEXT_H

#include "mlir/IR/BuiltinAttributes.h"
#include "mlir/IR/Value.h"

namespace peftc::nn {

class BackwardContext {
public:
  virtual ~BackwardContext() = default;

  /// The complete gradient of a result; null if nothing gave it one.
  virtual mlir::Value gradient(mlir::Value result) = 0;

  /// Whether a trainable parameter lies above `value`, so that its gradient has
  /// to be built.
  virtual bool needsGradient(mlir::Value value) = 0;

  /// The sum of what other uses of `value` gave so far; null if none did. A
  /// rule whose kernel can continue a sum passes it as `init`.
  virtual mlir::Value partial(mlir::Value value) = 0;

  /// Replaces the sum so far by `sum`, which contains it.
  virtual void setPartial(mlir::Value value, mlir::Value sum) = 0;

  /// The type that the gradient of `value` has: f32 if the value is f32 or has
  /// more than one consumer that gives it a gradient, else the compute type.
  virtual mlir::Type gradientType(mlir::Value value) = 0;

  /// The nn.state that collects the gradient of `parameter` at its use by
  /// `op`; null if the parameter is frozen.
  virtual mlir::FlatSymbolRefAttr gradientSum(mlir::Operation *op,
                                              llvm::StringRef parameter) = 0;
};

} // namespace peftc::nn

#endif // PEFTC_DIALECT_NN_BACKWARDCONTEXT_H
