#ifndef PEFTC_DIALECT_NN_NNINTERFACES
#define PEFTC_DIALECT_NN_NNINTERFACES

include "mlir/IR/OpBase.td"

def NN_Differentiable : OpInterface<"Differentiable"> {
  let cppNamespace = "::peftc::nn";
  let description = [{
    An op of the forward direction that knows its own backward rule. The rule
    reads the gradient of its results from `context`, adds to those of its
    operands (continuing a partial sum where its kernel can), and adds to the
    gradient sums of its trainable parameters. It builds nothing that
    `context.needsGradient` does not ask for.
  }];
  let methods = [
    InterfaceMethod<"Builds the backward ops of this op at `builder`.", "void",
      "buildBackward", (ins "::mlir::OpBuilder &":$builder,
                            "::peftc::nn::BackwardContext &":$context)>,
    InterfaceMethod<"The parameters this op reads, by symbol name.",
      "::llvm::SmallVector<::mlir::StringRef>", "getParameters", (ins)>
  ];
}

def NN_Specializable : OpInterface<"Specializable"> {
  let cppNamespace = "::peftc::nn";
  let description = [{
    An op whose result types follow from its operands' types and the compute
    type. `peft-specialize-model` calls it in program order after the entry
    arguments got their static shapes.
  }];
  let methods = [
    InterfaceMethod<"Sets the result types from the operands' types.", "void",
      "specialize", (ins "::mlir::Type":$computeType)>
  ];
}

def NN_Costed : OpInterface<"Costed"> {
  let cppNamespace = "::peftc::nn";
  let description = [{
    An op that knows what one execution costs, from its static shapes.
  }];
  let methods = [
    InterfaceMethod<"Floating-point operations.", "uint64_t", "getFlops", (ins)>,
    InterfaceMethod<"Bytes read and written, parameters included.", "uint64_t",
      "getBytes", (ins)>
  ];
}

#endif
