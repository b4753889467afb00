#ifndef PEFTC_DIALECT_PLAN_PLANOPS
#define PEFTC_DIALECT_PLAN_PLANOPS

include "mlir/IR/OpBase.td"
include "mlir/Interfaces/SideEffectInterfaces.td"

def Plan_Dialect : Dialect {
  let name = "plan";
  let summary = "the plan file as IR";
  let description = [{
    One op per table of schema/plan.fbs, in the same order, so that the writer
    and the reader are mechanical and `peftc explain --text` round-trips. Knows
    no other dialect.
  }];
  let cppNamespace = "::peftc::plan";
  let useDefaultTypePrinterParser = 1;
}

class Plan_Type<string name, string typeMnemonic> : TypeDef<Plan_Dialect, name> {
  let mnemonic = typeMnemonic;
}
def Plan_BufferType : Plan_Type<"Buffer", "buffer"> {
  let summary = "a range of bytes with a shape and an element type";
}

def Plan_NF4Type : Plan_Type<"NF4", "nf4"> {
  let summary = "codes of 4-bit normal floats, two to a byte";
}
def Plan_FP4Type : Plan_Type<"FP4", "fp4"> {
  let summary = "codes of 4-bit floats, two to a byte";
}

class Plan_Op<string mnemonic, list<Trait> traits = []> : Op<Plan_Dialect, mnemonic, traits>;

def Plan_ProgramOp : Plan_Op<"program", [NoRegionArguments, NoTerminator, SingleBlock]> {
  let summary = "a whole plan";
  let description = [{
    The scalars of table Plan are attributes (`producer`, `model_name`,
    `header_hash`, `model_config`, `adapter_config`, `target`, `device_kind`,
    `compute`, `batch`, `seq`, `vocab`, `max_threads`, `shard`,
    `tensor_parallel`). `device_kind` is cpu (when absent) or cuda.
  }];
  let arguments = (ins DictionaryAttr:$info);
  let regions = (region SizedRegion<1>:$body);
  let assemblyFormat = "$info $body attr-dict";
}

def Plan_ArenaOp : Plan_Op<"arena"> {
  let summary = "one allocation";
  let description = "`size` and `persistent` are bytes; zero until `peft-plan-memory` ran. `space` is device, pinned or pageable.";
  let arguments = (ins StrAttr:$space, I64Attr:$persistent, I64Attr:$size);
  let assemblyFormat = "$space `persistent` $persistent `size` $size attr-dict";
}

def Plan_WeightOp : Plan_Op<"weight"> {
  let summary = "a tensor of the model directory, bound by name, shape and type";
  let description = [{
    `slices` holds axis, start and extent per rank, flattened; absent: every rank
    holds all of it. Of a quantized tensor `part` is codes, absmax,
    nested_absmax or tables; the codes have `block` and `nested`, the others the
    number of their codes as `of`.
  }];
  let arguments = (ins StrAttr:$name, TypeAttr:$type, OptionalAttr<DenseI64ArrayAttr>:$slices,
                       OptionalAttr<StrAttr>:$part, OptionalAttr<I64Attr>:$of,
                       DefaultValuedAttr<I64Attr, "0">:$block, DefaultValuedAttr<I64Attr, "0">:$nested);
  let assemblyFormat = "$name `:` $type attr-dict";
}

def Plan_BufferOp : Plan_Op<"buffer"> {
  let summary = "a range of an arena, or the mapped bytes of a weight";
  let description = [{
    `kind` is a BufferClass (base, adapter, optimizer, gradient, activation,
    workspace, input, scalar). Inside `plan.entry` it is local to that entry.
    Without `arena` it is `weight`'s mapping. `offset` is absent until
    `peft-plan-memory` ran; `live` is the first and last item that uses a local
    buffer, and is derived, not stored.
  }];
  let arguments = (ins StrAttr:$name, TypeAttr:$type, StrAttr:$kind,
                       OptionalAttr<I64Attr>:$arena, OptionalAttr<I64Attr>:$offset,
                       OptionalAttr<I64Attr>:$weight, OptionalAttr<DenseI64ArrayAttr>:$live);
  let results = (outs Plan_BufferType:$result);
  let assemblyFormat = [{
    $name $kind (`weight` $weight^)? (`arena` $arena^)? (`offset` $offset^)? (`live` $live^)? `:` $type attr-dict
  }];
}

def Plan_InitializeOp : Plan_Op<"initialize"> {
  let summary = "how a persistent buffer starts";
  let description = "`kind` is weight (with `weight`), kaiming_uniform or gaussian (with `stddev`); `stream` selects the random numbers.";
  let arguments = (ins Plan_BufferType:$buffer, StrAttr:$kind, OptionalAttr<I64Attr>:$weight,
                       OptionalAttr<F64Attr>:$stddev, OptionalAttr<I64Attr>:$stream);
  let assemblyFormat = "$buffer $kind attr-dict";
}

def Plan_GroupOp : Plan_Op<"group"> {
  let summary = "parameters with one rate and their own sums";
  let description = "One per adapter: rate factor, and the buffers of loss, token and squared-norm sums.";
  let arguments = (ins StrAttr:$name, F64Attr:$rateFactor, Plan_BufferType:$lossSum,
                       Plan_BufferType:$tokens, Plan_BufferType:$normSquare);
  let assemblyFormat = "$name `loss` $lossSum `tokens` $tokens `norm` $normSquare attr-dict";
}

def Plan_ParameterOp : Plan_Op<"parameter", [AttrSizedOperandSegments]> {
  let summary = "a tensor of the saved file";
  let description = [{
    Its key in the saved file, its module, its buffer, its gradient sums (one per
    use) and its two AdamW moments; where these are 8-bit codes the magnitudes of
    their blocks follow. A tensor that is saved and does not train has neither
    sums nor moments.
  }];
  let arguments = (ins StrAttr:$name, StrAttr:$module, Plan_BufferType:$buffer,
                       Variadic<Plan_BufferType>:$gradients,
                       Variadic<Plan_BufferType>:$moments, I64Attr:$group, UnitAttr:$decay,
                       UnitAttr:$zeroGradientAtStart, TypeAttr:$sourceType);
  let assemblyFormat = "$name `of` $module $buffer `gradients` `(` $gradients `)` `moments` `(` $moments `)` attr-dict";
}

def Plan_PortOp : Plan_Op<"port"> {
  let summary = "a buffer that the host writes or reads by name";
  let description = "`kind` is input, scalar or output.";
  let arguments = (ins StrAttr:$kind, StrAttr:$name, Plan_BufferType:$buffer);
  let assemblyFormat = "$kind $name $buffer attr-dict";
}

def Plan_StreamOp : Plan_Op<"stream"> {
  let summary = "a queue of items on one engine";
  let description = "`engine` is compute, copy_in, copy_out or collective. Streams are numbered in order.";
  let arguments = (ins StrAttr:$engine);
  let assemblyFormat = "$engine attr-dict";
}

def Plan_EntryOp : Plan_Op<"entry", [NoRegionArguments, NoTerminator, SingleBlock]> {
  let summary = "an entry point: its local buffers and its items";
  let description = "File order is a valid serial order. `local_bytes` and `lower_bound`, both of arena 0, are set by `peft-plan-memory`.";
  let arguments = (ins StrAttr:$name, DefaultValuedAttr<I64Attr, "0">:$localBytes,
                       DefaultValuedAttr<I64Attr, "0">:$lowerBound);
  let regions = (region SizedRegion<1>:$body);
  let assemblyFormat = "$name attr-dict-with-keyword $body";
}

def Plan_LaunchOp : Plan_Op<"launch", [AttrSizedOperandSegments]> {
  let summary = "one kernel on one stream";
  let description = [{
    `present` has a bit per operand of the kernel's entry in kernels.def: absent
    optional operands have none. `settings` holds the attributes that differ from their
    defaults. With `predicate` the launch runs iff its i32 is greater than
    `above`. A `recomputed` launch repeats one of the forward pass, because its
    results were not kept.
  }];
  let arguments = (ins StrAttr:$kernel, I64Attr:$stream, Variadic<Plan_BufferType>:$operands_,
                       Optional<Plan_BufferType>:$sharedWorkspace, Optional<Plan_BufferType>:$threadWorkspace,
                       Optional<Plan_BufferType>:$predicate,
                       I64Attr:$present, DictionaryAttr:$settings,
                       DefaultValuedAttr<I64Attr, "0">:$above, StrAttr:$module,
                       UnitAttr:$recomputed);
  let assemblyFormat = [{
    $kernel `on` $stream `(` $operands_ `)` `present` $present (`shared` $sharedWorkspace^)? (`thread` $threadWorkspace^)?
    (`if` $predicate^)? `of` $module $settings attr-dict
  }];
}

def Plan_CopyOp : Plan_Op<"copy"> {
  let summary = "copies bytes between any two spaces";
  let description = "Offsets and size are bytes inside the two buffers.";
  let arguments = (ins I64Attr:$stream, Plan_BufferType:$source, Plan_BufferType:$destination,
                       DefaultValuedAttr<I64Attr, "0">:$sourceOffset,
                       DefaultValuedAttr<I64Attr, "0">:$destinationOffset, I64Attr:$size);
  let assemblyFormat = "$source `to` $destination `on` $stream `size` $size attr-dict";
}

def Plan_CollectiveOp : Plan_Op<"collective"> {
  let summary = "an exchange between ranks";
  let description = "`kind` is all_gather, reduce_scatter, all_reduce or broadcast. Every rank has the same ones in the same order.";
  let arguments = (ins StrAttr:$kind, I64Attr:$stream, Plan_BufferType:$source,
                       Plan_BufferType:$destination, StrAttr:$module);
  let assemblyFormat = "$kind $source `to` $destination `on` $stream `of` $module attr-dict";
}

def Plan_RecordOp : Plan_Op<"record"> {
  let summary = "marks a point of a stream";
  let description = "Events are numbered per entry and recorded once.";
  let arguments = (ins I64Attr:$stream, I64Attr:$event);
  let assemblyFormat = "$event `on` $stream attr-dict";
}

def Plan_WaitOp : Plan_Op<"wait"> {
  let summary = "later items of this stream start after the event";
  let description = "The event is recorded earlier in the file.";
  let arguments = (ins I64Attr:$stream, I64Attr:$event);
  let assemblyFormat = "$event `on` $stream attr-dict";
}

def Plan_RemarkOp : Plan_Op<"remark"> {
  let summary = "a decision of a pass, for peftc explain";
  let description = "What was decided, by which pass, for which module, and why.";
  let arguments = (ins StrAttr:$pass, StrAttr:$module, StrAttr:$message);
  let assemblyFormat = "$pass `of` $module `:` $message attr-dict";
}

#endif
