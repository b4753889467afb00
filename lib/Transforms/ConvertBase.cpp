//===- ConvertBase.cpp - store the frozen weights in another type ---------===//
#include "peftc/Dialect/NN/NN.h"
#include "peftc/Transforms/Passes.h"

#include "llvm/ADT/StringSwitch.h"

namespace peftc {
#define GEN_PASS_DEF_CONVERTBASE
#include "peftc/Transforms/Passes.h.inc"
} // namespace peftc

using namespace mlir;
using namespace peftc;

namespace {

struct ConvertBasePass : public peftc::impl::ConvertBaseBase<ConvertBasePass> {
  using ConvertBaseBase::ConvertBaseBase;

  void runOnOperation() override {
    MLIRContext *context = &getContext();
    Type element = llvm::StringSwitch<Type>(type)
                       .Case("f32", Float32Type::get(context))
                       .Case("bf16", BFloat16Type::get(context))
                       .Case("f16", Float16Type::get(context))
                       .Default(Type());
    if (!element) {
      emitError(getOperation().getLoc())
          << "type '" << type << "' is none of f32, bf16, f16";
      return signalPassFailure();
    }
    for (auto parameter : getOperation().getOps<nn::ParamOp>()) {
      RankedTensorType stored = parameter.getTensorType();
      if (parameter.getTrainable() || parameter.getSaved() ||
          parameter.getJoined() ||
          stored.getElementType() == element)
        continue;
      if (auto format = qw::formatOf(stored.getElementType())) {
        parameter.emitError()
            << "is stored as " << format->describe()
            << ", which is not turned into " << type
            << ": leave --base out, or start from the weights before "
               "quantization";
        return signalPassFailure();
      }
      // What the file has does not change when a copy is converted again.
      if (!parameter.getSourceType())
        parameter.setSourceTypeAttr(TypeAttr::get(stored.getElementType()));
      parameter.setTypeAttr(TypeAttr::get(stored.clone(element)));
      ++converted;
    }
  }
};

} // namespace
