//===- LoraOps.cpp - verifier, types and costs of lora.linear -------------===//
#include "peftc/Dialect/Lora/Lora.h"
#include "peftc/Dialect/NN/Costs.h"

using namespace mlir;
using namespace peftc;
using namespace peftc::lora;

// lora_c1: the rows of input, result and projection are the same.
// lora_c2: with a residual the result is its type, f32.
// lora_c3: dropout is a probability below one.
LogicalResult LinearOp::verify() {
  if (failed(nn::verifySameRows(*this, getInput(), getResult(), "result")) ||
      failed(
          nn::verifySameRows(*this, getInput(), getProjection(), "projection")))
    return failure();
  if (getResidual() && getResidual().getType() != getResult().getType())
    return emitOpError() << "with a residual of " << getResidual().getType()
                         << " needs a result of that type, has "
                         << getResult().getType();
  double dropout = getDropout().convertToDouble();
  if (!(dropout >= 0 && dropout < 1))
    return emitOpError() << "dropout " << dropout << " must lie in [0, 1)";
  return success();
}

// lora_c4: weight [out, in], bias [out], A [rank, in], B [out, rank].
LogicalResult LinearOp::verifySymbolUses(SymbolTableCollection &symbols) {
  int64_t in = nn::features(getInput()), out = nn::features(getResult());
  int64_t rank = nn::features(getProjection());
  if (!nn::verifyParameterUse(*this, symbols, getWeightAttr(), {out, in}) ||
      !nn::verifyParameterUse(*this, symbols, getAAttr(), {rank, in}) ||
      !nn::verifyParameterUse(*this, symbols, getBAttr(), {out, rank}))
    return failure();
  return success(!getBiasAttr() ||
                 nn::verifyParameterUse(*this, symbols, getBiasAttr(), {out}));
}

void LinearOp::specialize(Type computeType) {
  Type element = getResidual() ? Float32Type::get(getContext()) : computeType;
  getResult().setType(nn::specializedLike(getInput(), getResult(), element));
  getProjection().setType(
      nn::specializedLike(getInput(), getProjection(), computeType));
}

SmallVector<StringRef> LinearOp::getParameters() {
  SmallVector<StringRef> names{getWeight()};
  if (getBiasAttr())
    names.push_back(*getBias());
  names.push_back(getA());
  names.push_back(getB());
  return names;
}

uint64_t LinearOp::getFlops() {
  auto in = static_cast<uint64_t>(nn::features(getInput()));
  auto rank = static_cast<uint64_t>(nn::features(getProjection()));
  return 2 * nn::elementsOf(getResult()) * (in + rank) +
         2 * nn::elementsOf(getProjection()) * in;
}

uint64_t LinearOp::getBytes() {
  return nn::bytesTouched(*this, getParameters());
}
