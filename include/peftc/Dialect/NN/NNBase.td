#ifndef PEFTC_DIALECT_NN_NNBASE
#define PEFTC_DIALECT_NN_NNBASE

include "mlir/IR/OpBase.td"
include "mlir/IR/SymbolInterfaces.td"
include "mlir/Interfaces/SideEffectInterfaces.td"
include "peftc/Dialect/QW/QWTypes.td"

def NN_Dialect : Dialect {
  let name = "nn";
  let summary = "the layers of a language model, their gradients, and the training step";
  let description = [{
    Parameters are symbols with the name their tensor has in the model
    directory; activations are SSA tensors `[batch, seq, features]`. The
    residual stream is f32 in every compute type; other activations have the
    compute type. Ops of the forward direction implement `Differentiable`; the
    ops that `peft-differentiate` builds (`linear_dx`, `linear_dw`, ...) read
    and write gradient sums, which are `nn.state` symbols.
  }];
  let cppNamespace = "::peftc::nn";
  let dependentDialects = ["::peftc::qw::QWDialect"];
}

class NN_Op<string mnemonic, list<Trait> traits = []>
    : Op<NN_Dialect, mnemonic, traits>;

def NN_Float : AnyTypeOf<[F32, BF16, F16]>;
// Every tensor has at least one dimension, the features or the rows.
class NN_TensorOf<list<Type> elements>
    : RankedTensorOf<elements, [HasRankGreaterOrEqualPred<1>], "ranked tensor">;
def NN_Activation : NN_TensorOf<[F32, BF16, F16]>;
def NN_Sum : NN_TensorOf<[F32]>;
def NN_Integers : NN_TensorOf<[I32]>;
// What has bytes of its own has a static shape.
def NN_ParamType : StaticShapeTensorOf<[F32, BF16, F16, QW_Any]>;
def NN_StateType : StaticShapeTensorOf<[F32, F64, I32, I64, UI8]>;

#endif
