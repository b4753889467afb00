//===- Specialize.cpp - result types from operand types -------------------===//
//
// The implementations of Specializable: leading dimensions come from the
// operand, features stay, the element type is the compute type except for the
// residual stream and for statistics, which are f32 in every compute type.
//
//===----------------------------------------------------------------------===//
#include "peftc/Dialect/NN/NN.h"

using namespace mlir;
using namespace peftc;
using namespace peftc::nn;

RankedTensorType nn::specializedLike(Value operand, Value result,
                                     Type element) {
  auto from = cast<RankedTensorType>(operand.getType());
  auto to = cast<RankedTensorType>(result.getType());
  SmallVector<int64_t> shape(from.getShape());
  // Token ids [batch, seq] have no features; activations do.
  if (isa<IntegerType>(from.getElementType()))
    shape.push_back(0);
  shape.back() = to.getShape().back();
  return RankedTensorType::get(shape, element);
}

static Type f32(Operation *op) { return Float32Type::get(op->getContext()); }

/// `value` rounded to the float type `element`.
static double roundedTo(Type element, APFloat value) {
  bool losesInfo;
  value.convert(cast<FloatType>(element).getFloatSemantics(),
                APFloat::rmNearestTiesToEven, &losesInfo);
  return value.convertToDouble();
}

void EmbedOp::specialize(Type computeType) {
  setScale(APFloat(roundedTo(computeType, getScale())));
  getResult().setType(specializedLike(getIds(), getResult(), f32(*this)));
}

void LinearOp::specialize(Type computeType) {
  getResult().setType(specializedLike(
      getInput(), getResult(), getResidual() ? f32(*this) : computeType));
}

void RMSNormOp::specialize(Type computeType) {
  getResult().setType(specializedLike(
      getInput(), getResult(), getResidual() ? f32(*this) : computeType));
  getRstd().setType(specializedLike(getInput(), getRstd(), f32(*this)));
}

void RopeTableOp::specialize(Type) {
  int64_t seq = cast<RankedTensorType>(getPositions().getType())
                    .getShape()
                    .back();
  if (getShortPositions() && !ShapedType::isDynamic(seq)) {
    if (seq > static_cast<int64_t>(*getShortPositions()))
      setInvFreqAttr(getLongInvFreqAttr());
    removeLongInvFreqAttr();
    removeShortPositionsAttr();
  }
  getResult().setType(specializedLike(getPositions(), getResult(), f32(*this)));
}

void RopeOp::specialize(Type) { getResult().setType(getInput().getType()); }

void AttentionOp::specialize(Type computeType) {
  getResult().setType(specializedLike(getQuery(), getResult(), computeType));
  auto query = cast<RankedTensorType>(getQuery().getType());
  int64_t tokens = 1;
  for (int64_t extent : query.getShape().drop_back()) {
    if (ShapedType::isDynamic(extent)) {
      tokens = ShapedType::kDynamic;
      break;
    }
    tokens *= extent;
  }
  getLse().setType(RankedTensorType::get(
      {static_cast<int64_t>(getHeads()), tokens}, f32(*this)));
}

void SwigluOp::specialize(Type computeType) {
  getResult().setType(specializedLike(getGate(), getResult(), computeType));
}

void GegluOp::specialize(Type computeType) {
  getResult().setType(specializedLike(getGate(), getResult(), computeType));
}

void SoftcapOp::specialize(Type) { getResult().setType(getInput().getType()); }

void SplitOp::specialize(Type) {
  Type element = getElementTypeOrSelf(getInput().getType());
  for (Value part : getParts())
    part.setType(specializedLike(getInput(), part, element));
}
