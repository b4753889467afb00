//===- Differentiate.cpp - build the training step ------------------------===//
//
// From @body (tokens to final hidden states) and @head (rows of them to
// logits) to the four entry points. The loss is a sum over tokens, and so are
// all gradients: the update divides once.
//
//===----------------------------------------------------------------------===//
#include "DifferentiateGradients.h"
#include "DifferentiateStates.h"

#include "peftc/Dialect/Lora/Lora.h"
#include "peftc/Dialect/NN/Gradients.h"
#include "peftc/Transforms/Passes.h"

#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "mlir/IR/IRMapping.h"
#include "llvm/Support/MathExtras.h"

namespace peftc {
#define GEN_PASS_DEF_DIFFERENTIATE
#include "peftc/Transforms/Passes.h.inc"
} // namespace peftc

using namespace mlir;
using namespace peftc;

namespace {

/// The two functions of a model and what the step needs to know about them.
struct Model {
  ModuleOp module;
  func::FuncOp body, head;
  RankedTensorType ids;    ///< [batch, seq] i32
  RankedTensorType hidden; ///< [batch, seq, hidden] in the compute type
  int64_t vocab = 0;

  int64_t tokens() const { return ids.getNumElements(); }
  Type compute() const { return hidden.getElementType(); }
};

/// Copies the ops of `function` to `builder`, with `inputs` as its arguments.
/// Rows of the head are `?` in the model; `rows` is what they are here.
Tape copyForward(OpBuilder &builder, func::FuncOp function, ValueRange inputs,
                 bool training, int64_t rows = ShapedType::kDynamic) {
  Tape tape;
  IRMapping mapping;
  mapping.map(function.getArguments(), inputs);
  for (Operation &op : function.front().without_terminator()) {
    Operation *copy = builder.clone(op, mapping);
    for (Value result : copy->getResults()) {
      auto type = cast<RankedTensorType>(result.getType());
      if (type.hasStaticShape())
        continue;
      SmallVector<int64_t> shape(type.getShape());
      shape.front() = rows;
      result.setType(type.clone(shape));
    }
    if (isa<lora::LinearOp, lora::DoraLinearOp>(copy) && !training)
      copy->setAttr("dropout", builder.getF64FloatAttr(0.0));
    tape.ops.push_back({copy, &op});
  }
  Operation *end = function.front().getTerminator();
  tape.result = mapping.lookupOrDefault(end->getOperand(0));
  return tape;
}

class StepBuilder {
public:
  StepBuilder(Model &model, GradientSums &sums, int64_t headChunkBytes)
      : model(model), sums(sums), builder(model.module.getContext()),
        headChunkBytes(headChunkBytes) {}

  void buildPass(StringRef name, bool training);
  void buildLogits();
  void buildInitialize();

private:
  func::FuncOp startFunction(StringRef name, ArrayRef<StringRef> ports,
                             ArrayRef<Type> types);
  void buildChunk(nn::CompactRowsOp rows, Value hidden, Value &dHidden,
                  int64_t start, int64_t size, StringRef lossSum,
                  bool training);
  int64_t chunkRows() const;

  Model &model;
  GradientSums &sums;
  OpBuilder builder;
  int64_t headChunkBytes;
};

func::FuncOp StepBuilder::startFunction(StringRef name,
                                        ArrayRef<StringRef> ports,
                                        ArrayRef<Type> types) {
  builder.setInsertionPointToEnd(model.module.getBody());
  auto loc = NameLoc::get(builder.getStringAttr(name));
  auto function = func::FuncOp::create(builder, loc, name,
                                       builder.getFunctionType(types, {}));
  for (auto [index, port] : llvm::enumerate(ports))
    function.setArgAttr(index, "nn.port", builder.getStringAttr(port));
  builder.setInsertionPointToStart(function.addEntryBlock());
  return function;
}

/// Rows of a chunk: the largest power of two whose f32 logits fit the limit,
/// not fewer than 16 and not more than there are tokens. Millions of tokens get
/// larger chunks, so that the step stays a few thousand ops.
int64_t StepBuilder::chunkRows() const {
  constexpr int64_t mostChunks = 4096;
  uint64_t fitting = headChunkBytes / (model.vocab * 4);
  int64_t rows = std::max<int64_t>(16, llvm::bit_floor(fitting));
  while (rows * mostChunks < model.tokens())
    rows *= 2;
  return std::min(rows, model.tokens());
}

/// The head forward, the loss and, in training, the head backward of the
/// compacted rows [start, start + size). `dHidden` (null when no gradient is
/// wanted) is the gradient of the body's result, into which rows scatter.
void StepBuilder::buildChunk(nn::CompactRowsOp rows, Value hidden,
                             Value &dHidden, int64_t start, int64_t size,
                             StringRef lossSum, bool training) {
  Location loc = rows.getLoc();
  SmallVector<Value> inits;
  if (dHidden)
    inits.push_back(dHidden);
  auto chunk =
      nn::ChunkOp::create(builder, loc, ValueRange(inits).getTypes(),
                          rows.getIndex(), rows.getCount(), inits, start, size);
  OpBuilder::InsertionGuard guard(builder);
  builder.createBlock(&chunk->getRegion(0));
  Value input = nn::GatherRowsOp::create(
      builder, loc,
      RankedTensorType::get({size, nn::features(hidden)}, model.compute()),
      hidden, rows.getIndex());
  Tape tape = copyForward(builder, model.head, input, training, size);
  TapeGradients gradients(tape, sums,
                          dHidden ? ValueRange(input) : ValueRange());

  bool wanted = training && gradients.needsGradient(tape.result);
  Type dLogitsType;
  if (wanted)
    dLogitsType =
        cast<RankedTensorType>(tape.result.getType()).clone(model.compute());
  auto symbol = [&](StringRef name) {
    return FlatSymbolRefAttr::get(builder.getContext(), name);
  };
  bool scaled = wanted && isLossScaled(model.compute());
  auto loss = nn::CrossEntropyOp::create(
      builder, loc, dLogitsType, tape.result, rows.getTarget(), symbol(lossSum),
      scaled ? symbol("loss_scale") : FlatSymbolRefAttr());
  SmallVector<Value> results;
  if (wanted) {
    gradients.setPartial(tape.result, loss.getDLogits());
    gradients.buildBackward(builder);
  }
  if (dHidden) {
    Value dInput = gradients.gradient(input);
    results.push_back(nn::ScatterRowsOp::create(builder, loc, dHidden.getType(),
                                                dInput, dHidden));
    dHidden = chunk->getResult(0);
  }
  nn::YieldOp::create(builder, loc, results);
}

/// `micro_step` (training) and `eval`: the same forward pass; only one of them
/// has gradients and dropout.
void StepBuilder::buildPass(StringRef name, bool training) {
  func::FuncOp function = startFunction(
      name, {"input_ids", "labels", "position_ids", "segment_ids"},
      {model.ids, model.ids, model.ids, model.ids});
  Value ids = function.getArgument(0), labels = function.getArgument(1),
        positions = function.getArgument(2), segments = function.getArgument(3);
  Tape tape =
      copyForward(builder, model.body, {ids, positions, segments}, training);
  TapeGradients gradients(tape, sums);

  Location loc = NameLoc::get(builder.getStringAttr("loss"));
  auto indices = RankedTensorType::get({model.tokens()}, builder.getI32Type());
  auto one = RankedTensorType::get({1}, builder.getI32Type());
  auto rows =
      nn::CompactRowsOp::create(builder, loc, indices, indices, one, labels,
                                segments, (uint64_t)model.vocab);
  nn::CountTokensOp::create(builder, loc, rows.getCount(),
                            training ? "tokens" : "eval_tokens");
  Value dHidden;
  if (training && gradients.needsGradient(tape.result))
    dHidden =
        nn::ZerosOp::create(builder, loc, gradients.gradientType(tape.result));
  int64_t size = chunkRows();
  for (int64_t start = 0; start < model.tokens(); start += size)
    buildChunk(rows, tape.result, dHidden, start,
               std::min(size, model.tokens() - start),
               training ? "loss_sum" : "eval_loss_sum", training);
  if (dHidden) {
    gradients.setPartial(tape.result, dHidden);
    gradients.buildBackward(builder);
  }
  func::ReturnOp::create(builder, function.getLoc());
}

/// `initialize`, where something starts as a function of parameters.
void StepBuilder::buildInitialize() {
  SmallVector<lora::DoraLinearOp> ops;
  for (func::FuncOp function : {model.body, model.head})
    function.walk([&](lora::DoraLinearOp op) { ops.push_back(op); });
  if (ops.empty())
    return;
  func::FuncOp function = startFunction("initialize", {}, {});
  for (lora::DoraLinearOp op : ops)
    lora::DoraStartOp::create(builder, op.getLoc(), op.getWeightAttr(),
                              op.getAAttr(), op.getBAttr(),
                              op.getMagnitudeAttr(), op.getScaleAttr());
  func::ReturnOp::create(builder, function.getLoc());
}

/// `logits`: the head on one chosen token per row, for generation.
void StepBuilder::buildLogits() {
  int64_t batch = model.ids.getDimSize(0);
  auto rows = RankedTensorType::get({batch}, builder.getI32Type());
  func::FuncOp function = startFunction(
      "logits", {"input_ids", "position_ids", "segment_ids", "logit_rows"},
      {model.ids, model.ids, model.ids, rows});
  Tape body = copyForward(builder, model.body,
                          function.getArguments().take_front(3), false);
  Location loc = function.getLoc();
  Value chosen = nn::GatherRowsOp::create(
      builder, loc,
      RankedTensorType::get({batch, nn::features(body.result)},
                            model.compute()),
      body.result, function.getArgument(3));
  Tape head = copyForward(builder, model.head, chosen, false, batch);
  nn::StoreOp::create(builder, loc, head.result, "logits_output");
  func::ReturnOp::create(builder, loc);
}

/// Finds @body and @head and checks that they are specialized.
FailureOr<Model> findModel(ModuleOp module) {
  Model model;
  model.module = module;
  for (auto function : module.getOps<func::FuncOp>()) {
    if (function.getSymName() == "body")
      model.body = function;
    else if (function.getSymName() == "head")
      model.head = function;
  }
  if (!model.body || !model.head)
    return module.emitOpError("needs the functions @body and @head of a model, "
                              "found no @")
           << (model.body ? "head" : "body");
  for (func::FuncOp function : {model.body, model.head})
    if (!llvm::hasSingleElement(function.getBody()))
      return function.emitOpError("must have one block, found ")
             << function.getBody().getBlocks().size();
  FunctionType body = model.body.getFunctionType();
  FunctionType head = model.head.getFunctionType();
  if (body.getNumInputs() != 3 || body.getNumResults() != 1)
    return model.body.emitOpError(
        "must take ids, positions and segments and give one result");
  if (head.getNumInputs() != 1 || head.getNumResults() != 1)
    return model.head.emitOpError("must take rows and give their logits");
  model.ids = dyn_cast<RankedTensorType>(body.getInput(0));
  model.hidden = dyn_cast<RankedTensorType>(body.getResult(0));
  auto logits = dyn_cast<RankedTensorType>(head.getResult(0));
  if (!model.ids || !model.hidden || !logits || !model.ids.hasStaticShape() ||
      !model.hidden.hasStaticShape() || logits.getRank() != 2)
    return model.body.emitOpError("needs static shapes, found ")
           << body << "; run peft-specialize-model first";
  model.vocab = logits.getDimSize(1);
  return model;
}

/// Every op that a gradient has to pass must have a rule.
LogicalResult checkRules(Model &model) {
  for (func::FuncOp function : {model.body, model.head})
    for (Operation &op : function.front().without_terminator())
      if (!isa<nn::Differentiable, nn::RopeTableOp>(op))
        return op.emitOpError("has no backward rule; ops of @body and @head "
                              "must be Differentiable");
  return success();
}

struct DifferentiatePass
    : public peftc::impl::DifferentiateBase<DifferentiatePass> {
  using DifferentiateBase::DifferentiateBase;

  void runOnOperation() override {
    if (optimizer != "adamw" && optimizer != "adamw8bit") {
      emitError(getOperation().getLoc())
          << "optimizer '" << optimizer << "' is none of adamw, adamw8bit";
      return signalPassFailure();
    }
    bool coded = optimizer == "adamw8bit";
    FailureOr<Model> model = findModel(getOperation());
    if (failed(model) || failed(checkRules(*model)))
      return signalPassFailure();
    GradientSums sums(getOperation());
    if (sums.parameters().empty()) {
      getOperation().emitOpError("has no trainable parameter: attach an "
                                 "adapter or train all parameters first");
      return signalPassFailure();
    }
    for (func::FuncOp function : {model->body, model->head})
      for (Operation &op : function.front())
        sums.addUses(&op);
    for (nn::ParamOp parameter : sums.parameters())
      if (sums.sums(parameter).empty()) {
        parameter.emitOpError("is trainable, but nothing reads it");
        return signalPassFailure();
      }

    OpBuilder states(model->body);
    Type compute = model->compute();
    buildStates(states, sums, model->ids.getDimSize(0), model->vocab, compute,
                coded);
    StepBuilder step(*model, sums, headChunkBytes);
    step.buildPass("micro_step", /*training=*/true);
    buildUpdate(getOperation(), sums, compute, coded);
    step.buildPass("eval", /*training=*/false);
    step.buildLogits();
    step.buildInitialize();
    model->body.erase();
    model->head.erase();
    countBackwardOps();
  }

  void countBackwardOps() {
    getOperation().walk([&](Operation *op) {
      if (isa<nn::LinearDxOp, nn::LinearDwOp, nn::BiasDwOp, nn::RMSNormDxOp,
              nn::RMSNormDwOp, nn::AttentionGradOp, nn::SwigluGradOp,
              nn::GegluGradOp, nn::SoftcapGradOp, nn::ConcatOp, nn::EmbedDwOp,
              lora::LinearDxOp, lora::DownDwOp, lora::DoraScaleOp, lora::DoraDwOp, lora::DropoutOp>(op))
        ++backwardOps;
    });
  }
};

} // namespace
