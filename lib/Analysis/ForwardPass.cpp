//===- ForwardPass.cpp - the forward ops of a step, by layer --------------===//
#include "peftc/Analysis/ForwardPass.h"

#include "peftc/Dialect/NN/NN.h"

#include "llvm/ADT/StringExtras.h"

using namespace mlir;

std::string peftc::moduleOf(Operation *op) {
  std::string name;
  op->getLoc()->walk([&](Location loc) {
    auto named = dyn_cast<NameLoc>(loc);
    if (!named)
      return WalkResult::advance();
    name = named.getName().str();
    return WalkResult::interrupt();
  });
  return name.empty() ? op->getName().getStringRef().str() : name;
}

std::string peftc::layerOf(Operation *op) {
  std::string module = moduleOf(op);
  StringRef rest = module;
  while (!rest.empty()) {
    StringRef part;
    std::tie(part, rest) = rest.split('.');
    if (!part.empty() && llvm::all_of(part, llvm::isDigit))
      return module.substr(0, part.end() - module.data());
  }
  return "";
}

SmallVector<Operation *> peftc::forwardOps(func::FuncOp function) {
  SmallVector<Operation *> ops;
  for (Operation &op : function.front()) {
    if (!isa<nn::Differentiable, nn::RopeTableOp>(op))
      break;
    ops.push_back(&op);
  }
  return ops;
}
