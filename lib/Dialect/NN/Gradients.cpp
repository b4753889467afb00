//===- Gradients.cpp - backward rules of the nn dialect -------------------===//
//
// Each rule reads the gradient dY of its op's result and hands gradients on to
// the operands that need one. Gradients of parameters go to nn.state sums as
// soon as dY is there, so that what they read can be freed early.
//
//===----------------------------------------------------------------------===//
#include "peftc/Dialect/NN/Gradients.h"

using namespace mlir;
using namespace peftc::nn;

Value peftc::nn::roundTo(OpBuilder &builder, Location loc, Value value,
                         Type element) {
  auto type = cast<RankedTensorType>(value.getType());
  if (type.getElementType() == element)
    return value;
  return CastOp::create(builder, loc, type.clone(element), value);
}

void peftc::nn::addGradient(OpBuilder &builder, Location loc,
                            BackwardContext &context, Value value,
                            Value gradient) {
  auto type = cast<RankedTensorType>(context.gradientType(value));
  if (Value partial = context.partial(value))
    gradient = AddOp::create(builder, loc, type, partial, gradient);
  else
    gradient = roundTo(builder, loc, gradient, type.getElementType());
  context.setPartial(value, gradient);
}

void EmbedOp::buildBackward(OpBuilder &builder, BackwardContext &context) {
  Value dy = context.gradient(getResult());
  FlatSymbolRefAttr sum = context.gradientSum(*this, getTable());
  if (!dy || !sum)
    return;
  auto table =
      SymbolTable::lookupNearestSymbolFrom<ParamOp>(*this, getTableAttr());
  EmbedDwOp::create(builder, getLoc(), getIds(), dy, sum,
                    table ? table.getPaddingIdxAttr() : IntegerAttr(),
                    getScaleAttr());
}

void LinearOp::buildBackward(OpBuilder &builder, BackwardContext &context) {
  Value dy = context.gradient(getResult());
  if (!dy)
    return;
  Value residual = getResidual();
  if (residual && context.needsGradient(residual))
    addGradient(builder, getLoc(), context, residual, dy);

  FlatSymbolRefAttr weightSum = context.gradientSum(*this, getWeight());
  FlatSymbolRefAttr biasSum;
  if (getBias())
    biasSum = context.gradientSum(*this, *getBias());
  bool needsDx = context.needsGradient(getInput());
  if (!weightSum && !biasSum && !needsDx)
    return;

  Type compute = getElementTypeOrSelf(getInput().getType());
  dy = roundTo(builder, getLoc(), dy, compute);
  if (biasSum)
    BiasDwOp::create(builder, getLoc(), dy, biasSum);
  if (weightSum)
    LinearDwOp::create(builder, getLoc(), dy, getInput(), weightSum);
  if (needsDx) {
    Value dx =
        LinearDxOp::create(builder, getLoc(), context.gradientType(getInput()),
                           dy, getWeightAttr(), context.partial(getInput()),
                           builder.getF64FloatAttr(1.0));
    context.setPartial(getInput(), dx);
  }
}

void RMSNormOp::buildBackward(OpBuilder &builder, BackwardContext &context) {
  Value dy = context.gradient(getResult());
  if (!dy)
    return;
  Value residual = getResidual();
  if (residual && context.needsGradient(residual))
    addGradient(builder, getLoc(), context, residual, dy);
  if (FlatSymbolRefAttr sum = context.gradientSum(*this, getWeight()))
    RMSNormDwOp::create(builder, getLoc(), dy, getInput(), getRstd(), sum);
  if (!context.needsGradient(getInput()))
    return;
  Value dx = RMSNormDxOp::create(
      builder, getLoc(), context.gradientType(getInput()), dy, getInput(),
      getRstd(), getWeightAttr(), context.partial(getInput()),
      getWeightOffsetAttr());
  context.setPartial(getInput(), dx);
}

void RopeOp::buildBackward(OpBuilder &builder, BackwardContext &context) {
  Value dy = context.gradient(getResult());
  if (!dy || !context.needsGradient(getInput()))
    return;
  // The gradient of a rotation is the rotation back.
  Type compute = getElementTypeOrSelf(getInput().getType());
  dy = roundTo(builder, getLoc(), dy, compute);
  Value dx = RopeOp::create(builder, getLoc(), getInput().getType(), dy,
                            getTable(), getHeadDimAttr(),
                            getInverse() ? UnitAttr() : builder.getUnitAttr());
  addGradient(builder, getLoc(), context, getInput(), dx);
}

void AttentionOp::buildBackward(OpBuilder &builder, BackwardContext &context) {
  Value dy = context.gradient(getResult());
  bool needed = context.needsGradient(getQuery()) ||
                context.needsGradient(getKey()) ||
                context.needsGradient(getValue());
  if (!dy || !needed)
    return;
  Type compute = getElementTypeOrSelf(getQuery().getType());
  dy = roundTo(builder, getLoc(), dy, compute);
  auto grad = AttentionGradOp::create(
      builder, getLoc(),
      TypeRange{getQuery().getType(), getKey().getType(), getValue().getType()},
      getQuery(), getKey(), getValue(), getResult(), dy, getLse(),
      getSegments(), getHeadsAttr(), getKvHeadsAttr(), getHeadDimAttr(),
      getScaleAttr(), getWindowAttr(), getSoftcapAttr());
  for (auto [operand, gradient] :
       {std::pair<Value, Value>{getQuery(), grad.getDQuery()},
        {getKey(), grad.getDKey()},
        {getValue(), grad.getDValue()}})
    if (context.needsGradient(operand))
      addGradient(builder, getLoc(), context, operand, gradient);
}

/// Of an op that lets `up` through `gate`; Grad is its gradient.
template <typename Grad, typename Op>
static void buildGateBackward(Op op, OpBuilder &builder,
                              BackwardContext &context) {
  Value dy = context.gradient(op.getResult());
  bool needed =
      context.needsGradient(op.getGate()) || context.needsGradient(op.getUp());
  if (!dy || !needed)
    return;
  Location loc = op.getLoc();
  Type type = op.getGate().getType();
  dy = roundTo(builder, loc, dy, getElementTypeOrSelf(type));
  auto grad = Grad::create(builder, loc, TypeRange{type, type}, dy,
                           op.getGate(), op.getUp());
  if (context.needsGradient(op.getGate()))
    addGradient(builder, loc, context, op.getGate(), grad.getDGate());
  if (context.needsGradient(op.getUp()))
    addGradient(builder, loc, context, op.getUp(), grad.getDUp());
}

void SwigluOp::buildBackward(OpBuilder &builder, BackwardContext &context) {
  buildGateBackward<SwigluGradOp>(*this, builder, context);
}

void GegluOp::buildBackward(OpBuilder &builder, BackwardContext &context) {
  buildGateBackward<GegluGradOp>(*this, builder, context);
}

void SoftcapOp::buildBackward(OpBuilder &builder, BackwardContext &context) {
  Value dy = context.gradient(getResult());
  if (!dy || !context.needsGradient(getInput()))
    return;
  // The logits' gradient stays in the type that the loss gave it.
  Value dx = SoftcapGradOp::create(builder, getLoc(), dy.getType(), dy,
                                   getResult(), getCapAttr());
  if (context.partial(getInput()))
    addGradient(builder, getLoc(), context, getInput(), dx);
  else
    context.setPartial(getInput(), dx);
}

void SplitOp::buildBackward(OpBuilder &builder, BackwardContext &context) {
  if (!context.needsGradient(getInput()))
    return;
  Type compute = getElementTypeOrSelf(getInput().getType());
  SmallVector<Value> parts;
  bool any = false;
  for (Value part : getParts()) {
    Value dy = context.gradient(part);
    any |= static_cast<bool>(dy);
    parts.push_back(dy ? roundTo(builder, getLoc(), dy, compute)
                       : ZerosOp::create(builder, getLoc(), part.getType())
                             .getResult());
  }
  if (!any)
    return;
  Value dx =
      ConcatOp::create(builder, getLoc(), getInput().getType(), parts);
  addGradient(builder, getLoc(), context, getInput(), dx);
}
