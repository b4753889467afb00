//===- Gradients.cpp - backward rule of lora.linear -----------------------===//
//
// With t = s drop(x) A^T and y = x W^T + t B^T:
//   dB += dY^T t,  dt = s dY B,  dA += dt^T drop(x),  dX = mask(dt A) + dY W.
//
//===----------------------------------------------------------------------===//
#include "peftc/Dialect/NN/Gradients.h"
#include "peftc/Dialect/Lora/Lora.h"

using namespace mlir;
using namespace peftc;
using namespace peftc::lora;

void LinearOp::buildBackward(OpBuilder &builder, nn::BackwardContext &context) {
  Value dy = context.gradient(getResult());
  if (!dy)
    return;
  Location loc = getLoc();
  Value residual = getResidual();
  if (residual && context.needsGradient(residual))
    nn::addGradient(builder, loc, context, residual, dy);

  Type compute = getElementTypeOrSelf(getInput().getType());
  dy = nn::roundTo(builder, loc, dy, compute);
  if (getBias())
    if (FlatSymbolRefAttr sum = context.gradientSum(*this, *getBias()))
      nn::BiasDwOp::create(builder, loc, dy, sum);
  if (FlatSymbolRefAttr sum = context.gradientSum(*this, getWeight()))
    nn::LinearDwOp::create(builder, loc, dy, getInput(), sum);
  if (FlatSymbolRefAttr sum = context.gradientSum(*this, getB()))
    nn::LinearDwOp::create(builder, loc, dy, getProjection(), sum);

  FlatSymbolRefAttr sumA = context.gradientSum(*this, getA());
  bool needsDx = context.needsGradient(getInput());
  if (!sumA && !needsDx)
    return;
  Value dt = nn::LinearDxOp::create(builder, loc, getProjection().getType(), dy,
                                    getBAttr(), Value(), getScaleAttr());
  if (sumA)
    DownDwOp::create(builder, loc, dt, getInput(), sumA, getDropoutAttr(),
                     getModuleAttr());
  if (!needsDx)
    return;
  Value dx = LinearDxOp::create(builder, loc, context.gradientType(getInput()),
                                dy, getWeightAttr(), dt, getAAttr(),
                                context.partial(getInput()), getDropoutAttr(),
                                getModuleAttr());
  context.setPartial(getInput(), dx);
}
