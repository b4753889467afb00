//===- DifferentiateStates.cpp - states of a step and its update ----------===//
#include "DifferentiateStates.h"

#include "peft/DynamicMap.h"

#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "llvm/Support/MathExtras.h"

using namespace mlir;
using namespace peftc;

namespace {

struct FixedState {
  StringRef name;
  Type element;
  int64_t extent;
  StringRef role;
};

constexpr int64_t momentBlock = peft::momentBlock;

bool hasCodedMoments(nn::ParamOp parameter) {
  return static_cast<uint64_t>(parameter.getTensorType().getNumElements()) >=
         peft::leastCodedElements;
}

} // namespace

void peftc::buildStates(OpBuilder &builder, const GradientSums &sums,
                        int64_t batch, int64_t vocab, Type compute,
                        bool coded) {
  Type f64 = builder.getF64Type(), i64 = builder.getI64Type(),
       i32 = builder.getI32Type(), f32 = builder.getF32Type();
  const FixedState fixed[] = {{"loss_sum", f64, 1, "sum"},
                              {"tokens", i64, 1, "sum"},
                              {"norm_square", f64, 1, "counter"},
                              {"eval_loss_sum", f64, 1, "sum"},
                              {"eval_tokens", i64, 1, "sum"},
                              {"step", i32, 1, "scalar"},
                              {"seed", i64, 1, "scalar"},
                              {"first_row", i32, 1, "scalar"},
                              {"learning_rate", f64, 1, "scalar"},
                              {"beta1", f64, 1, "scalar"},
                              {"beta2", f64, 1, "scalar"},
                              {"epsilon", f64, 1, "scalar"},
                              {"weight_decay", f64, 1, "scalar"},
                              {"max_grad_norm", f64, 1, "scalar"},
                              {"adam", f64, 8, "counter"},
                              {"apply", i32, 1, "counter"},
                              {"optimizer_step", i32, 1, "counter"},
                              {"metrics", f64, 4, "output"}};
  Location loc = builder.getUnknownLoc();
  auto add = [&](Location loc, StringRef name, RankedTensorType type,
                 StringRef role, FlatSymbolRefAttr of = {},
                 IntegerAttr use = {}) {
    return nn::StateOp::create(builder, loc, builder.getStringAttr(name),
                               TypeAttr::get(type), builder.getStringAttr(role),
                               of, use);
  };
  for (const FixedState &state : fixed)
    add(loc, state.name, RankedTensorType::get({state.extent}, state.element),
        state.role);
  const FixedState scaled[] = {{"loss_scale", f32, 1, "scalar"},
                               {"good_steps", i32, 1, "counter"},
                               {"proceed", i32, 1, "output"}};
  for (const FixedState &state : scaled)
    if (isLossScaled(compute))
      add(loc, state.name, RankedTensorType::get({state.extent}, state.element),
          state.role);
  // The entry point is called @logits, and so is the port.
  add(loc, "logits_output", RankedTensorType::get({batch, vocab}, f32),
      "output")
      ->setAttr("nn.port", builder.getStringAttr("logits"));
  for (nn::ParamOp parameter : sums.parameters()) {
    auto of = FlatSymbolRefAttr::get(parameter.getSymNameAttr());
    auto type = parameter.getTensorType().clone(f32);
    StringRef name = parameter.getSymName();
    for (auto [use, sum] : llvm::enumerate(sums.sums(parameter)))
      add(parameter.getLoc(), sum, type, "gradient", of,
          builder.getI64IntegerAttr(use));
    bool codes = coded && hasCodedMoments(parameter);
    auto moments = codes ? type.clone(builder.getIntegerType(8, false)) : type;
    for (StringRef moment : {".m", ".v"}) {
      add(parameter.getLoc(), (name + moment).str(), moments, "moment", of);
      int64_t blocks = llvm::divideCeil(type.getNumElements(), momentBlock);
      if (codes)
        add(parameter.getLoc(), (name + moment + ".scale").str(),
            RankedTensorType::get({blocks}, f32), "moment", of);
    }
  }
}

void peftc::buildUpdate(ModuleOp module, const GradientSums &sums,
                        Type compute, bool coded) {
  auto builder = OpBuilder::atBlockEnd(module.getBody());
  Location loc = NameLoc::get(builder.getStringAttr("update"));
  auto function = func::FuncOp::create(builder, loc, "update",
                                       builder.getFunctionType({}, {}));
  builder.setInsertionPointToStart(function.addEntryBlock());
  for (nn::ParamOp parameter : sums.parameters()) {
    ArrayRef<std::string> uses = sums.sums(parameter);
    for (const std::string &use : uses.drop_front())
      nn::AccumulateOp::create(builder, parameter.getLoc(), use, uses.front());
    nn::NormSquareOp::create(builder, parameter.getLoc(), uses.front(),
                             "norm_square");
  }
  if (isLossScaled(compute)) {
    nn::FinishStepOp::create(
        builder, loc,
        FlatSymbolRefAttr::get(builder.getContext(), "loss_scale"));
    nn::AdjustLossScaleOp::create(builder, loc);
  } else {
    nn::FinishStepOp::create(builder, loc, FlatSymbolRefAttr());
  }
  for (nn::ParamOp parameter : sums.parameters()) {
    StringRef name = parameter.getSymName();
    auto symbol = [&](const Twine &text) {
      return FlatSymbolRefAttr::get(builder.getContext(), text.str());
    };
    FlatSymbolRefAttr scales[2];
    if (coded && hasCodedMoments(parameter)) {
      scales[0] = symbol(name + ".m.scale");
      scales[1] = symbol(name + ".v.scale");
    }
    nn::AdamWOp::create(
        builder, parameter.getLoc(), symbol(name),
        symbol(sums.sums(parameter).front()), symbol(name + ".m"),
        symbol(name + ".v"), scales[0], scales[1],
        builder.getF64FloatAttr(parameter.getRateFactor().convertToDouble()),
        parameter.getNoDecay() ? UnitAttr() : builder.getUnitAttr());
    for (const std::string &use : sums.sums(parameter))
      nn::ClearOp::create(builder, parameter.getLoc(), use);
  }
  func::ReturnOp::create(builder, loc);
}
