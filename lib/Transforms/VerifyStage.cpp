//===- VerifyStage.cpp - refuse leftovers of a finished stage -------------===//
#include "peftc/Dialect/Lora/Lora.h"
#include "peftc/Dialect/NN/NN.h"
#include "peftc/Dialect/Plan/Plan.h"
#include "peftc/Transforms/Passes.h"
#include "peftc/Transforms/Recompute.h"

#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "llvm/ADT/StringExtras.h"

using namespace mlir;
using namespace peftc;

namespace peftc {
#define GEN_PASS_DEF_VERIFYSTAGE
#include "peftc/Transforms/Passes.h.inc"
} // namespace peftc

static bool isForward(Operation *op) {
  return isa<nn::Differentiable, nn::RopeTableOp>(op);
}

static bool isStatic(Type type) {
  auto shaped = dyn_cast<ShapedType>(type);
  return !shaped || shaped.hasStaticShape();
}

namespace {
struct VerifyStage : public peftc::impl::VerifyStageBase<VerifyStage> {
  using VerifyStageBase::VerifyStageBase;

  void runOnOperation() override {
    LogicalResult result = failure();
    if (stage == "model" || stage == "adapted")
      result = verifyModel(/*adapted=*/stage == "adapted");
    else if (stage == "step")
      result = verifyStep();
    else if (stage == "converted" || stage == "planned")
      result = verifyPlan(/*planned=*/stage == "planned");
    else
      emitError(getOperation().getLoc())
          << "unknown stage '" << stage
          << "': take model, adapted, step, converted or planned";
    if (failed(result))
      signalPassFailure();
  }

private:
  InFlightDiagnostic refuse(Operation *op) {
    return op->emitOpError()
           << "does not belong after stage '" << stage << "': ";
  }

  /// Only the functions called `names`, each once.
  LogicalResult verifyFunctions(ArrayRef<StringRef> names) {
    unsigned found = 0;
    for (auto function : getOperation().getOps<func::FuncOp>()) {
      ++found;
      if (!llvm::is_contained(names, function.getSymName()))
        return refuse(function) << "function '" << function.getSymName()
                                << "' is none of " << llvm::join(names, ", ");
      if (function.isExternal())
        return refuse(function)
               << "'" << function.getSymName() << "' has no body";
    }
    if (found == names.size())
      return success();
    return emitError(getOperation().getLoc())
           << "stage '" << stage << "' needs the functions "
           << llvm::join(names, ", ") << "; found " << found;
  }

  LogicalResult verifyModel(bool adapted) {
    if (failed(verifyFunctions({"body", "head"})))
      return failure();
    bool anyTrainable = false;
    for (Operation &op : *getOperation().getBody()) {
      ++checked;
      if (auto param = dyn_cast<nn::ParamOp>(op)) {
        anyTrainable |= param.getTrainable();
        if (param.getTrainable() && !adapted)
          return refuse(param) << "'" << param.getSymName()
                               << "' is trainable, an imported model is frozen";
      } else if (!isa<func::FuncOp>(op)) {
        return refuse(&op) << "only parameters and functions do";
      }
    }
    if (adapted && !anyTrainable)
      return emitError(
          getOperation().getLoc(),
          "stage 'adapted' needs at least one trainable parameter");
    for (auto function : getOperation().getOps<func::FuncOp>())
      for (Operation &op : function.getBody().front().without_terminator()) {
        ++checked;
        if (!isForward(&op))
          return refuse(&op) << "it is no op of the forward direction";
        if (!adapted && isa<lora::LinearOp, lora::DoraLinearOp>(op))
          return refuse(&op) << "adapters come later";
      }
    return success();
  }

  LogicalResult verifyStep() {
    SmallVector<StringRef> names = {"micro_step", "update", "eval", "logits"};
    if (getOperation().lookupSymbol<func::FuncOp>("initialize"))
      names.push_back("initialize");
    if (failed(verifyFunctions(names)))
      return failure();
    WalkResult result = getOperation().walk([&](Operation *op) {
      ++checked;
      StringRef dialect = op->getName().getDialectNamespace();
      if (dialect == "plan") {
        refuse(op) << "the plan is made from the step, not in it";
        return WalkResult::interrupt();
      }
      if (op->hasAttr(notKeptAttr)) {
        refuse(op) << "it names results that are not kept; "
                      "run peft-rematerialize";
        return WalkResult::interrupt();
      }
      for (Value result : op->getResults())
        if (!isStatic(result.getType())) {
          refuse(op) << "its result " << result.getType()
                     << " has a dynamic shape";
          return WalkResult::interrupt();
        }
      return WalkResult::advance();
    });
    return failure(result.wasInterrupted());
  }

  LogicalResult verifyPlan(bool planned) {
    unsigned programs = 0;
    for (Operation &op : *getOperation().getBody()) {
      ++programs;
      if (!isa<plan::ProgramOp>(op))
        return refuse(&op) << "only one plan.program does";
    }
    if (programs != 1)
      return emitError(getOperation().getLoc())
             << "stage '" << stage << "' needs one plan.program, found "
             << programs;
    WalkResult result = getOperation().getBody()->walk([&](Operation *op) {
      ++checked;
      return failed(verifyPlanOp(op, planned)) ? WalkResult::interrupt()
                                               : WalkResult::advance();
    });
    return failure(result.wasInterrupted());
  }

  LogicalResult verifyPlanOp(Operation *op, bool planned) {
    if (!isa<plan::PlanDialect>(op->getDialect()))
      return refuse(op) << "only the plan dialect does";
    auto buffer = dyn_cast<plan::BufferOp>(op);
    if (buffer && planned && buffer.getArena() && !buffer.getOffset())
      return refuse(op) << "buffer '" << buffer.getName()
                        << "' lies in an arena and has no offset";
    return success();
  }
};
} // namespace
