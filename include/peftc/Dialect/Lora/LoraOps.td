#ifndef PEFTC_DIALECT_LORA_LORAOPS
#define PEFTC_DIALECT_LORA_LORAOPS

include "peftc/Dialect/NN/NNBase.td"
include "peftc/Dialect/NN/NNInterfaces.td"

def Lora_Dialect : Dialect {
  let name = "lora";
  let summary = "low-rank adapters";
  let description = [{
    Hu et al., "LoRA", 2021, as PEFT defines it: y = x W^T + s (drop(x) A^T) B^T
    with A `[rank, in]`, B `[out, rank]` and s = alpha/rank, or alpha/sqrt(rank)
    with rsLoRA. `lora.linear` stays one op until the conversion to a plan, so a
    kernel can fuse it.
  }];
  let cppNamespace = "::peftc::lora";
  let dependentDialects = ["::peftc::nn::NNDialect"];
}

class Lora_Op<string mnemonic, list<Trait> traits = []>
    : Op<Lora_Dialect, mnemonic, traits>;

def Lora_LinearOp : Lora_Op<"linear", [Pure,
    DeclareOpInterfaceMethods<NN_Differentiable>,
    DeclareOpInterfaceMethods<NN_Specializable>,
    DeclareOpInterfaceMethods<NN_Costed>,
    DeclareOpInterfaceMethods<SymbolUserOpInterface>]> {
  let summary = "a linear with an adapter";
  let description = [{
    `projection` is t = scale (drop(x) A^T), `[..., rank]`, in the compute type;
    `result` is x W^T + bias + residual + t B^T, one f32 sum, rounded once.
    `dropout` 0 means none; `module` is the Hugging Face path, whose hash keys
    the dropout's random numbers.
  }];
  let arguments = (ins NN_Activation:$input, FlatSymbolRefAttr:$weight,
                       OptionalAttr<FlatSymbolRefAttr>:$bias,
                       FlatSymbolRefAttr:$a, FlatSymbolRefAttr:$b,
                       Optional<NN_Sum>:$residual,
                       F64Attr:$scale, DefaultValuedAttr<F64Attr, "0.0">:$dropout,
                       StrAttr:$module);
  let results = (outs NN_Activation:$result, NN_Activation:$projection);
  let assemblyFormat = [{
    $input `,` $weight (`bias` $bias^)? `a` $a `b` $b (`residual` `(` $residual^ `:` type($residual) `)`)? attr-dict
    `:` type($input) `->` type($result) `,` type($projection)
  }];
  let hasVerifier = 1;
}

def Lora_DownOp : Lora_Op<"down", [Pure]> {
  let summary = "t = scale (drop(x) A^T), without the rest of lora.linear";
  let description = "What backward needs of a `lora.linear` whose projection was not kept and whose result nobody reads again. Has no gradient.";
  let arguments = (ins NN_Activation:$input, FlatSymbolRefAttr:$a, F64Attr:$scale,
                       DefaultValuedAttr<F64Attr, "0.0">:$dropout, StrAttr:$module);
  let results = (outs NN_Activation:$projection);
  let assemblyFormat = "$input `,` $a attr-dict `:` type($input) `->` type($projection)";
}

def Lora_LinearDxOp : Lora_Op<"linear_dx", [Pure]> {
  let summary = "dX = init + mask(dT A) + dY W";
  let description = "The gradient of `lora.linear`'s input; the dropout mask is drawn again from the same numbers.";
  let arguments = (ins NN_Activation:$dy, FlatSymbolRefAttr:$weight,
                       NN_Activation:$dt, FlatSymbolRefAttr:$a, Optional<NN_Sum>:$init,
                       DefaultValuedAttr<F64Attr, "0.0">:$dropout, StrAttr:$module);
  let results = (outs NN_Activation:$dx);
  let assemblyFormat = "$dy `,` $weight `,` $dt `,` $a (`init` `(` $init^ `:` type($init) `)`)? attr-dict `:` type($dy) `,` type($dt) `->` type($dx)";
}

def Lora_DownDwOp : Lora_Op<"down_dw"> {
  let summary = "gradient += dT^T drop(X), rows ascending";
  let description = "The gradient of A, `[rank, in]`, f32. dT already contains the scale.";
  let arguments = (ins NN_Activation:$dt, NN_Activation:$input, FlatSymbolRefAttr:$gradient,
                       DefaultValuedAttr<F64Attr, "0.0">:$dropout, StrAttr:$module);
  let assemblyFormat = "$dt `,` $input `into` $gradient attr-dict `:` type($dt) `,` type($input)";
}

#endif
