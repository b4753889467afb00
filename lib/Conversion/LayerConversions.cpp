//===- LayerConversions.cpp - layers and their gradients as launches ------===//
#include "StepConverter.h"

#include "peft/AttentionEngine.h"
#include "peftc/Target/PlanTypes.h"

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
  c.operand(ids, use(op.getIds()))
      .operand(table, use(op.getTable()))
      .set(scale, op.getScale().convertToDouble());
  setParts(c, op.getTable());
  define(op, op.getResult(), c, y);
  return launch(op, c);
}

LogicalResult StepConverter::lower(nn::LinearOp op) {
  using namespace linear_fwd;
  KernelCall c = call(op, "linear_fwd");
  if (failed(setWeight(op, c, op.getWeight())))
    return failure();
  c.operand(x, use(op.getInput()))
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
      .operand(init, use(op.getResidual()))
      .set(epsilon, op.getEpsilon().convertToDouble())
      .set(weight_offset, op.getWeightOffset().convertToDouble());
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
void StepConverter::setHeads(KernelCall &call, Op op, bool backward) {
  auto type = llvm::cast<RankedTensorType>(op.getQuery().getType());
  peft::AttentionLaunch launch;
  launch.capability = static_cast<int>(capability);
  launch.type = *dtypeOf(type.getElementType());
  launch.heads = op.getHeads();
  launch.headDim = op.getHeadDim();
  launch.rows = static_cast<uint64_t>(type.getNumElements()) /
                (launch.heads * launch.headDim);
  launch.backward = backward;
  launch.softcap = !op.getSoftcap().isZero();
  call.set("engine", static_cast<int64_t>(peft::chooseAttentionEngine(launch)));
  call.set("seq", seq)
      .set("heads", static_cast<int64_t>(op.getHeads()))
      .set("kv_heads", static_cast<int64_t>(op.getKvHeads()))
      .set("head_dim", static_cast<int64_t>(op.getHeadDim()))
      .set("window", static_cast<int64_t>(op.getWindow()))
      .set("scale", op.getScale().convertToDouble())
      .set("softcap", op.getSoftcap().convertToDouble());
}

LogicalResult StepConverter::lower(nn::AttentionOp op) {
  using namespace attention_fwd;
  KernelCall c = call(op, "attention_fwd");
  c.operand(q, use(op.getQuery()))
      .operand(k, use(op.getKey()))
      .operand(v, use(op.getValue()))
      .operand(segments, use(op.getSegments()));
  setHeads(c, op, false);
  define(op, op.getResult(), c, o);
  define(op, op.getLse(), c, lse);
  return launch(op, c);
}

/// y = activation(gate) up; both kernels have the same operands.
template <typename Op>
LogicalResult StepConverter::lowerGate(Op op, StringRef kernel) {
  KernelCall c = call(op, kernel);
  c.operand("gate", use(op.getGate())).operand("up", use(op.getUp()));
  define(op, op.getResult(), c, c.kernel().findOperand("y"));
  return launch(op, c);
}

LogicalResult StepConverter::lower(nn::SwigluOp op) {
  return lowerGate(op, "swiglu_fwd");
}

LogicalResult StepConverter::lower(nn::GegluOp op) {
  return lowerGate(op, "geglu_fwd");
}

LogicalResult StepConverter::lower(nn::SoftcapOp op) {
  using namespace softcap_fwd;
  KernelCall c = call(op, "softcap_fwd");
  c.operand(x, use(op.getInput())).set(cap, op.getCap().convertToDouble());
  define(op, op.getResult(), c, y);
  return launch(op, c);
}

LogicalResult StepConverter::lower(nn::SplitOp op) {
  using namespace take_columns;
  int64_t first = 0;
  for (Value part : op.getParts()) {
    KernelCall c = call(op, "take_columns");
    c.operand(x, use(op.getInput())).set(column, first);
    define(op, part, c, y);
    if (failed(launch(op, c)))
      return failure();
    first += nn::features(part);
  }
  return success();
}

LogicalResult StepConverter::lower(lora::LinearOp op) {
  if (failed(projectDown(op)))
    return failure();
  FailureOr<Value> factor = useFactor(op, op.getB());
  if (failed(factor))
    return failure();
  using namespace linear_lora_fwd;
  KernelCall c = call(op, "linear_lora_fwd");
  if (failed(setWeight(op, c, op.getWeight())))
    return failure();
  c.operand(x, use(op.getInput()))
      .operand(t, use(op.getProjection()))
      .operand(b, *factor)
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
  KernelCall c = call(op, "linear_dx");
  if (failed(setWeight(op, c, op.getWeight())))
    return failure();
  c.operand(dy, use(op.getDy()))
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
      .operand(init, use(op.getInit()))
      .set(weight_offset, op.getWeightOffset().convertToDouble());
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
  setHeads(c, op, true);
  define(op, op.getDQuery(), c, dq);
  define(op, op.getDKey(), c, dk);
  define(op, op.getDValue(), c, dv);
  return launch(op, c);
}

template <typename Op>
LogicalResult StepConverter::lowerGateGrad(Op op, StringRef kernel) {
  KernelCall c = call(op, kernel);
  c.operand("dy", use(op.getDy()))
      .operand("gate", use(op.getGate()))
      .operand("up", use(op.getUp()));
  define(op, op.getDGate(), c, c.kernel().findOperand("dgate"));
  define(op, op.getDUp(), c, c.kernel().findOperand("dup"));
  return launch(op, c);
}

LogicalResult StepConverter::lower(nn::SwigluGradOp op) {
  return lowerGateGrad(op, "swiglu_bwd");
}

LogicalResult StepConverter::lower(nn::GegluGradOp op) {
  return lowerGateGrad(op, "geglu_bwd");
}

LogicalResult StepConverter::lower(nn::SoftcapGradOp op) {
  using namespace softcap_bwd;
  KernelCall c = call(op, "softcap_bwd");
  c.operand(dy, use(op.getDy()))
      .operand(y, use(op.getCapped()))
      .set(cap, op.getCap().convertToDouble());
  define(op, op.getDx(), c, dx);
  return launch(op, c);
}

LogicalResult StepConverter::lower(nn::ConcatOp op) {
  KernelCall c = call(op, "join_columns");
  const int parts[] = {join_columns::a, join_columns::b, join_columns::c};
  for (auto [operand, part] : llvm::zip(parts, op.getParts()))
    c.operand(operand, use(part));
  define(op, op.getResult(), c, join_columns::y);
  return launch(op, c);
}

LogicalResult StepConverter::lower(nn::EmbedDwOp op) {
  using namespace embed_dw;
  KernelCall c = call(op, "embed_dw", sumStream);
  c.operand(ids, use(op.getIds()))
      .operand(dy, use(op.getDy()))
      .operand(dtable, use(op.getGradient()))
      .set(scale, op.getScale().convertToDouble());
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
  if (failed(setWeight(op, c, op.getWeight())))
    return failure();
  c.operand(dy, use(op.getDy()))
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
