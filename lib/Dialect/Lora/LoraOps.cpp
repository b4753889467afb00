//===- LoraOps.cpp - verifiers, types and costs of adapted linears --------===//
#include "peftc/Dialect/Lora/Lora.h"
#include "peftc/Dialect/NN/Costs.h"

using namespace mlir;
using namespace peftc;
using namespace peftc::lora;

// lora_c1: the rows of input, result and projection are the same.
// lora_c2: with a residual the result is its type, f32.
// lora_c3: dropout is a probability below one.
template <typename Op> static LogicalResult verifyLinear(Op op) {
  if (failed(nn::verifySameRows(op, op.getInput(), op.getResult(), "result")) ||
      failed(nn::verifySameRows(op, op.getInput(), op.getProjection(),
                                "projection")))
    return failure();
  if (op.getResidual() && op.getResidual().getType() != op.getResult().getType())
    return op.emitOpError()
           << "with a residual of " << op.getResidual().getType()
           << " needs a result of that type, has " << op.getResult().getType();
  double dropout = op.getDropout().convertToDouble();
  if (!(dropout >= 0 && dropout < 1))
    return op.emitOpError() << "dropout " << dropout << " must lie in [0, 1)";
  return success();
}

LogicalResult LinearOp::verify() {
  if (getTrainedA().has_value() != getTrainedB().has_value())
    return emitOpError("needs both trained factors, or none");
  return verifyLinear(*this);
}

// lora_c5: the product has the rows and features of the result, the norm its
// features.
LogicalResult DoraLinearOp::verify() {
  if (failed(verifyLinear(*this)) ||
      failed(nn::verifySameRows(*this, getInput(), getProduct(), "product")))
    return failure();
  int64_t out = nn::features(getResult());
  auto norm = cast<RankedTensorType>(getNorm().getType());
  if (nn::features(getProduct()) != out || norm.getRank() != 1 ||
      norm.getDimSize(0) != out)
    return emitOpError() << "needs a product of " << out
                         << " features and their norms, has "
                         << getProduct().getType() << " and " << norm;
  return success();
}

// lora_c4: weight [out, in], bias [out], A [rank, in], B [out, rank].
template <typename Op>
static LogicalResult verifySymbols(Op op, SymbolTableCollection &symbols) {
  int64_t in = nn::features(op.getInput()), out = nn::features(op.getResult());
  int64_t rank = nn::features(op.getProjection());
  if (!nn::verifyParameterUse(op, symbols, op.getWeightAttr(), {out, in}) ||
      !nn::verifyParameterUse(op, symbols, op.getAAttr(), {rank, in}) ||
      !nn::verifyParameterUse(op, symbols, op.getBAttr(), {out, rank}))
    return failure();
  return success(
      !op.getBiasAttr() ||
      nn::verifyParameterUse(op, symbols, op.getBiasAttr(), {out}));
}

// lora_c7: trained factors are A and B up to some rank.
LogicalResult LinearOp::verifySymbolUses(SymbolTableCollection &symbols) {
  if (failed(verifySymbols(*this, symbols)))
    return failure();
  if (!getTrainedAAttr())
    return success();
  nn::ParamOp a = nn::verifyParameterUse(*this, symbols, getTrainedAAttr(),
                                         {ShapedType::kDynamic,
                                          nn::features(getInput())});
  if (!a)
    return failure();
  int64_t rank = a.getTensorType().getDimSize(0);
  if (rank >= nn::features(getProjection()))
    return emitOpError() << "trains rank " << rank << " of "
                         << nn::features(getProjection())
                         << ", needs one below it";
  return success(nn::verifyParameterUse(*this, symbols, getTrainedBAttr(),
                                        {nn::features(getResult()), rank}));
}

// lora_c6: magnitude [out].
LogicalResult DoraLinearOp::verifySymbolUses(SymbolTableCollection &symbols) {
  if (failed(verifySymbols(*this, symbols)))
    return failure();
  return success(nn::verifyParameterUse(*this, symbols, getMagnitudeAttr(),
                                        {nn::features(getResult())}));
}

void LinearOp::specialize(Type computeType) {
  Type element = getResidual() ? Float32Type::get(getContext()) : computeType;
  getResult().setType(nn::specializedLike(getInput(), getResult(), element));
  getProjection().setType(
      nn::specializedLike(getInput(), getProjection(), computeType));
}

void DoraLinearOp::specialize(Type computeType) {
  Type element = getResidual() ? Float32Type::get(getContext()) : computeType;
  getResult().setType(nn::specializedLike(getInput(), getResult(), element));
  getProjection().setType(
      nn::specializedLike(getInput(), getProjection(), computeType));
  getProduct().setType(
      nn::specializedLike(getInput(), getProduct(), computeType));
}

template <typename Op> static SmallVector<StringRef> parametersOf(Op op) {
  SmallVector<StringRef> names{op.getWeight()};
  if (op.getBiasAttr())
    names.push_back(*op.getBias());
  names.push_back(op.getA());
  names.push_back(op.getB());
  return names;
}

SmallVector<StringRef> LinearOp::getParameters() {
  SmallVector<StringRef> names = parametersOf(*this);
  if (getTrainedA())
    names.append({*getTrainedA(), *getTrainedB()});
  return names;
}

SmallVector<StringRef> DoraLinearOp::getParameters() {
  SmallVector<StringRef> names = parametersOf(*this);
  names.push_back(getMagnitude());
  return names;
}

uint64_t LinearOp::getFlops() {
  auto in = static_cast<uint64_t>(nn::features(getInput()));
  auto rank = static_cast<uint64_t>(nn::features(getProjection()));
  return 2 * nn::elementsOf(getResult()) * (in + rank) +
         2 * nn::elementsOf(getProjection()) * in;
}

/// As the plain form, and the norms; with dropout the base is multiplied twice.
uint64_t DoraLinearOp::getFlops() {
  auto in = static_cast<uint64_t>(nn::features(getInput()));
  auto out = static_cast<uint64_t>(nn::features(getResult()));
  auto rank = static_cast<uint64_t>(nn::features(getProjection()));
  uint64_t base = getDropout().isZero() ? in : 2 * in;
  return 2 * nn::elementsOf(getResult()) * (base + rank + 1) +
         2 * nn::elementsOf(getProjection()) * in + 2 * out * in * (rank + 2);
}

uint64_t DoraLinearOp::getBytes() {
  return nn::bytesTouched(*this, getParameters());
}

uint64_t LinearOp::getBytes() {
  return nn::bytesTouched(*this, getParameters());
}
