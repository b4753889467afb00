//===- DifferentiateGradients.cpp - who has which gradient ----------------===//
#include "DifferentiateGradients.h"

using namespace mlir;
using namespace peftc;

GradientSums::GradientSums(ModuleOp module) {
  for (auto parameter : module.getOps<nn::ParamOp>())
    if (parameter.getTrainable()) {
      trainable.push_back(parameter);
      sumsOf[parameter.getSymName()];
    }
}

void GradientSums::addUses(Operation *op) {
  auto differentiable = dyn_cast<nn::Differentiable>(op);
  if (!differentiable)
    return;
  for (StringRef parameter : differentiable.getParameters()) {
    auto it = sumsOf.find(parameter);
    if (it == sumsOf.end())
      continue;
    std::string name = (parameter + ".grad").str();
    if (!it->second.empty())
      name += "." + std::to_string(it->second.size());
    auto key = StringAttr::get(op->getContext(), parameter);
    byUse[{op, key}] = FlatSymbolRefAttr::get(op->getContext(), name);
    it->second.push_back(std::move(name));
  }
}

FlatSymbolRefAttr GradientSums::at(Operation *use, StringRef parameter) {
  return byUse.lookup({use, StringAttr::get(use->getContext(), parameter)});
}

ArrayRef<std::string> GradientSums::sums(nn::ParamOp parameter) const {
  auto it = sumsOf.find(parameter.getSymName());
  return it == sumsOf.end() ? ArrayRef<std::string>() : it->second;
}

TapeGradients::TapeGradients(const Tape &tape, GradientSums &sums,
                             ValueRange activeInputs)
    : tape(tape), sums(sums) {
  active.insert(activeInputs.begin(), activeInputs.end());
  for (auto [copy, original] : tape.ops) {
    auto differentiable = dyn_cast<nn::Differentiable>(copy);
    if (!differentiable)
      continue;
    modelOp[copy] = original;
    bool isActive = llvm::any_of(copy->getOperands(), [&](Value operand) {
      return needsGradient(operand);
    });
    isActive |=
        llvm::any_of(differentiable.getParameters(), [&](StringRef parameter) {
          return sums.isTrainable(parameter);
        });
    if (!isActive)
      continue;
    for (Value operand : copy->getOperands())
      ++consumers[operand];
    active.insert(copy->result_begin(), copy->result_end());
  }
}

Type TapeGradients::gradientType(Value value) {
  // A sum of several parts is kept in f32 until it is complete; one part has
  // nothing to lose by being rounded at once.
  auto type = cast<RankedTensorType>(value.getType());
  if (consumers.lookup(value) > 1)
    return type.clone(Float32Type::get(type.getContext()));
  return type;
}

FlatSymbolRefAttr TapeGradients::gradientSum(Operation *op,
                                             StringRef parameter) {
  if (!sums.isTrainable(parameter))
    return {};
  return sums.at(modelOp.lookup(op), parameter);
}

void TapeGradients::buildBackward(OpBuilder &builder) {
  for (auto [copy, original] : llvm::reverse(tape.ops)) {
    auto differentiable = dyn_cast<nn::Differentiable>(copy);
    if (!differentiable)
      continue;
    if (llvm::none_of(copy->getResults(),
                      [&](Value result) { return needsGradient(result); }))
      continue;
    differentiable.buildBackward(builder, *this);
  }
}
