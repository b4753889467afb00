//===- LayerConversions.cpp - layers and their gradients as launches ------===//
#include "StepConverter.h"

using namespace mlir;
using namespace peftc;
using namespace peft::kernels;

/// Gradient sums run beside the chain of activations.
static constexpr int64_t sumStream = 1;

//===----------------------------------------------------------------------===//
// Forward
//===----------------------------------------------------------------------===//

LogicalResult StepConverter::lower(nn::EmbedOp op) {
  using namespace embed_fwd;
  KernelCall c = call(op, "embed_fwd");
  c.operand(ids, use(op.getIds())).operand(table, use(op.getTable()));
  define(op, op.getResult(), c, y);
  return launch(op, c);
}

LogicalResult StepConverter::lower(nn::LinearOp op) {
  using namespace linear_fwd;
  KernelCall c = call(op, "linear_fwd");
  c.operand(x, use(op.getInput()))
      .operand(w, useInProduct(op.getWeight()))
      .operand(init, use(op.getResidual()));
  if (op.getBias())
    c.operand(bias, useInProduct(*op.getBias()));
  define(op, op.getResult(), c, y);
  return launch(op, c);
}

LogicalResult StepConverter::lower(nn::RMSNormOp op) {
  using namespace rms_norm_fwd;
  KernelCall c = call(op, "rms_norm_fwd");
  c.operand(x, use(op.getInput()))
      .operand(weight, use(op.getWeight()))
      .set(epsilon, op.getEpsilon().convertToDouble());
  define(op, op.getResult(), c, y);
  define(op, op.getRstd(), c, rstd);
  return launch(op, c);
}

LogicalResult StepConverter::lower(nn::RopeTableOp op) {
  using namespace rope_table;
  KernelCall c = call(op, "rope_table");
  c.operand(positions, use(op.getPositions()))
      .set(inv_freq, op.getInvFreq())
      .set(attention_factor, op.getAttentionFactor().convertToDouble());
  define(op, op.getResult(), c, table);
  return launch(op, c);
}

LogicalResult StepConverter::lower(nn::RopeOp op) {
  using namespace rope_fwd;
  KernelCall c = call(op, "rope_fwd");
  c.operand(x, use(op.getInput()))
      .operand(table, use(op.getTable()))
      .set(head_dim, static_cast<int64_t>(op.getHeadDim()))
      .set(inverse, int64_t(op.getInverse()));
  define(op, op.getResult(), c, y);
  return launch(op, c);
}

/// The attributes that attention and its gradient share.
template <typename Op>
static void setHeads(KernelCall &call, Op op, int64_t seq) {
  call.set("seq", seq)
      .set("heads", static_cast<int64_t>(op.getHeads()))
      .set("kv_heads", static_cast<int64_t>(op.getKvHeads()))
      .set("head_dim", static_cast<int64_t>(op.getHeadDim()))
      .set("window", static_cast<int64_t>(op.getWindow()))
      .set("scale", op.getScale().convertToDouble());
}

LogicalResult StepConverter::lower(nn::AttentionOp op) {
  using namespace attention_fwd;
  KernelCall c = call(op, "attention_fwd");
  c.operand(q, use(op.getQuery()))
      .operand(k, use(op.getKey()))
      .operand(v, use(op.getValue()))
      .operand(segments, use(op.getSegments()));
  setHeads(c, op, StepConverter::seq);
  define(op, op.getResult(), c, o);
  define(op, op.getLse(), c, lse);
  return launch(op, c);
}

LogicalResult StepConverter::lower(nn::SwigluOp op) {
  using namespace swiglu_fwd;
  KernelCall c = call(op, "swiglu_fwd");
  c.operand(gate, use(op.getGate())).operand(up, use(op.getUp()));
  define(op, op.getResult(), c, y);
  return launch(op, c);
}

LogicalResult StepConverter::lower(lora::LinearOp op) {
  FailureOr<Value> factorA = useFactor(op, op.getA());
  if (failed(factorA))
    return failure();
  KernelCall down = call(op, "lora_down_fwd");
  down.operand(lora_down_fwd::x, use(op.getInput()))
      .operand(lora_down_fwd::a, *factorA)
      .set(lora_down_fwd::scale, op.getScale().convertToDouble());
  setDropout(down, op.getDropout().convertToDouble(), op.getModule());
  Value projection = define(op, op.getProjection(), down, lora_down_fwd::t);
  if (failed(launch(op, down)))
    return failure();

  FailureOr<Value> factorB = useFactor(op, op.getB());
  if (failed(factorB))
    return failure();
  using namespace linear_lora_fwd;
  KernelCall c = call(op, "linear_lora_fwd");
  c.operand(x, use(op.getInput()))
      .operand(w, useInProduct(op.getWeight()))
      .operand(t, projection)
      .operand(b, *factorB)
      .operand(init, use(op.getResidual()));
  if (op.getBias())
    c.operand(bias, useInProduct(*op.getBias()));
  define(op, op.getResult(), c, y);
  return launch(op, c);
}

//===----------------------------------------------------------------------===//
// Backward
//===----------------------------------------------------------------------===//

LogicalResult StepConverter::lower(nn::LinearDxOp op) {
  using namespace linear_dx;
  FailureOr<Value> weight = useFactor(op, op.getWeight());
  if (failed(weight))
    return failure();
  KernelCall c = call(op, "linear_dx");
  c.operand(dy, use(op.getDy()))
      .operand(w, *weight)
      .operand(init, use(op.getInit()))
      .set(scale, op.getScale().convertToDouble());
  define(op, op.getDx(), c, dx);
  return launch(op, c);
}

LogicalResult StepConverter::lower(nn::LinearDwOp op) {
  using namespace linear_dw;
  KernelCall c = call(op, "linear_dw", sumStream);
  c.operand(dy, use(op.getDy()))
      .operand(x, use(op.getInput()))
      .operand(dw, use(op.getGradient()));
  return launch(op, c);
}

LogicalResult StepConverter::lower(nn::BiasDwOp op) {
  using namespace bias_dw;
  KernelCall c = call(op, "bias_dw", sumStream);
  c.operand(dy, use(op.getDy())).operand(dbias, use(op.getGradient()));
  return launch(op, c);
}

LogicalResult StepConverter::lower(nn::RMSNormDxOp op) {
  using namespace rms_norm_dx;
  KernelCall c = call(op, "rms_norm_dx");
  c.operand(dy, use(op.getDy()))
      .operand(x, use(op.getInput()))
      .operand(weight, use(op.getWeight()))
      .operand(rstd, use(op.getRstd()))
      .operand(init, use(op.getInit()));
  define(op, op.getDx(), c, dx);
  return launch(op, c);
}

LogicalResult StepConverter::lower(nn::RMSNormDwOp op) {
  using namespace rms_norm_dw;
  KernelCall c = call(op, "rms_norm_dw", sumStream);
  c.operand(dy, use(op.getDy()))
      .operand(x, use(op.getInput()))
      .operand(rstd, use(op.getRstd()))
      .operand(dweight, use(op.getGradient()));
  return launch(op, c);
}

LogicalResult StepConverter::lower(nn::AttentionGradOp op) {
  using namespace attention_bwd;
  KernelCall c = call(op, "attention_bwd");
  c.operand(q, use(op.getQuery()))
      .operand(k, use(op.getKey()))
      .operand(v, use(op.getValue()))
      .operand(o, use(op.getOutput()))
      .operand(d_o, use(op.getDOutput()))
      .operand(lse, use(op.getLse()))
      .operand(segments, use(op.getSegments()));
  setHeads(c, op, StepConverter::seq);
  define(op, op.getDQuery(), c, dq);
  define(op, op.getDKey(), c, dk);
  define(op, op.getDValue(), c, dv);
  return launch(op, c);
}

LogicalResult StepConverter::lower(nn::SwigluGradOp op) {
  using namespace swiglu_bwd;
  KernelCall c = call(op, "swiglu_bwd");
  c.operand(dy, use(op.getDy()))
      .operand(gate, use(op.getGate()))
      .operand(up, use(op.getUp()));
  define(op, op.getDGate(), c, dgate);
  define(op, op.getDUp(), c, swiglu_bwd::dup);
  return launch(op, c);
}

LogicalResult StepConverter::lower(nn::EmbedDwOp op) {
  using namespace embed_dw;
  KernelCall c = call(op, "embed_dw", sumStream);
  c.operand(ids, use(op.getIds()))
      .operand(dy, use(op.getDy()))
      .operand(dtable, use(op.getGradient()));
  if (op.getPaddingIdx())
    c.set(padding_idx, static_cast<int64_t>(*op.getPaddingIdx()));
  return launch(op, c);
}

LogicalResult StepConverter::lower(nn::AddOp op) {
  KernelCall c = call(op, "add_fwd");
  c.operand(add_fwd::a, use(op.getA())).operand(add_fwd::b, use(op.getB()));
  define(op, op.getResult(), c, add_fwd::y);
  return launch(op, c);
}

LogicalResult StepConverter::lower(nn::CastOp op) {
  KernelCall c = call(op, "cast");
  c.operand(peft::kernels::cast::x, use(op.getInput()));
  define(op, op.getResult(), c, peft::kernels::cast::y);
  return launch(op, c);
}

LogicalResult StepConverter::lower(lora::LinearDxOp op) {
  using namespace linear_lora_dx;
  FailureOr<Value> factor = useFactor(op, op.getA());
  if (failed(factor))
    return failure();
  KernelCall c = call(op, "linear_lora_dx");
  c.operand(dy, use(op.getDy()))
      .operand(w, useInProduct(op.getWeight()))
      .operand(dt, use(op.getDt()))
      .operand(a, *factor)
      .operand(init, use(op.getInit()));
  setDropout(c, op.getDropout().convertToDouble(), op.getModule());
  define(op, op.getDx(), c, dx);
  return launch(op, c);
}

LogicalResult StepConverter::lower(lora::FirstFeaturesOp op) {
  KernelCall c = call(op, "first_columns");
  c.operand(first_columns::x, use(op.getInput()));
  define(op, op.getResult(), c, first_columns::y);
  return launch(op, c);
}

LogicalResult StepConverter::lower(lora::DownDwOp op) {
  using namespace lora_down_dw;
  KernelCall c = call(op, "lora_down_dw", sumStream);
  c.operand(dt, use(op.getDt()))
      .operand(x, use(op.getInput()))
      .operand(da, use(op.getGradient()));
  setDropout(c, op.getDropout().convertToDouble(), op.getModule());
  return launch(op, c);
}
