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
    the dropout's random numbers. Where A and B are joined from trained factors
    and frozen ones (PiSSA and OLoRA: B A - B0 A0 in one product of twice the
    rank), `trains` names the trained ones, which come first.
  }];
  let arguments = (ins NN_Activation:$input, FlatSymbolRefAttr:$weight,
                       OptionalAttr<FlatSymbolRefAttr>:$bias,
                       FlatSymbolRefAttr:$a, FlatSymbolRefAttr:$b,
                       OptionalAttr<FlatSymbolRefAttr>:$trainedA,
                       OptionalAttr<FlatSymbolRefAttr>:$trainedB,
                       Optional<NN_Sum>:$residual,
                       F64Attr:$scale, DefaultValuedAttr<F64Attr, "0.0">:$dropout,
                       StrAttr:$module);
  let results = (outs NN_Activation:$result, NN_Activation:$projection);
  let assemblyFormat = [{
    $input `,` $weight (`bias` $bias^)? `a` $a `b` $b (`trains` $trainedA^ `,` $trainedB)? (`residual` `(` $residual^ `:` type($residual) `)`)? attr-dict
    `:` type($input) `->` type($result) `,` type($projection)
  }];
  let hasVerifier = 1;
}

def Lora_DoraLinearOp : Lora_Op<"dora_linear", [Pure,
    DeclareOpInterfaceMethods<NN_Differentiable>,
    DeclareOpInterfaceMethods<NN_Specializable>,
    DeclareOpInterfaceMethods<NN_Costed>,
    DeclareOpInterfaceMethods<SymbolUserOpInterface>]> {
  let summary = "a linear with a DoRA adapter";
  let description = [{
    Liu et al., "DoRA", 2024, as PEFT computes it. With n = the norms of the rows
    of W + scale B A (`norm`, `[out]`, f32, no gradient passes it) and g =
    magnitude / n by column: `projection` is t = scale (drop(x) A^T), `product` is
    z = drop(x) W^T + t B^T in the compute type, `result` is (x - drop(x)) W^T +
    bias + residual + g z. Without dropout the first term is nothing. `magnitude`
    is `[out]`; it starts as the norms, so that the module starts as it was.
  }];
  let arguments = (ins NN_Activation:$input, FlatSymbolRefAttr:$weight,
                       OptionalAttr<FlatSymbolRefAttr>:$bias,
                       FlatSymbolRefAttr:$a, FlatSymbolRefAttr:$b,
                       FlatSymbolRefAttr:$magnitude,
                       Optional<NN_Sum>:$residual,
                       F64Attr:$scale, DefaultValuedAttr<F64Attr, "0.0">:$dropout,
                       StrAttr:$module);
  let results = (outs NN_Activation:$result, NN_Activation:$projection,
                      NN_Activation:$product, NN_Sum:$norm);
  let assemblyFormat = [{
    $input `,` $weight (`bias` $bias^)? `a` $a `b` $b `magnitude` $magnitude (`residual` `(` $residual^ `:` type($residual) `)`)? attr-dict
    `:` type($input) `->` type($result) `,` type($projection) `,` type($product) `,` type($norm)
  }];
  let hasVerifier = 1;
}

def Lora_DoraStartOp : Lora_Op<"dora_start"> {
  let summary = "magnitude = the norms of the rows of W + scale B A";
  let description = "How the magnitude of a `lora.dora_linear` starts; the entry point `initialize` is made of these.";
  let arguments = (ins FlatSymbolRefAttr:$weight, FlatSymbolRefAttr:$a, FlatSymbolRefAttr:$b,
                       FlatSymbolRefAttr:$magnitude, F64Attr:$scale);
  let assemblyFormat = "$weight `a` $a `b` $b `into` $magnitude attr-dict";
}

def Lora_DoraScaleOp : Lora_Op<"dora_scale", [Pure]> {
  let summary = "dZ = (magnitude / norm - less) dY by column";
  let description = "The gradient of `product` and, with `less`, that of drop(x) W^T apart from it.";
  let arguments = (ins NN_Activation:$dy, FlatSymbolRefAttr:$magnitude, NN_Sum:$norm, UnitAttr:$less);
  let results = (outs NN_Activation:$dz);
  let assemblyFormat = "$dy `,` $magnitude `,` $norm attr-dict `:` type($dy) `,` type($norm) `->` type($dz)";
}

def Lora_DoraDwOp : Lora_Op<"dora_dw"> {
  let summary = "gradient += column sums of dY Z / norm, rows ascending";
  let description = "The gradient of a magnitude, `[out]`, f32.";
  let arguments = (ins NN_Activation:$dy, NN_Activation:$product, NN_Sum:$norm, FlatSymbolRefAttr:$gradient);
  let assemblyFormat = "$dy `,` $product `,` $norm `into` $gradient attr-dict `:` type($dy) `,` type($product) `,` type($norm)";
}

def Lora_DropoutOp : Lora_Op<"dropout", [Pure]> {
  let summary = "init + mask(X)";
  let description = "The gradient of drop(x); the mask is drawn again from the module's numbers.";
  let arguments = (ins NN_Activation:$input, Optional<NN_Sum>:$init, F64Attr:$dropout, StrAttr:$module);
  let results = (outs NN_Activation:$result);
  let assemblyFormat = "$input (`init` `(` $init^ `:` type($init) `)`)? attr-dict `:` type($input) `->` type($result)";
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

def Lora_FirstFeaturesOp : Lora_Op<"first_features", [Pure]> {
  let summary = "the first features of X, as many as the result has";
  let description = "What belongs to the trained factors of a joined pair.";
  let arguments = (ins NN_Activation:$input);
  let results = (outs NN_Activation:$result);
  let assemblyFormat = "$input attr-dict `:` type($input) `->` type($result)";
}

def Lora_DownDwOp : Lora_Op<"down_dw"> {
  let summary = "gradient += dT^T drop(X), rows ascending";
  let description = "The gradient of A, `[rank, in]`, f32. dT already contains the scale.";
  let arguments = (ins NN_Activation:$dt, NN_Activation:$input, FlatSymbolRefAttr:$gradient,
                       DefaultValuedAttr<F64Attr, "0.0">:$dropout, StrAttr:$module);
  let assemblyFormat = "$dt `,` $input `into` $gradient attr-dict `:` type($dt) `,` type($input)";
}

#endif
