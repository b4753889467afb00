#ifndef PEFTC_DIALECT_NN_NNOPS
#define PEFTC_DIALECT_NN_NNOPS

include "peftc/Dialect/NN/NNBase.td"
include "peftc/Dialect/NN/NNInterfaces.td"

//===----------------------------------------------------------------------===//
// Symbols
//===----------------------------------------------------------------------===//

def NN_ParamOp : NN_Op<"param", [Symbol]> {
  let summary = "a tensor of the model or of an adapter";
  let description = [{
    The symbol's name is the tensor's name in the model directory
    (`model.layers.0.self_attn.q_proj.weight`) or in the saved adapter
    (`base_model.model...lora_A.weight`). Frozen parameters have the type they
    are stored in. A trainable one is the f32 master; `sourceType` is the type
    its stored tensor has. `init` says how it starts: `stored` (from the model
    directory), `zeros`, `kaiming_uniform`, `gaussian` (with `stddev`) or
    `row_norms` (DoRA's magnitude, by the entry point `initialize`) or `given`
    (zeros until an adapter is loaded).
    `zeroGradientAtStart` marks the factor whose partner starts at zero, so that
    no gradient reaches it at the first step. `paddingIdx` of an embedding gets no
    lookup gradient. `savedName` is the key in the saved adapter where it is not
    the symbol's name, `storedName` the tensor's name in the model directory where
    that differs from the path of its module. `saved` marks a frozen tensor that belongs to the adapter
    and is saved with it (A of LoRA-FA). `rateFactor` multiplies the learning
    rate (LoRA+). `joined` names two parameters of which this one is made
    whenever it is read, one below the other or, if its rows are theirs, beside
    each other; it has no bytes of its own. A quantized parameter (an
    element type of `qw`) is a frozen matrix `[out, in]`, which only `embed`,
    `linear` and the ops of `lora` read.
  }];
  let arguments = (ins SymbolNameAttr:$sym_name, TypeAttrOf<NN_ParamType>:$type,
                       UnitAttr:$trainable,
                       DefaultValuedStrAttr<StrAttr, "stored">:$init,
                       OptionalAttr<F64Attr>:$stddev,
                       OptionalAttr<TypeAttr>:$sourceType,
                       OptionalAttr<StrAttr>:$module,
                       UnitAttr:$noDecay,
                       UnitAttr:$zeroGradientAtStart,
                       OptionalAttr<I64Attr>:$paddingIdx,
                       OptionalAttr<StrAttr>:$savedName,
                       UnitAttr:$saved,
                       DefaultValuedAttr<F64Attr, "1.0">:$rateFactor,
                       OptionalAttr<ArrayAttr>:$joined,
                       OptionalAttr<StrAttr>:$storedName);
  let assemblyFormat = "$sym_name `:` $type attr-dict";
  let extraClassDeclaration = [{
    ::mlir::RankedTensorType getTensorType() {
      return ::llvm::cast<::mlir::RankedTensorType>(getType());
    }
  }];
  let hasVerifier = 1;
}

def NN_StateOp : NN_Op<"state", [Symbol]> {
  let summary = "a tensor that lives across entry points";
  let description = [{
    Gradient sums, AdamW moments, sums, run-time scalars and metrics. `role` is
    one of `gradient`, `moment` (in 8 bits with a second state of role `moment`
    for the magnitudes of its blocks), `sum`, `scalar` (written by the host before an
    entry), `output` (read by the host after one), `counter`. `of` names the
    parameter a gradient or moment belongs to; `use` numbers the gradient sums
    of a parameter with several uses.
  }];
  let arguments = (ins SymbolNameAttr:$sym_name, TypeAttrOf<NN_StateType>:$type, StrAttr:$role,
                       OptionalAttr<FlatSymbolRefAttr>:$of,
                       OptionalAttr<I64Attr>:$use);
  let assemblyFormat = "$sym_name `:` $type attr-dict";
  let extraClassDeclaration = [{
    ::mlir::RankedTensorType getTensorType() {
      return ::llvm::cast<::mlir::RankedTensorType>(getType());
    }
  }];
}

//===----------------------------------------------------------------------===//
// Forward
//===----------------------------------------------------------------------===//

// An op that reads parameters: each must exist and have the shape the op needs.
def NN_ParameterUser : DeclareOpInterfaceMethods<SymbolUserOpInterface>;

class NN_ForwardOp<string mnemonic, list<Trait> traits = []>
    : NN_Op<mnemonic, !listconcat([
        DeclareOpInterfaceMethods<NN_Differentiable>,
        DeclareOpInterfaceMethods<NN_Specializable>,
        DeclareOpInterfaceMethods<NN_Costed>], traits)>;

def NN_EmbedOp : NN_ForwardOp<"embed", [Pure, NN_ParameterUser]> {
  let summary = "looks token ids up in a table";
  let description = [{
    `[batch, seq]` ids and a `[vocab, hidden]` table give the f32 residual stream
    `[batch, seq, hidden]`, each row times `scale`, which gemma has: the root of
    hidden, rounded to the compute type by peft-specialize-model as transformers
    rounds it.
  }];
  let arguments = (ins NN_Integers:$ids, FlatSymbolRefAttr:$table,
                       DefaultValuedAttr<F64Attr, "1.0">:$scale);
  let results = (outs NN_Activation:$result);
  let assemblyFormat = "$ids `,` $table attr-dict `:` type($ids) `->` type($result)";
  let hasVerifier = 1;
}

def NN_LinearOp : NN_ForwardOp<"linear", [Pure, NN_ParameterUser]> {
  let summary = "y = x W^T + bias (+ residual)";
  let description = [{
    `weight` is `[out, in]` as torch.nn.Linear stores it. With `residual` the
    result is f32 and the sum starts from it: nothing is rounded between the
    product and the addition.
  }];
  let arguments = (ins NN_Activation:$input, FlatSymbolRefAttr:$weight,
                       OptionalAttr<FlatSymbolRefAttr>:$bias,
                       Optional<NN_Sum>:$residual);
  let results = (outs NN_Activation:$result);
  let assemblyFormat = [{
    $input `,` $weight (`bias` $bias^)? (`residual` `(` $residual^ `:` type($residual) `)`)? attr-dict
    `:` type($input) `->` type($result)
  }];
  let hasVerifier = 1;
}

def NN_RMSNormOp : NN_ForwardOp<"rms_norm", [Pure, NN_ParameterUser]> {
  let summary = "root-mean-square norm over groups of the last dimension";
  let description = [{
    The group size is the weight's length, so a `[head_dim]` weight normalizes
    each head of `[batch, seq, heads * head_dim]`. The second result is
    1/sqrt(mean(x^2) + epsilon) per group, f32, which the backward rule reads.
    What multiplies is `weightOffset` + weight: gemma stores its weights less one.
    With `residual` the result is f32 and the norm is added to it.
    Zhang and Sennrich, "Root Mean Square Layer Normalization", 2019.
  }];
  let arguments = (ins NN_Activation:$input, FlatSymbolRefAttr:$weight,
                       Optional<NN_Sum>:$residual, F64Attr:$epsilon,
                       DefaultValuedAttr<F64Attr, "0.0">:$weightOffset);
  let results = (outs NN_Activation:$result, NN_Sum:$rstd);
  let assemblyFormat = [{
    $input `,` $weight (`residual` `(` $residual^ `:` type($residual) `)`)? attr-dict
    `:` type($input) `->` type($result) `,` type($rstd)
  }];
  let hasVerifier = 1;
}

def NN_RopeTableOp : NN_Op<"rope_table", [Pure, DeclareOpInterfaceMethods<NN_Specializable>]> {
  let summary = "cosines and sines of positions times inverse frequencies";
  let description = [{
    `[batch, seq]` positions give `[batch, seq, 2 * frequencies]` f32: the
    cosines, then the sines. The frequencies already contain the model's RoPE
    scaling (linear, llama3), so the step does not know which one it was. A model
    with longrope (Ding et al., "LongRoPE", 2024) has a second list,
    `longInvFreq`, for rows of more than `shortPositions` tokens:
    peft-specialize-model, which knows the tokens of a row, keeps one of the two.
    `attentionFactor` multiplies cosines and sines.
    Has no gradient: positions are integers.
  }];
  let arguments = (ins NN_Integers:$positions, DenseF32ArrayAttr:$invFreq,
                       DefaultValuedAttr<F64Attr, "1.0">:$attentionFactor,
                       OptionalAttr<DenseF32ArrayAttr>:$longInvFreq,
                       OptionalAttr<I64Attr>:$shortPositions);
  let results = (outs NN_Sum:$result);
  let assemblyFormat = "$positions attr-dict `:` type($positions) `->` type($result)";
  let hasVerifier = 1;
}

def NN_RopeOp : NN_ForwardOp<"rope", [Pure]> {
  let summary = "rotates each head by the position (rotate-half form)";
  let description = [{
    Su et al., "RoFormer", 2021, in the layout of Hugging Face models: feature i
    pairs with feature i + rotated/2. `inverse` is the rotation back, which is
    the gradient.
  }];
  let arguments = (ins NN_Activation:$input, NN_Sum:$table, I64Attr:$headDim, UnitAttr:$inverse);
  let results = (outs NN_Activation:$result);
  let assemblyFormat = "$input `,` $table attr-dict `:` type($input) `,` type($table) `->` type($result)";
  let hasVerifier = 1;
}

def NN_AttentionOp : NN_ForwardOp<"attention", [Pure,
    AllTypesMatch<["key", "value"]>]> {
  let summary = "causal grouped-query attention";
  let description = [{
    Query `[batch, seq, heads * head_dim]`, key and value `[batch, seq, kv_heads
    * head_dim]`. A query sees the keys of its row and segment that are not
    after it and, with `window` w > 0, nearer than w. With `softcap` c > 0 a score
    s becomes c tanh(s / c) before the softmax (gemma2). The second result is the
    log-sum-exp of the scores `[heads, batch * seq]`, f32. The score matrix is
    never stored (Dao et al., "FlashAttention", 2022).
  }];
  let arguments = (ins NN_Activation:$query, NN_Activation:$key, NN_Activation:$value,
                       Optional<NN_Integers>:$segments,
                       I64Attr:$heads, I64Attr:$kvHeads, I64Attr:$headDim,
                       F64Attr:$scale, DefaultValuedAttr<I64Attr, "0">:$window,
                       DefaultValuedAttr<F64Attr, "0.0">:$softcap);
  let results = (outs NN_Activation:$result, NN_Sum:$lse);
  let assemblyFormat = [{
    $query `,` $key `,` $value (`segments` `(` $segments^ `:` type($segments) `)`)? attr-dict
    `:` type($query) `,` type($key) `->` type($result) `,` type($lse)
  }];
  let hasVerifier = 1;
}

def NN_SwigluOp : NN_ForwardOp<"swiglu", [Pure, AllTypesMatch<["gate", "up"]>]> {
  let summary = "silu(gate) * up";
  let description = "Elementwise, computed in f32 and rounded once. Shazeer, \"GLU Variants Improve Transformer\", 2020.";
  let arguments = (ins NN_Activation:$gate, NN_Activation:$up);
  let results = (outs NN_Activation:$result);
  let assemblyFormat = "$gate `,` $up attr-dict `:` type($gate) `->` type($result)";
  let hasVerifier = 1;
}

def NN_GegluOp : NN_ForwardOp<"geglu", [Pure, AllTypesMatch<["gate", "up"]>]> {
  let summary = "gelu(gate) * up, gelu by its tanh form";
  let description = [{
    gelu(x) = x/2 (1 + tanh(sqrt(2/pi) (x + 0.044715 x^3))), which Hugging Face
    calls gelu_pytorch_tanh. Elementwise, computed in f32 and rounded once.
    Hendrycks and Gimpel, "Gaussian Error Linear Units", 2016.
  }];
  let arguments = (ins NN_Activation:$gate, NN_Activation:$up);
  let results = (outs NN_Activation:$result);
  let assemblyFormat = "$gate `,` $up attr-dict `:` type($gate) `->` type($result)";
  let hasVerifier = 1;
}

def NN_SoftcapOp : NN_ForwardOp<"softcap", [Pure, AllTypesMatch<["input", "result"]>]> {
  let summary = "cap * tanh(x / cap)";
  let description = "Bends f32 logits so that none is larger than `cap` (Bello et al., \"Neural Combinatorial Optimization\", 2016).";
  let arguments = (ins NN_Activation:$input, F64Attr:$cap);
  let results = (outs NN_Activation:$result);
  let assemblyFormat = "$input attr-dict `:` type($input)";
  let hasVerifier = 1;
}

def NN_SplitOp : NN_ForwardOp<"split", [Pure]> {
  let summary = "takes the features of a fused projection apart";
  let description = [{
    The results stand side by side in the last dimension of the input: two of
    gate_up_proj, three of qkv_proj, of which key and value are equally wide.
    The projection stays one linear, so it has one adapter, as in PEFT.
  }];
  let arguments = (ins NN_Activation:$input);
  let results = (outs Variadic<NN_Activation>:$parts);
  let assemblyFormat = "$input attr-dict `:` type($input) `->` type($parts)";
  let hasVerifier = 1;
}

//===----------------------------------------------------------------------===//
// Backward: built by peft-differentiate
//===----------------------------------------------------------------------===//

def NN_LinearDxOp : NN_Op<"linear_dx", [Pure]> {
  let summary = "dX = scale (init + dY W)";
  let description = "The gradient of a linear's input. `init` is the part of the sum that other uses of the input gave before.";
  let arguments = (ins NN_Activation:$dy, FlatSymbolRefAttr:$weight, Optional<NN_Sum>:$init,
                       DefaultValuedAttr<F64Attr, "1.0">:$scale);
  let results = (outs NN_Activation:$dx);
  let assemblyFormat = "$dy `,` $weight (`init` `(` $init^ `:` type($init) `)`)? attr-dict `:` type($dy) `->` type($dx)";
}

def NN_LinearDwOp : NN_Op<"linear_dw"> {
  let summary = "gradient += dY^T X, rows ascending";
  let description = "Continues the f32 sum of `gradient` (`[out, in]`) over the rows of this micro-batch.";
  let arguments = (ins NN_Activation:$dy, NN_Activation:$input, FlatSymbolRefAttr:$gradient);
  let assemblyFormat = "$dy `,` $input `into` $gradient attr-dict `:` type($dy) `,` type($input)";
}

def NN_BiasDwOp : NN_Op<"bias_dw"> {
  let summary = "gradient += column sums of dY, rows ascending";
  let description = "The gradient of a linear's bias, `[out]`, f32.";
  let arguments = (ins NN_Activation:$dy, FlatSymbolRefAttr:$gradient);
  let assemblyFormat = "$dy `into` $gradient attr-dict `:` type($dy)";
}

def NN_RMSNormDxOp : NN_Op<"rms_norm_dx", [Pure]> {
  let summary = "gradient of rms_norm's input";
  let description = "dX = init + rstd (w dY - x rstd^2 mean(w dY x)) per group, w being `weightOffset` + weight.";
  let arguments = (ins NN_Activation:$dy, NN_Activation:$input, NN_Sum:$rstd,
                       FlatSymbolRefAttr:$weight, Optional<NN_Sum>:$init,
                       DefaultValuedAttr<F64Attr, "0.0">:$weightOffset);
  let results = (outs NN_Activation:$dx);
  let assemblyFormat = "$dy `,` $input `,` $rstd `,` $weight (`init` `(` $init^ `:` type($init) `)`)? attr-dict `:` type($dy) `,` type($input) `,` type($rstd) `->` type($dx)";
}

def NN_RMSNormDwOp : NN_Op<"rms_norm_dw"> {
  let summary = "gradient += sum of dY x rstd over rows";
  let description = "The gradient of rms_norm's weight, rows (then groups) ascending, f32.";
  let arguments = (ins NN_Activation:$dy, NN_Activation:$input, NN_Sum:$rstd, FlatSymbolRefAttr:$gradient);
  let assemblyFormat = "$dy `,` $input `,` $rstd `into` $gradient attr-dict `:` type($dy) `,` type($input) `,` type($rstd)";
}

def NN_AttentionGradOp : NN_Op<"attention_grad", [Pure,
    AllTypesMatch<["key", "value"]>, AllTypesMatch<["output", "query"]>]> {
  let summary = "gradients of attention's query, key and value";
  let description = "Recomputes the scores block by block from the saved log-sum-exp; key and value gradients are summed over the heads of a group in order.";
  let arguments = (ins NN_Activation:$query, NN_Activation:$key, NN_Activation:$value,
                       NN_Activation:$output, NN_Activation:$dOutput, NN_Sum:$lse,
                       Optional<NN_Integers>:$segments,
                       I64Attr:$heads, I64Attr:$kvHeads, I64Attr:$headDim,
                       F64Attr:$scale, DefaultValuedAttr<I64Attr, "0">:$window,
                       DefaultValuedAttr<F64Attr, "0.0">:$softcap);
  let results = (outs NN_Activation:$dQuery, NN_Activation:$dKey, NN_Activation:$dValue);
  let assemblyFormat = [{
    $query `,` $key `,` $value `,` $output `,` $dOutput `,` $lse
    (`segments` `(` $segments^ `:` type($segments) `)`)? attr-dict
    `:` type($query) `,` type($key) `,` type($dOutput) `,` type($lse) `->` type(results)
  }];
}

def NN_SwigluGradOp : NN_Op<"swiglu_grad", [Pure, AllTypesMatch<["dy", "gate", "up"]>]> {
  let summary = "gradients of swiglu's gate and up";
  let description = "dgate = dY up silu'(gate); dup = dY silu(gate).";
  let arguments = (ins NN_Activation:$dy, NN_Activation:$gate, NN_Activation:$up);
  let results = (outs NN_Activation:$dGate, NN_Activation:$dUp);
  let assemblyFormat = "$dy `,` $gate `,` $up attr-dict `:` type($dy) `->` type($dGate) `,` type($dUp)";
}

def NN_GegluGradOp : NN_Op<"geglu_grad", [Pure, AllTypesMatch<["dy", "gate", "up"]>]> {
  let summary = "gradients of geglu's gate and up";
  let description = "dgate = dY up gelu'(gate); dup = dY gelu(gate).";
  let arguments = (ins NN_Activation:$dy, NN_Activation:$gate, NN_Activation:$up);
  let results = (outs NN_Activation:$dGate, NN_Activation:$dUp);
  let assemblyFormat = "$dy `,` $gate `,` $up attr-dict `:` type($dy) `->` type($dGate) `,` type($dUp)";
}

def NN_SoftcapGradOp : NN_Op<"softcap_grad", [Pure, AllTypesMatch<["dy", "dx"]>]> {
  let summary = "gradient of softcap's input";
  let description = "dX = dY (1 - (y / cap)^2) from the capped value y.";
  let arguments = (ins NN_Activation:$dy, NN_Activation:$capped, F64Attr:$cap);
  let results = (outs NN_Activation:$dx);
  let assemblyFormat = "$dy `,` $capped attr-dict `:` type($dy) `,` type($capped)";
}

def NN_ConcatOp : NN_Op<"concat", [Pure]> {
  let summary = "puts the gradients of split's results side by side";
  let description = "Two or three parts; the last two of three are equally wide.";
  let arguments = (ins Variadic<NN_Activation>:$parts);
  let results = (outs NN_Activation:$result);
  let assemblyFormat = "$parts attr-dict `:` type($parts) `->` type($result)";
}

def NN_EmbedDwOp : NN_Op<"embed_dw"> {
  let summary = "gradient[ids[i]] += scale dY[i], rows ascending";
  let description = "The gradient of an embedding table, `[vocab, hidden]`, f32.";
  let arguments = (ins NN_Integers:$ids, NN_Sum:$dy, FlatSymbolRefAttr:$gradient,
                       OptionalAttr<I64Attr>:$paddingIdx,
                       DefaultValuedAttr<F64Attr, "1.0">:$scale);
  let assemblyFormat = "$ids `,` $dy `into` $gradient attr-dict `:` type($ids) `,` type($dy)";
}

def NN_AddOp : NN_Op<"add", [Pure]> {
  let summary = "a + b in f32, rounded to the result's type";
  let description = "Merges two gradients of one value where no kernel continues the sum.";
  let arguments = (ins NN_Activation:$a, NN_Activation:$b);
  let results = (outs NN_Activation:$result);
  let assemblyFormat = "$a `,` $b attr-dict `:` type($a) `,` type($b) `->` type($result)";
}

def NN_CastOp : NN_Op<"cast", [Pure]> {
  let summary = "rounds to another element type";
  let description = "Round to nearest even. Every conversion of an activation is one of these, so the dtype ledger can list it.";
  let arguments = (ins NN_Activation:$input);
  let results = (outs NN_Activation:$result);
  let assemblyFormat = "$input attr-dict `:` type($input) `->` type($result)";
}

//===----------------------------------------------------------------------===//
// The head and the loss
//===----------------------------------------------------------------------===//

def NN_CompactRowsOp : NN_Op<"compact_rows", [Pure]> {
  let summary = "the trained tokens of a micro-batch, in order";
  let description = [{
    Token i is trained iff labels[i + 1] != -100, i is not the last of its row
    and, with segments, i + 1 is of the same segment. Results: their indices and
    their targets (both `[batch * seq]`, the first `count` are valid), and count
    `[1]`.
  }];
  let arguments = (ins NN_Integers:$labels, Optional<NN_Integers>:$segments, I64Attr:$vocab);
  let results = (outs NN_Integers:$index, NN_Integers:$target, NN_Integers:$count);
  let assemblyFormat = "$labels (`segments` `(` $segments^ `:` type($segments) `)`)? attr-dict `:` type($labels) `->` type(results)";
}

def NN_ChunkOp : NN_Op<"chunk", [SingleBlock, RecursiveMemoryEffects]> {
  let summary = "runs its body on one chunk of the compacted rows, if it has any";
  let description = [{
    The body runs iff `count` > `start`; its ops work on the first
    clamp(count - start, 0, rows) rows of their `[rows, features]` values, which
    stand for the tokens index[start ...]. `inits` are updated in place by the
    body (`nn.scatter_rows`) and come back as results.
  }];
  let arguments = (ins NN_Integers:$index, NN_Integers:$count, Variadic<AnyType>:$inits,
                       I64Attr:$start, I64Attr:$rows);
  let results = (outs Variadic<AnyType>:$results);
  let regions = (region SizedRegion<1>:$body);
  let assemblyFormat = [{
    $index `,` $count (`inits` `(` $inits^ `:` type($inits) `)`)? attr-dict-with-keyword `:` type($index) `,` type($count)
    (`->` type($results)^)? $body
  }];
  let hasVerifier = 1;
}

def NN_YieldOp : NN_Op<"yield", [Pure, Terminator, HasParent<"ChunkOp">]> {
  let summary = "ends the body of nn.chunk";
  let description = "Its operands become the results of the `nn.chunk`.";
  let arguments = (ins Variadic<AnyType>:$values);
  let assemblyFormat = "($values^ `:` type($values))? attr-dict";
  let builders = [OpBuilder<(ins), [{}]>];
}

def NN_GatherRowsOp : NN_Op<"gather_rows", [Pure]> {
  let summary = "takes rows by index";
  let description = [{
    `[..., features]` and indices give `[rows, features]`. Inside `nn.chunk` it
    takes the chunk's rows (index[start ...]); outside, one row per index.
  }];
  let arguments = (ins NN_Activation:$input, NN_Integers:$index);
  let results = (outs NN_Activation:$result);
  let assemblyFormat = "$input `,` $index attr-dict `:` type($input) `,` type($index) `->` type($result)";
}

def NN_ScatterRowsOp : NN_Op<"scatter_rows", [Pure, AllTypesMatch<["into", "result"]>]> {
  let summary = "puts a chunk's rows back where they came from";
  let description = "Only inside `nn.chunk`. The result is `into` with the chunk's rows replaced; it is updated in place, so `into` has no other use after it.";
  let arguments = (ins NN_Activation:$input, NN_Activation:$into);
  let results = (outs NN_Activation:$result);
  let assemblyFormat = "$input `into` $into attr-dict `:` type($input) `,` type($into)";
  let hasVerifier = 1;
}

def NN_ZerosOp : NN_Op<"zeros", [Pure]> {
  let summary = "a tensor of zeros";
  let description = "The start of a gradient that chunks scatter into.";
  let results = (outs NN_Activation:$result);
  let assemblyFormat = "attr-dict `:` type($result)";
}

def NN_CrossEntropyOp : NN_Op<"cross_entropy"> {
  let summary = "adds the loss of a chunk and gives the gradient of its logits";
  let description = [{
    Only inside `nn.chunk`. Per row log(sum(exp(logits))) - logits[target], added
    to the f64 sum @lossSum in row order. The result, where asked for, is
    softmax(logits) - onehot(target): the gradient of the *sum* of losses; the
    update divides once by the number of trained tokens. In f16 the gradient is
    multiplied by the state that `scaled by` names, by which the update divides.
  }];
  let arguments = (ins NN_Sum:$logits, NN_Integers:$target, FlatSymbolRefAttr:$lossSum,
                       OptionalAttr<FlatSymbolRefAttr>:$lossScale);
  let results = (outs Optional<NN_Activation>:$dLogits);
  let assemblyFormat = "$logits `,` $target `into` $lossSum (`scaled` `by` $lossScale^)? attr-dict `:` type($logits) `,` type($target) (`->` type($dLogits)^)?";
}

def NN_CountTokensOp : NN_Op<"count_tokens"> {
  let summary = "sum += count";
  let description = "Adds the number of trained tokens of a micro-batch to the i64 sum.";
  let arguments = (ins NN_Integers:$count, FlatSymbolRefAttr:$sum);
  let assemblyFormat = "$count `into` $sum attr-dict `:` type($count)";
}

def NN_StoreOp : NN_Op<"store"> {
  let summary = "writes a value where the host reads it";
  let description = "The `logits` entry ends with one: the value's buffer becomes the output port of that name.";
  let arguments = (ins NN_Activation:$value, FlatSymbolRefAttr:$state);
  let assemblyFormat = "$value `into` $state attr-dict `:` type($value)";
}

//===----------------------------------------------------------------------===//
// The update
//===----------------------------------------------------------------------===//

def NN_AccumulateOp : NN_Op<"accumulate"> {
  let summary = "adds one gradient sum of a parameter to its first one";
  let description = "For parameters with several uses: each use has its own chain over rows, so that the split into micro-batches changes no bit.";
  let arguments = (ins FlatSymbolRefAttr:$source, FlatSymbolRefAttr:$into);
  let assemblyFormat = "$source `into` $into attr-dict";
}

def NN_NormSquareOp : NN_Op<"norm_square"> {
  let summary = "sum += the sum of squares of a gradient";
  let description = "In f64, so it is finite iff every element is.";
  let arguments = (ins FlatSymbolRefAttr:$gradient, FlatSymbolRefAttr:$sum);
  let assemblyFormat = "$gradient `into` $sum attr-dict";
}

def NN_FinishStepOp : NN_Op<"finish_step"> {
  let summary = "turns the sums of a step into its metrics and AdamW's scalars";
  let description = [{
    Reads the states @loss_sum, @tokens, @norm_square and the scalars
    @learning_rate, @beta1, @beta2, @epsilon, @weight_decay, @max_grad_norm;
    advances @optimizer_step; writes @adam, @metrics and @apply; clears the sums.
    Gradients are divided by the tokens and by the state `scaled by` names.
    See `finish_step` in kernels.def for the arithmetic.
  }];
  let arguments = (ins OptionalAttr<FlatSymbolRefAttr>:$lossScale);
  let assemblyFormat = "(`scaled` `by` $lossScale^)? attr-dict";
}

def NN_AdjustLossScaleOp : NN_Op<"adjust_loss_scale"> {
  let summary = "halves the loss scale after an overflow, doubles it after good steps";
  let description = [{
    Only in f16, after `nn.finish_step`: reads @metrics, updates @loss_scale and
    @good_steps, and writes @proceed: whether the run goes on. See
    `adjust_loss_scale` in kernels.def for the rules.
  }];
  let arguments = (ins DefaultValuedAttr<I64Attr, "2000">:$growthInterval);
  let assemblyFormat = "attr-dict";
}

def NN_AdamWOp : NN_Op<"adamw"> {
  let summary = "one AdamW step of one parameter, if @apply says so";
  let description = [{
    As torch.optim.AdamW (Loshchilov and Hutter, 2019), with the gradient scaled
    by adam[0]. With `scales` the moments are 8-bit codes, and these states the
    magnitudes of their blocks of 256 elements.
  }];
  let arguments = (ins FlatSymbolRefAttr:$parameter, FlatSymbolRefAttr:$gradient,
                       FlatSymbolRefAttr:$firstMoment, FlatSymbolRefAttr:$secondMoment,
                       OptionalAttr<FlatSymbolRefAttr>:$firstScale,
                       OptionalAttr<FlatSymbolRefAttr>:$secondScale,
                       DefaultValuedAttr<F64Attr, "1.0">:$rateFactor, UnitAttr:$decay);
  let assemblyFormat = [{
    $parameter `,` $gradient `,` $firstMoment `,` $secondMoment (`scales` $firstScale^ `,` $secondScale)? attr-dict
  }];
  let hasVerifier = 1;
}

def NN_ClearOp : NN_Op<"clear"> {
  let summary = "sets a state to zero";
  let description = "Ends the update for every gradient sum of a step that was applied or, in f16, skipped.";
  let arguments = (ins FlatSymbolRefAttr:$state);
  let assemblyFormat = "$state attr-dict";
}

#endif
