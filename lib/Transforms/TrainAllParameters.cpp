//===- TrainAllParameters.cpp - full fine-tuning --------------------------===//
#include "peftc/Dialect/NN/NN.h"
#include "peftc/Transforms/Passes.h"
#include "peftc/Transforms/Trainable.h"

using namespace mlir;
using namespace peftc;

namespace peftc {
#define GEN_PASS_DEF_TRAINALLPARAMETERS
#include "peftc/Transforms/Passes.h.inc"
} // namespace peftc

LogicalResult peftc::checkTrainable(nn::ParamOp param) {
  auto format = qw::formatOf(param.getTensorType().getElementType());
  if (!format)
    return success();
  return param.emitError() << "is stored as " << format->describe()
                           << " and cannot train; train LoRA adapters on it, "
                              "or start from the weights before quantization";
}

void peftc::makeTrainable(nn::ParamOp param) {
  RankedTensorType stored = param.getTensorType();
  param.setTrainable(true);
  param.setSourceType(stored.getElementType());
  param.setType(stored.clone(Float32Type::get(param.getContext())));
  // Hugging Face's Trainer exempts biases and norm weights, all of them
  // vectors.
  param.setNoDecay(stored.getRank() == 1);
}

namespace {
struct TrainAllParameters
    : public peftc::impl::TrainAllParametersBase<TrainAllParameters> {
  void runOnOperation() override {
    bool any = false;
    for (auto param : getOperation().getOps<nn::ParamOp>()) {
      if (param.getTrainable()) {
        param.emitOpError() << "trains already: adapters and full fine-tuning "
                            << "exclude each other";
        return signalPassFailure();
      }
      if (failed(checkTrainable(param)))
        return signalPassFailure();
      makeTrainable(param);
      ++trained;
      any = true;
    }
    // Not by the statistic: release builds of LLVM's headers do not count.
    if (!any) {
      emitError(getOperation().getLoc(), "the model has no parameter to train");
      signalPassFailure();
    }
  }
};
} // namespace
