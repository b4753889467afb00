//===- StepConverter.cpp - chunks, the loss, the update -------------------===//
#include "StepConverter.h"

#include "peftc/Transforms/Recompute.h"

#include "llvm/ADT/TypeSwitch.h"

using namespace mlir;
using namespace peftc;
using namespace peft::kernels;

/// Gradient sums and the optimizer run beside the chain of activations.
static constexpr int64_t sumStream = 1;

KernelCall StepConverter::call(Operation *op, StringRef kernel,
                               int64_t stream) {
  KernelCall call(kernel, moduleOf(op), stream);
  if (op->hasAttr(recomputedAttr))
    call.again();
  return call;
}

LogicalResult StepConverter::launch(Operation *op, KernelCall &call) {
  if (chunk) {
    Value count = use(chunk.getCount());
    int64_t start = chunk.getStart();
    if (call.kernel().findOperand("count") >= 0)
      call.operand("count", count).set("row_start", start);
    call.onlyIf(count, start);
  }
  ++launchCount;
  return plan.launch(op->getLoc(), call);
}

Value StepConverter::scratch(Operation *op, KernelCall &call, int operand,
                             RankedTensorType type) {
  const peft::OperandSpec &spec = call.kernel().operands[operand];
  bool oneDimension = spec.shape.find(',') == std::string_view::npos &&
                      spec.shape.front() != '#';
  std::string name = moduleOf(op) + "/" + std::string(call.kernel().name) +
                     "." + std::string(spec.name);
  if (op->hasAttr(recomputedAttr))
    name += " (recomputed)";
  Value buffer = plan.addBuffer(
      op->getLoc(), name, flatten(type, oneDimension ? 1 : 2), "activation");
  call.operand(operand, buffer);
  return buffer;
}

Value StepConverter::define(Operation *op, Value result, KernelCall &call,
                            int operand) {
  Value &buffer = buffers[result];
  if (buffer) // decided before: nn.store
    call.operand(operand, buffer);
  else
    buffer = scratch(op, call, operand,
                     llvm::cast<RankedTensorType>(result.getType()));
  return buffer;
}

FailureOr<Value> StepConverter::useFactor(Operation *op, StringRef symbol) {
  auto found = given.joined.find(symbol);
  if (found == given.joined.end())
    return useInProduct(symbol);
  const JoinedFactor &factor = found->second;
  auto first = llvm::cast<RankedTensorType>(
      factor.first.getDefiningOp<plan::BufferOp>().getType());
  KernelCall c = call(op, "join");
  c.operand(join::a, factor.first)
      .operand(join::b, factor.second)
      .set(join::beside,
           int64_t(first.getDimSize(0) == factor.type.getDimSize(0)));
  Value result = scratch(op, c, join::y, factor.type);
  if (failed(launch(op, c)))
    return failure();
  return result;
}

void StepConverter::setDropout(KernelCall &call, double dropout,
                               StringRef module, StringRef key) {
  if (dropout == 0)
    return;
  call.set("dropout", dropout)
      .set(key, static_cast<int64_t>(hashName((module + ".dropout").str())))
      .set("seq", seq)
      .operand("seed", use("seed"))
      .operand("step", use("step"))
      .operand("first_row", use("first_row"));
  if (chunk)
    call.operand("index", use(chunk.getIndex()));
}

bool StepConverter::setParts(KernelCall &call, StringRef symbol) {
  auto found = given.quantized.find(symbol);
  if (found == given.quantized.end())
    return false;
  const QuantizedBuffers &parts = found->second;
  call.operand("absmax", parts.absmax)
      .operand("nested_absmax", parts.nestedAbsmax)
      .operand("tables", parts.tables)
      .set("block", parts.block)
      .set("nested", parts.nested);
  return true;
}

FailureOr<Value> StepConverter::dequantized(Operation *op, StringRef symbol) {
  if (decodedSymbol == symbol)
    return decoded;
  Value codes = use(symbol);
  auto type = llvm::cast<RankedTensorType>(
      codes.getDefiningOp<plan::BufferOp>().getType());
  std::string module = symbol.str();
  KernelCall decode("dequantize", module);
  if (op->hasAttr(recomputedAttr))
    decode.again();
  decode.operand(dequantize::w, codes);
  setParts(decode, symbol);
  decoded = plan.addBuffer(op->getLoc(), module + "/decoded",
                           type.clone(compute), "workspace");
  decode.operand(dequantize::y, decoded);
  decodedSymbol = symbol.str();
  // Without a chunk's predicate: later chunks may read the numbers, too.
  ++launchCount;
  if (failed(plan.launch(op->getLoc(), decode)))
    return failure();
  return decoded;
}

LogicalResult StepConverter::setWeight(Operation *op, KernelCall &call,
                                       StringRef symbol) {
  bool decode = given.quantized.contains(symbol) && plan.forCard();
  if (!decode)
    setParts(call, symbol);
  FailureOr<Value> weight =
      decode ? dequantized(op, symbol) : useFactor(op, symbol);
  if (failed(weight))
    return failure();
  call.operand("w", *weight);
  return success();
}

LogicalResult StepConverter::convert(func::FuncOp function) {
  plan.startEntry(function.getLoc(), function.getSymName());
  for (BlockArgument argument : function.getArguments()) {
    auto port = function.getArgAttrOfType<StringAttr>(argument.getArgNumber(),
                                                      "nn.port");
    Value buffer = port ? given.ports.lookup(port.getValue()) : Value();
    if (!buffer)
      return function.emitOpError("argument ")
             << argument.getArgNumber() << " is no port of a plan";
    buffers[argument] = buffer;
  }
  function.walk([&](nn::StoreOp store) {
    buffers[store.getValue()] = use(store.getState());
  });
  for (Operation &op : function.front())
    if (failed(convertOp(&op)))
      return failure();
  plan.endEntry();
  return success();
}

LogicalResult StepConverter::convertOp(Operation *op) {
  return TypeSwitch<Operation *, LogicalResult>(op)
      .Case<nn::EmbedOp, nn::LinearOp, nn::RMSNormOp, nn::RopeTableOp,
            nn::RopeOp, nn::AttentionOp, nn::SwigluOp, nn::GegluOp,
            nn::SoftcapOp, nn::SplitOp, nn::GegluGradOp, nn::SoftcapGradOp,
            nn::ConcatOp, lora::LinearOp, lora::DownOp,
            nn::LinearDxOp, nn::LinearDwOp, nn::BiasDwOp, nn::RMSNormDxOp,
            nn::RMSNormDwOp, nn::AttentionGradOp, nn::SwigluGradOp,
            nn::EmbedDwOp, nn::AddOp, nn::CastOp, lora::LinearDxOp,
            lora::DownDwOp, lora::DoraLinearOp, lora::DoraScaleOp,
            lora::DoraDwOp, lora::DropoutOp, lora::DoraStartOp,
            lora::FirstFeaturesOp, nn::CompactRowsOp, nn::ChunkOp, nn::YieldOp,
            nn::GatherRowsOp, nn::ScatterRowsOp, nn::ZerosOp,
            nn::CrossEntropyOp, nn::CountTokensOp, nn::StoreOp,
            nn::AccumulateOp, nn::NormSquareOp, nn::FinishStepOp,
            nn::AdjustLossScaleOp, nn::AdamWOp, nn::ClearOp, func::ReturnOp>(
          [&](auto concrete) { return lower(concrete); })
      .Default([](Operation *op) {
        return op->emitOpError("has no kernel: it cannot be in a step");
      });
}

//===----------------------------------------------------------------------===//
// The head and the loss
//===----------------------------------------------------------------------===//

LogicalResult StepConverter::lower(nn::CompactRowsOp op) {
  using namespace compact_rows;
  KernelCall c = call(op, "compact_rows");
  c.operand(labels, use(op.getLabels()))
      .operand(segments, use(op.getSegments()))
      .set(compact_rows::seq, this->seq)
      .set(vocab, static_cast<int64_t>(op.getVocab()));
  define(op, op.getIndex(), c, compact_rows::index);
  define(op, op.getTarget(), c, target);
  define(op, op.getCount(), c, count);
  return launch(op, c);
}

LogicalResult StepConverter::lower(nn::ChunkOp op) {
  if (chunk)
    return op.emitOpError("cannot stand inside another chunk");
  chunk = op;
  for (Operation &inner : op->getRegion(0).front())
    if (failed(convertOp(&inner)))
      return failure();
  chunk = {};
  return success();
}

LogicalResult StepConverter::lower(nn::YieldOp op) {
  for (auto [result, value, init] :
       llvm::zip_equal(chunk.getResults(), op.getValues(), chunk.getInits())) {
    if (use(value) != use(init))
      return op.emitOpError("must give back what the body updated in place; "
                            "an operand lies elsewhere");
    buffers[result] = use(value);
  }
  return success();
}

LogicalResult StepConverter::lower(nn::GatherRowsOp op) {
  using namespace gather_rows;
  KernelCall c = call(op, "gather_rows");
  c.operand(x, use(op.getInput()))
      .operand(gather_rows::index, use(op.getIndex()));
  define(op, op.getResult(), c, y);
  return launch(op, c);
}

LogicalResult StepConverter::lower(nn::ScatterRowsOp op) {
  using namespace scatter_rows;
  KernelCall c = call(op, "scatter_rows");
  Value into = use(op.getInto());
  c.operand(x, use(op.getInput()))
      .operand(scatter_rows::index, use(chunk.getIndex()))
      .operand(y, into);
  buffers[op.getResult()] = into;
  return launch(op, c);
}

LogicalResult StepConverter::lower(nn::ZerosOp op) {
  KernelCall c = call(op, "fill_zero");
  define(op, op.getResult(), c, fill_zero::y);
  return launch(op, c);
}

LogicalResult StepConverter::lower(nn::CrossEntropyOp op) {
  auto logits = llvm::cast<RankedTensorType>(op.getLogits().getType());
  auto losses =
      RankedTensorType::get({logits.getDimSize(0)}, logits.getElementType());
  bool backward = static_cast<bool>(op.getDLogits());
  // The two kernels have their common operands in the same places.
  using namespace cross_entropy_fwd_bwd;
  KernelCall c =
      call(op, backward ? "cross_entropy_fwd_bwd" : "cross_entropy_fwd");
  c.operand(cross_entropy_fwd_bwd::logits, use(op.getLogits()))
      .operand(target, use(op.getTarget()));
  Value lossRows = scratch(op, c, loss, losses);
  if (backward)
    define(op, op.getDLogits(), c, dlogits);
  if (std::optional<StringRef> scale = op.getLossScale())
    c.operand(loss_scale, use(*scale));
  if (failed(launch(op, c)))
    return failure();
  KernelCall sum = call(op, "loss_sum", sumStream);
  sum.operand(loss_sum::loss, lossRows)
      .operand(loss_sum::sum, use(op.getLossSum()));
  return launch(op, sum);
}

LogicalResult StepConverter::lower(nn::CountTokensOp op) {
  KernelCall c = call(op, "count_tokens", sumStream);
  c.operand(count_tokens::count, use(op.getCount()))
      .operand(count_tokens::tokens, use(op.getSum()));
  return launch(op, c);
}

LogicalResult StepConverter::lower(nn::StoreOp op) { return success(); }

LogicalResult StepConverter::lower(func::ReturnOp op) { return success(); }

//===----------------------------------------------------------------------===//
// The update
//===----------------------------------------------------------------------===//

LogicalResult StepConverter::lower(nn::AccumulateOp op) {
  KernelCall c = call(op, "accumulate");
  c.operand(accumulate::x, use(op.getSource()))
      .operand(accumulate::y, use(op.getInto()));
  return launch(op, c);
}

LogicalResult StepConverter::lower(nn::NormSquareOp op) {
  KernelCall c = call(op, "norm_square");
  c.operand(norm_square::x, use(op.getGradient()))
      .operand(norm_square::sum, use(op.getSum()));
  return launch(op, c);
}

LogicalResult StepConverter::lower(nn::FinishStepOp op) {
  KernelCall c = call(op, "finish_step");
  // The states have the names of the operands, but for one.
  for (const peft::OperandSpec &operand : c.kernel().operands) {
    StringRef name(operand.name.data(), operand.name.size());
    if (!operand.optional)
      c.operand(name, use(name == "norm_sum" ? "norm_square" : name));
  }
  if (std::optional<StringRef> scale = op.getLossScale())
    c.operand(finish_step::loss_scale, use(*scale));
  return launch(op, c);
}

LogicalResult StepConverter::lower(nn::AdjustLossScaleOp op) {
  using namespace adjust_loss_scale;
  KernelCall c = call(op, "adjust_loss_scale");
  c.operand(metrics, use("metrics"))
      .operand(adjust_loss_scale::loss_scale, use("loss_scale"))
      .operand(good_steps, use("good_steps"))
      .operand(proceed, use("proceed"))
      .set(growth_interval, static_cast<int64_t>(op.getGrowthInterval()));
  return launch(op, c);
}

LogicalResult StepConverter::lower(nn::AdamWOp op) {
  bool coded = op.getFirstScale().has_value();
  KernelCall c = call(op, coded ? "adamw8bit" : "adamw", sumStream);
  c.operand("parameter", use(op.getParameter()))
      .operand("gradient", use(op.getGradient()))
      .operand("first_moment", use(op.getFirstMoment()))
      .operand("second_moment", use(op.getSecondMoment()))
      .operand("adam", use("adam"))
      .set("rate_factor", op.getRateFactor().convertToDouble())
      .set("decay", int64_t(op.getDecay()))
      .onlyIf(use("apply"), 0);
  if (coded)
    c.operand("first_scale", use(*op.getFirstScale()))
        .operand("second_scale", use(*op.getSecondScale()));
  return launch(op, c);
}

LogicalResult StepConverter::lower(nn::ClearOp op) {
  // A step that ends the run keeps its gradients, so that they can be looked
  // at. Without a loss scale that is each step that is not applied but has
  // trained tokens; without those, the gradients are zero already.
  Value proceed = use("proceed");
  KernelCall c = call(op, "fill_zero", sumStream);
  c.operand(fill_zero::y, use(op.getState()))
      .onlyIf(proceed ? proceed : use("apply"), 0);
  return launch(op, c);
}
