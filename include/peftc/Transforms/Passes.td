#ifndef PEFTC_TRANSFORMS_PASSES
#define PEFTC_TRANSFORMS_PASSES

include "mlir/Pass/PassBase.td"

def SpecializeModel : Pass<"peft-specialize-model", "::mlir::ModuleOp"> {
  let summary = "fix the rows, the tokens and the compute type of a model";
  let description = [{
    Before: a model as `peftc import` writes it, `[?, ?, features]` throughout.
    After: every shape is static (`[batch, seq, features]`; rows of the head
    stay `?` until `peft-differentiate` cuts chunks), and every activation but
    the residual stream has the compute type. Separate from the import because
    one imported model serves many shapes.
    (* example filepath=test/Transforms/specialize-model.mlir *)
  }];
  let options = [
    Option<"batch", "batch", "int64_t", "1", "rows of one micro-batch">,
    Option<"seq", "seq", "int64_t", "2048", "tokens of a row">,
    Option<"compute", "compute", "std::string", "\"bf16\"", "compute type: bf16, f16 or f32">
  ];
  let statistics = [Statistic<"specialized", "ops-specialized", "Number of ops that got static types">];
  let dependentDialects = ["::peftc::nn::NNDialect"];
}

def AttachAdapters : Pass<"peft-attach-adapters", "::mlir::ModuleOp"> {
  let summary = "put LoRA adapters on the modules a PEFT config names";
  let description = [{
    Before: a model whose parameters are all frozen. After: each matched linear
    is a `lora.linear` with trainable A and B; modules to save and trained
    biases are f32 masters. `config` is the text of an adapter_config.json;
    matching is PEFT's, plus globs. Zero matches, a pattern that matches
    nothing, and a field that is not implemented are errors by name. What PEFT
    leaves to the optimizer are options: with `lora-plus-ratio` B and vectors
    train at that multiple of the rate, with `lora-fa` A is frozen and saved.
    Separate from the import because the same model takes many adapters.
    (* example filepath=test/Transforms/attach-adapters.mlir *)
  }];
  let options = [
    Option<"config", "config", "std::string", "\"\"", "adapter_config.json as text">,
    Option<"loraPlusRatio", "lora-plus-ratio", "double", "1.0", "rate of B and of vectors over the rate of A (LoRA+)">,
    Option<"loraFA", "lora-fa", "bool", "false", "freeze A (LoRA-FA)">
  ];
  let statistics = [Statistic<"attached", "modules-adapted", "Number of modules that got an adapter">];
  let dependentDialects = ["::peftc::nn::NNDialect", "::peftc::lora::LoraDialect"];
}

def TrainAllParameters : Pass<"peft-train-all-parameters", "::mlir::ModuleOp"> {
  let summary = "make every parameter trainable (full fine-tuning)";
  let description = [{
    Before: a model whose parameters are all frozen. After: all of them are
    trainable f32 masters that remember the type they are stored in; biases and
    norm weights are exempt from decay. Separate from `peft-attach-adapters`
    because the two exclude each other.
    (* example filepath=test/Transforms/train-all-parameters.mlir *)
  }];
  let statistics = [Statistic<"trained", "parameters-trained", "Number of trainable parameters">];
  let dependentDialects = ["::peftc::nn::NNDialect"];
}

def ConvertBase : Pass<"peft-convert-base", "::mlir::ModuleOp"> {
  let summary = "store the frozen weights in another type";
  let description = [{
    Before: an adapted model whose frozen parameters have the type their tensor
    is stored in. After: every frozen parameter has element type `type` and
    remembers the stored one as `sourceType`; the plan then keeps a rounded copy
    in the arena instead of mapping the file. Trained parameters stay f32
    masters. Separate from the import because the choice belongs to one plan,
    not to the model.
    (* example filepath=test/Transforms/convert-base.mlir *)
  }];
  let options = [
    Option<"type", "type", "std::string", "\"\"", "f32, bf16 or f16">
  ];
  let statistics = [Statistic<"converted", "parameters-converted", "Number of parameters that changed their type">];
  let dependentDialects = ["::peftc::nn::NNDialect"];
}

def QuantizeBase : Pass<"peft-quantize-base", "::mlir::ModuleOp"> {
  let summary = "store the frozen matrices as 4-bit or 8-bit codes";
  let description = [{
    Before: an adapted model whose frozen parameters have the type their tensor
    is stored in. After: the chosen matrices have an element type of `qw` and
    remember the stored one as `sourceType`; the runtime makes their codes when
    it loads the plan. Chosen are the linears of the layers, as bitsandbytes
    does it; with `head` the head and the embedding too; with `include` what its
    expression matches, a module's whole path. What the files hold quantized is
    kept, and refused if the format is another one. Separate from ConvertBase
    because codes are no rounded numbers: they have scales, and cannot train.
    (* example filepath=test/Transforms/quantize-base.mlir *)
  }];
  let options = [
    Option<"type", "type", "std::string", "\"\"", "nf4, fp4 or int8">,
    Option<"block", "block", "int64_t", "64", "elements that share a scale">,
    Option<"nested", "nested", "bool", "false", "whether scales are quantized, too">,
    Option<"head", "head", "bool", "false", "also the head and the embedding">,
    Option<"include", "include", "std::string", "\"\"", "only modules that match">,
    Option<"exclude", "exclude", "std::string", "\"\"", "no modules that match">
  ];
  let statistics = [Statistic<"quantized", "parameters-quantized", "Number of parameters that became codes">];
  let dependentDialects = ["::peftc::nn::NNDialect", "::peftc::qw::QWDialect"];
}

def Differentiate : Pass<"peft-differentiate", "::mlir::ModuleOp"> {
  let summary = "build the training step: micro_step, update, eval, logits";
  let description = [{
    Before: a specialized, adapted model (`@body` and `@head`). After: the
    functions `micro_step`, `update`, `eval` and `logits`, the states they share
    and, where DoRA's magnitudes start as norms, the function `initialize`; `@body` and `@head` are gone. Backward ops exist only where a
    gradient can reach a trainable parameter; a value is kept only if one of
    them reads it. The head runs on compacted rows in chunks of at most
    `head-chunk-bytes` of logits. In f16 the gradient of the loss is scaled, and
    the update divides by the scale and adjusts it. Separate from the conversion
    because it knows arithmetic and no buffers.
    (* example filepath=test/Transforms/differentiate.mlir *)
  }];
  let options = [
    Option<"headChunkBytes", "head-chunk-bytes", "int64_t", "64 << 20", "largest f32 logits buffer of one chunk, bytes">,
    Option<"optimizer", "optimizer", "std::string", "\"adamw\"", "adamw, or adamw8bit: moments in 8 bits where a tensor has at least 4,096 elements">
  ];
  let statistics = [Statistic<"backwardOps", "backward-ops", "Number of backward ops built">];
  let dependentDialects = ["::peftc::nn::NNDialect", "::peftc::lora::LoraDialect"];
}

def ChooseRecompute : Pass<"peft-choose-recompute", "::mlir::ModuleOp"> {
  let summary = "mark the forward values that backward computes again";
  let description = [{
    Before: the step, in which every forward value that backward reads is kept.
    After: ops of the forward pass carry `nn.not_kept`, the numbers of their
    results that are not. `policy=layers` marks all that only its own layer
    reads, so that what is kept of a layer is what it hands to the next: one
    hidden state. A layer is what has one number in its Hugging Face name
    (`model.layers.7`). Only a decision, so that `peft-rematerialize` serves
    every way of making it.
    (* example filepath=test/Transforms/choose-recompute.mlir *)
  }];
  let options = [
    Option<"policy", "policy", "std::string", "\"none\"", "none or layers">
  ];
  let statistics = [Statistic<"chosen", "values-not-kept", "Number of values marked">];
}

def Rematerialize : Pass<"peft-rematerialize", "::mlir::ModuleOp"> {
  let summary = "compute forward values that are not kept again in backward";
  let description = [{
    Before: ops of the forward pass may carry `nn.not_kept`. After: no backward
    op reads a value so marked; each reads a clone, which stands just before the
    first backward op that needs it and is marked `nn.recomputed`. Only what
    some backward op reads is cloned, and of a `lora.linear` only the
    projection where that is enough. Clones run the same kernels on the same
    inputs, dropout included: no bit changes. Before the conversion, so that the
    memory planner sees the shorter lifetimes.
    (* example filepath=test/Transforms/rematerialize.mlir *)
  }];
  let statistics = [
    Statistic<"opsRecomputed", "ops-recomputed", "Number of forward ops that run again">,
    Statistic<"bytesNotKept", "bytes-not-kept", "Bytes that backward reads and that are computed again">
  ];
  let dependentDialects = ["::peftc::lora::LoraDialect"];
}

def VerifyStage : Pass<"peft-verify-stage", "::mlir::ModuleOp"> {
  let summary = "refuse what a finished stage should have removed";
  let description = [{
    Runs after each stage of the pipeline and names the first op that does not
    belong: `model` has no trainable parameter and no backward op, `adapted` has
    at least one trainable parameter, `step` has static shapes, only the
    entry points and no value that is marked as not kept, `planned` has only the plan dialect with every offset set.
    Separate so that a broken pass is found where it broke.
    (* example filepath=test/Transforms/verify-stage.mlir *)
  }];
  let options = [
    Option<"stage", "stage", "std::string", "\"\"", "model, adapted, step, converted or planned">
  ];
  let statistics = [Statistic<"checked", "ops-checked", "Number of ops looked at">];
}

def ConvertToPlan : Pass<"peft-convert-to-plan", "::mlir::ModuleOp"> {
  let summary = "turn the step into launches over buffers";
  let description = [{
    Before: the step. After: one `plan.program`: every tensor value is a
    `plan.buffer`, every op one or more `plan.launch`es in an order that frees
    memory early, gradient sums and the optimizer on a second stream. Which
    kernel runs is decided here; where bytes lie is not. For a CUDA `device` the
    frozen weights are buffers of arena 0 that start from their files, and the
    scratch that only the CPU device uses is in arena 1, pageable; with the
    `capability` of the card each attention names its engine. The one pass
    that knows both sides.

    Adapters of one input (q, k and v; gate and up) are projected down by one
    launch of two or three, if they have one dropout; each keeps its own rank,
    scale and mask. `group-down-projections=false` gives one launch each, with
    the same bits on the CPU.
    (* example filepath=test/Conversion/convert-to-plan.mlir *)
  }];
  let options = [
    Option<"maxThreads", "max-threads", "int64_t", "8", "threads that per-thread workspaces are made for">,
    Option<"target", "target", "std::string", "\"cpu\"", "name of the target">,
    Option<"device", "device", "std::string", "\"cpu\"", "kind of the target: cpu or cuda">,
    Option<"convertWeights", "convert-weights", "bool", "false", "on a card, keep the frozen weights that matrix products read in the compute type">,
    Option<"groupDownProjections", "group-down-projections", "bool", "true", "project the adapters of one input down by one launch">,
    Option<"capability", "capability", "int64_t", "0", "of the card, 90 for 9.0: which engines of attention its library has (0: none)">
  ];
  let statistics = [Statistic<"launches", "launches", "Number of launches">];
  let dependentDialects = ["::peftc::plan::PlanDialect"];
}

def PlanMemory : Pass<"peft-plan-memory", "::mlir::ModuleOp"> {
  let summary = "give every buffer its offset";
  let description = [{
    Before: buffers without offsets. After: persistent buffers lie at the start
    of the arena; local ones share what follows, two of them the same bytes only
    if their lifetimes in file order do not meet. Greedy best-fit in two orders
    (by size, by start), the smaller arena kept; the lower bound (most bytes
    live at once) is written beside it. Separate from the conversion so that
    offsets can be checked on small inputs.
    (* example filepath=test/Transforms/plan-memory.mlir *)
  }];
  let options = [
    Option<"alignment", "arena-alignment", "int64_t", "64", "every offset is a multiple of this, bytes">
  ];
  let statistics = [
    Statistic<"arenaBytes", "arena-bytes", "Bytes of the arena">,
    Statistic<"lowerBound", "lower-bound-bytes", "Most bytes live at once">
  ];
  let dependentDialects = ["::peftc::plan::PlanDialect"];
}

def InsertWaits : Pass<"peft-insert-waits", "::mlir::ModuleOp"> {
  let summary = "order conflicting accesses of different streams";
  let description = [{
    Before: offsets are set, streams are independent. After: of any two items of
    different streams whose bytes conflict, the later in the file waits for an
    event recorded after the earlier; no wait is implied by the others. After
    memory planning, because sharing bytes makes conflicts too.
    (* example filepath=test/Transforms/insert-waits.mlir *)
  }];
  let statistics = [Statistic<"waits", "waits-inserted", "Number of waits">];
  let dependentDialects = ["::peftc::plan::PlanDialect"];
}

#endif
