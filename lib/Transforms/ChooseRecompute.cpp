//===- ChooseRecompute.cpp - which forward values are not kept ------------===//
#include "peftc/Analysis/ForwardPass.h"
#include "peftc/Transforms/Passes.h"
#include "peftc/Transforms/Recompute.h"

#include "llvm/ADT/DenseMap.h"

namespace peftc {
#define GEN_PASS_DEF_CHOOSERECOMPUTE
#include "peftc/Transforms/Passes.h.inc"
} // namespace peftc

using namespace mlir;
using namespace peftc;

namespace {
struct ChooseRecompute
    : public peftc::impl::ChooseRecomputeBase<ChooseRecompute> {
  using ChooseRecomputeBase::ChooseRecomputeBase;

  void runOnOperation() override {
    if (policy != "none" && policy != "layers") {
      emitError(getOperation().getLoc())
          << "policy '" << policy << "' is none of none, layers";
      return signalPassFailure();
    }
    if (policy == "layers")
      for (auto function : getOperation().getOps<func::FuncOp>())
        chooseLayers(function);
  }

private:
  /// Everything that only its own layer reads in the forward direction.
  void chooseLayers(func::FuncOp function) {
    SmallVector<Operation *> forward = forwardOps(function);
    llvm::DenseMap<Operation *, std::string> layers;
    for (Operation *op : forward)
      layers[op] = layerOf(op);
    auto leaves = [&](Value value, const std::string &layer) {
      return llvm::any_of(value.getUsers(), [&](Operation *user) {
        auto it = layers.find(user);
        return it != layers.end() && it->second != layer;
      });
    };
    for (Operation *op : forward) {
      const std::string &layer = layers[op];
      if (layer.empty())
        continue;
      SmallVector<int64_t> results;
      for (OpResult result : op->getResults())
        if (!leaves(result, layer))
          results.push_back(result.getResultNumber());
      if (results.empty())
        continue;
      op->setAttr(notKeptAttr,
                  DenseI64ArrayAttr::get(op->getContext(), results));
      chosen += results.size();
    }
  }
};
} // namespace
