//===- Gradients.cpp - backward rules of adapted linears ------------------===//
//
// With t = s drop(x) A^T and y = x W^T + t B^T:
//   dB += dY^T t,  dt = s dY B,  dA += dt^T drop(x),  dX = mask(dt A) + dY W.
// DoRA, with z = drop(x) W^T + t B^T and y = (x - drop(x)) W^T + g z where g =
// m / n by column: dm += sum over rows of dY z / n, dZ = g dY, with which dB, dt
// and dA are as above, and
//   dX = dY W + mask((dZ - dY) W + dt A),  or dZ W + dt A without dropout.
//
//===----------------------------------------------------------------------===//
#include "peftc/Dialect/NN/Gradients.h"
#include "peftc/Dialect/Lora/Lora.h"

using namespace mlir;
using namespace peftc;
using namespace peftc::lora;

/// What of a value with the rank's features belongs to the trained factors.
static Value ofTrained(OpBuilder &builder, LinearOp op, Value value) {
  if (!op.getTrainedAAttr())
    return value;
  auto a = SymbolTable::lookupNearestSymbolFrom<nn::ParamOp>(
      op, op.getTrainedAAttr());
  if (!a)
    return value;
  auto type = cast<RankedTensorType>(value.getType());
  SmallVector<int64_t> shape(type.getShape());
  shape.back() = a.getTensorType().getDimSize(0);
  return FirstFeaturesOp::create(builder, op.getLoc(), type.clone(shape),
                                 value);
}

/// The gradient of the result in the compute type, after residual and bias got
/// theirs of it; null if nothing depends on the result.
template <typename Op>
static Value resultGradient(Op op, OpBuilder &builder,
                            nn::BackwardContext &context) {
  Value dy = context.gradient(op.getResult());
  if (!dy)
    return {};
  Location loc = op.getLoc();
  Value residual = op.getResidual();
  if (residual && context.needsGradient(residual))
    nn::addGradient(builder, loc, context, residual, dy);
  dy = nn::roundTo(builder, loc, dy,
                   getElementTypeOrSelf(op.getInput().getType()));
  if (op.getBias())
    if (FlatSymbolRefAttr sum = context.gradientSum(op, *op.getBias()))
      nn::BiasDwOp::create(builder, loc, dy, sum);
  return dy;
}

void LinearOp::buildBackward(OpBuilder &builder, nn::BackwardContext &context) {
  Value dy = resultGradient(*this, builder, context);
  if (!dy)
    return;
  Location loc = getLoc();
  if (FlatSymbolRefAttr sum = context.gradientSum(*this, getWeight()))
    nn::LinearDwOp::create(builder, loc, dy, getInput(), sum);
  if (auto sum = context.gradientSum(*this, getTrainedB().value_or(getB())))
    nn::LinearDwOp::create(builder, loc, dy,
                           ofTrained(builder, *this, getProjection()), sum);

  auto sumA = context.gradientSum(*this, getTrainedA().value_or(getA()));
  bool needsDx = context.needsGradient(getInput());
  if (!sumA && !needsDx)
    return;
  Value dt = nn::LinearDxOp::create(builder, loc, getProjection().getType(), dy,
                                    getBAttr(), Value(), getScaleAttr());
  if (sumA)
    DownDwOp::create(builder, loc, ofTrained(builder, *this, dt), getInput(),
                     sumA, getDropoutAttr(), getModuleAttr());
  if (!needsDx)
    return;
  Value dx = LinearDxOp::create(builder, loc, context.gradientType(getInput()),
                                dy, getWeightAttr(), dt, getAAttr(),
                                context.partial(getInput()), getDropoutAttr(),
                                getModuleAttr());
  context.setPartial(getInput(), dx);
}

/// The gradient of the input; `dz` and `dt` are those of product and projection.
static Value inputGradient(DoraLinearOp op, OpBuilder &builder,
                           nn::BackwardContext &context, Value dy, Value dz,
                           Value dt) {
  Location loc = op.getLoc();
  Value input = op.getInput();
  auto none = builder.getF64FloatAttr(0.0);
  Type type = context.gradientType(input);
  if (op.getDropout().isZero())
    return LinearDxOp::create(builder, loc, type, dz, op.getWeightAttr(), dt,
                              op.getAAttr(), context.partial(input), none,
                              op.getModuleAttr());
  auto sum = cast<RankedTensorType>(type).clone(builder.getF32Type());
  Value difference =
      DoraScaleOp::create(builder, loc, dy.getType(), dy, op.getMagnitudeAttr(),
                          op.getNorm(), builder.getUnitAttr());
  Value dropped = LinearDxOp::create(builder, loc, sum, difference,
                                     op.getWeightAttr(), dt, op.getAAttr(),
                                     Value(), none, op.getModuleAttr());
  Value masked =
      DropoutOp::create(builder, loc, sum, dropped, context.partial(input),
                        op.getDropoutAttr(), op.getModuleAttr());
  return nn::LinearDxOp::create(builder, loc, type, dy, op.getWeightAttr(),
                                masked, builder.getF64FloatAttr(1.0));
}

void DoraLinearOp::buildBackward(OpBuilder &builder,
                                 nn::BackwardContext &context) {
  Value dy = resultGradient(*this, builder, context);
  if (!dy)
    return;
  Location loc = getLoc();
  if (FlatSymbolRefAttr sum = context.gradientSum(*this, getMagnitude()))
    DoraDwOp::create(builder, loc, dy, getProduct(), getNorm(), sum);

  FlatSymbolRefAttr sumA = context.gradientSum(*this, getA());
  FlatSymbolRefAttr sumB = context.gradientSum(*this, getB());
  bool needsDx = context.needsGradient(getInput());
  if (!sumA && !sumB && !needsDx)
    return;
  Value dz = DoraScaleOp::create(builder, loc, dy.getType(), dy,
                                 getMagnitudeAttr(), getNorm(), UnitAttr());
  if (sumB)
    nn::LinearDwOp::create(builder, loc, dz, getProjection(), sumB);
  if (!sumA && !needsDx)
    return;
  Value dt = nn::LinearDxOp::create(builder, loc, getProjection().getType(), dz,
                                    getBAttr(), Value(), getScaleAttr());
  if (sumA)
    DownDwOp::create(builder, loc, dt, getInput(), sumA, getDropoutAttr(),
                     getModuleAttr());
  if (needsDx)
    context.setPartial(getInput(),
                       inputGradient(*this, builder, context, dy, dz, dt));
}
