//===- SpecializeModel.cpp - fix rows, tokens and compute type ------------===//
#include "peftc/Dialect/NN/NN.h"
#include "peftc/Transforms/Passes.h"

#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "llvm/ADT/StringSwitch.h"

using namespace mlir;
using namespace peftc;

namespace peftc {
#define GEN_PASS_DEF_SPECIALIZEMODEL
#include "peftc/Transforms/Passes.h.inc"
} // namespace peftc

/// Sets the arguments of `function` to `types`, every op's results in program
/// order, and the function's own type. `count` counts the ops.
static LogicalResult specialize(func::FuncOp function, ArrayRef<Type> types,
                                Type computeType, unsigned &count) {
  if (function.getNumArguments() != types.size())
    return function.emitError() << "'" << function.getSymName() << "' has "
                                << function.getNumArguments()
                                << " arguments, needs " << types.size();
  for (auto [argument, type] : llvm::zip(function.getArguments(), types))
    argument.setType(type);
  for (Operation &op : function.getBody().front().without_terminator()) {
    auto specializable = dyn_cast<nn::Specializable>(op);
    if (!specializable)
      return op.emitOpError() << "cannot be specialized: only forward ops of "
                              << "an imported model can";
    specializable.specialize(computeType);
    ++count;
  }
  return success();
}

/// Makes the function's result types those of what it returns.
static void updateType(func::FuncOp function) {
  Operation *terminator = function.getBody().front().getTerminator();
  function.setFunctionType(FunctionType::get(
      function.getContext(), function.getBody().getArgumentTypes(),
      terminator->getOperandTypes()));
}

namespace {
struct SpecializeModel
    : public peftc::impl::SpecializeModelBase<SpecializeModel> {
  using SpecializeModelBase::SpecializeModelBase;

  void runOnOperation() override {
    if (failed(checkOptions()) || failed(specializeBody()) ||
        failed(specializeHead()))
      return signalPassFailure();
    Builder builder(&getContext());
    ModuleOp module = getOperation();
    module->setAttr("nn.batch", builder.getI64IntegerAttr(batch));
    module->setAttr("nn.seq", builder.getI64IntegerAttr(seq));
    module->setAttr("nn.compute", TypeAttr::get(computeType));
    specialized = count;
  }

private:
  LogicalResult checkOptions() {
    ModuleOp module = getOperation();
    count = 0;
    if (module->hasAttr("nn.batch"))
      return emitError(module.getLoc(), "the model is specialized already");
    if (batch < 1 || seq < 1)
      return emitError(module.getLoc())
             << "batch and seq must be at least 1, are "
             << static_cast<int64_t>(batch) << " and "
             << static_cast<int64_t>(seq);
    // Token indices are i32 in every kernel.
    if (batch > INT32_MAX / seq)
      return emitError(module.getLoc())
             << "batch " << static_cast<int64_t>(batch) << " x seq "
             << static_cast<int64_t>(seq) << " is more than " << INT32_MAX
             << " tokens; take a smaller micro-batch";
    computeType = llvm::StringSwitch<Type>(StringRef(compute))
                      .Case("f32", Float32Type::get(&getContext()))
                      .Case("bf16", BFloat16Type::get(&getContext()))
                      .Case("f16", Float16Type::get(&getContext()))
                      .Default(Type());
    if (!computeType)
      return emitError(module.getLoc())
             << "compute type '" << compute
             << "' is not supported: take bf16, f16 or f32";
    return success();
  }

  FailureOr<func::FuncOp> function(StringRef name) {
    auto function = getOperation().lookupSymbol<func::FuncOp>(name);
    if (function && !function.isExternal())
      return function;
    return emitError(getOperation().getLoc())
           << "needs a function '" << name << "', as an imported model has";
  }

  LogicalResult specializeBody() {
    FailureOr<func::FuncOp> body = function("body");
    if (failed(body))
      return failure();
    Type integers = RankedTensorType::get({batch, seq},
                                          IntegerType::get(&getContext(), 32));
    if (failed(specialize(*body, {integers, integers, integers}, computeType,
                          count)))
      return failure();
    updateType(*body);
    return success();
  }

  /// The rows of the head stay dynamic, and its logits f32.
  LogicalResult specializeHead() {
    FailureOr<func::FuncOp> head = function("head");
    if (failed(head))
      return failure();
    auto rows = head->getNumArguments() == 1
                    ? dyn_cast<RankedTensorType>(head->getArgumentTypes()[0])
                    : RankedTensorType();
    if (!rows)
      return head->emitError("'head' needs one argument, [rows, hidden]");
    if (failed(
            specialize(*head, {rows.clone(computeType)}, computeType, count)))
      return failure();
    for (Value logits : head->getBody().front().getTerminator()->getOperands())
      while (logits) {
        logits.setType(cast<RankedTensorType>(logits.getType())
                           .clone(Float32Type::get(&getContext())));
        // What is capped are logits already.
        auto cap = logits.getDefiningOp<nn::SoftcapOp>();
        logits = cap ? cap.getInput() : Value();
      }
    updateType(*head);
    return success();
  }

  unsigned count = 0;
  Type computeType;
};
} // namespace
