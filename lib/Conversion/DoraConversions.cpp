//===- DoraConversions.cpp - DoRA and its gradients as launches -----------===//
#include "StepConverter.h"

using namespace mlir;
using namespace peftc;
using namespace peft::kernels;

/// Gradient sums run beside the chain of activations.
static constexpr int64_t sumStream = 1;

/// The kernel reads numbers: of a quantized weight they are made before it.
template <typename Op>
FailureOr<KernelCall> StepConverter::normCall(Op op) {
  FailureOr<Value> weight = use(op.getWeight());
  if (given.quantized.contains(op.getWeight()))
    weight = dequantized(op, op.getWeight());
  if (failed(weight))
    return failure();
  KernelCall c = call(op, "dora_norm");
  c.operand(dora_norm::w, *weight)
      .operand(dora_norm::a, use(op.getA()))
      .operand(dora_norm::b, use(op.getB()))
      .set(dora_norm::scale, op.getScale().convertToDouble());
  return c;
}

LogicalResult StepConverter::lower(lora::DoraStartOp op) {
  FailureOr<KernelCall> c = normCall(op);
  if (failed(c))
    return failure();
  c->operand(dora_norm::norm, use(op.getMagnitude()));
  return launch(op, *c);
}

FailureOr<Value> StepConverter::dropInput(lora::DoraLinearOp op,
                                          bool complement) {
  using namespace dropout_fwd;
  KernelCall c = call(op, "dropout_fwd");
  c.operand(x, use(op.getInput()))
      .set(dropout_fwd::complement, int64_t(complement));
  setDropout(c, op.getDropout().convertToDouble(), op.getModule());
  Value result =
      scratch(op, c, y, llvm::cast<RankedTensorType>(op.getInput().getType()));
  if (failed(launch(op, c)))
    return failure();
  return result;
}

LogicalResult StepConverter::lower(lora::DoraLinearOp op) {
  FailureOr<KernelCall> norms = normCall(op);
  if (failed(norms))
    return failure();
  define(op, op.getNorm(), *norms, dora_norm::norm);
  if (failed(launch(op, *norms)))
    return failure();

  bool drops = !op.getDropout().isZero();
  Value input = use(op.getInput());
  if (drops) {
    FailureOr<Value> dropped = dropInput(op, /*complement=*/false);
    if (failed(dropped))
      return failure();
    input = *dropped;
  }
  KernelCall down = call(op, "lora_down_fwd");
  down.operand(lora_down_fwd::x, input)
      .operand(lora_down_fwd::a, use(op.getA()))
      .set(lora_down_fwd::scale, op.getScale().convertToDouble());
  Value projection = define(op, op.getProjection(), down, lora_down_fwd::t);
  if (failed(launch(op, down)))
    return failure();

  KernelCall up = call(op, "linear_lora_fwd");
  if (failed(setWeight(op, up, op.getWeight())))
    return failure();
  up.operand(linear_lora_fwd::x, input)
      .operand(linear_lora_fwd::t, projection)
      .operand(linear_lora_fwd::b, use(op.getB()));
  Value product = define(op, op.getProduct(), up, linear_lora_fwd::y);
  if (failed(launch(op, up)))
    return failure();

  Value bias = op.getBias() ? useInProduct(*op.getBias()) : Value();
  Value start = use(op.getResidual());
  if (drops) {
    // What dropout changed of the input meets the base without the scale.
    FailureOr<Value> rest = dropInput(op, /*complement=*/true);
    if (failed(rest))
      return failure();
    KernelCall base = call(op, "linear_fwd");
    if (failed(setWeight(op, base, op.getWeight())))
      return failure();
    base.operand(linear_fwd::x, *rest)
        .operand(linear_fwd::bias, bias)
        .operand(linear_fwd::init, start);
    auto type = llvm::cast<RankedTensorType>(op.getResult().getType());
    start = scratch(op, base, linear_fwd::y,
                    type.clone(Float32Type::get(op.getContext())));
    bias = {};
    if (failed(launch(op, base)))
      return failure();
  }
  KernelCall c = call(op, "dora_scale");
  c.operand(dora_scale::x, product)
      .operand(dora_scale::magnitude, use(op.getMagnitude()))
      .operand(dora_scale::norm, use(op.getNorm()))
      .operand(dora_scale::bias, bias)
      .operand(dora_scale::init, start);
  define(op, op.getResult(), c, dora_scale::y);
  return launch(op, c);
}

LogicalResult StepConverter::lower(lora::DoraScaleOp op) {
  using namespace dora_scale;
  KernelCall c = call(op, "dora_scale");
  c.operand(x, use(op.getDy()))
      .operand(magnitude, use(op.getMagnitude()))
      .operand(norm, use(op.getNorm()))
      .set(less, int64_t(op.getLess()));
  define(op, op.getDz(), c, y);
  return launch(op, c);
}

LogicalResult StepConverter::lower(lora::DoraDwOp op) {
  using namespace dora_dw;
  KernelCall c = call(op, "dora_dw", sumStream);
  c.operand(dy, use(op.getDy()))
      .operand(x, use(op.getProduct()))
      .operand(norm, use(op.getNorm()))
      .operand(dmagnitude, use(op.getGradient()));
  return launch(op, c);
}

LogicalResult StepConverter::lower(lora::DropoutOp op) {
  using namespace dropout_fwd;
  KernelCall c = call(op, "dropout_fwd");
  c.operand(x, use(op.getInput())).operand(init, use(op.getInit()));
  setDropout(c, op.getDropout().convertToDouble(), op.getModule());
  define(op, op.getResult(), c, y);
  return launch(op, c);
}
