//===- Rematerialize.cpp - compute again what was not kept ----------------===//
//
// Obeys a decision per value, whoever made it. The clones read the same kept
// values and the same counters of random numbers as the originals and run the
// same kernels, so they have the same bits.
//
//===----------------------------------------------------------------------===//
#include "peftc/Analysis/ForwardPass.h"
#include "peftc/Dialect/Lora/Lora.h"
#include "peftc/Dialect/NN/Costs.h"
#include "peftc/Transforms/Passes.h"
#include "peftc/Transforms/Recompute.h"

#include "mlir/IR/IRMapping.h"
#include "mlir/Interfaces/SideEffectInterfaces.h"
#include "llvm/ADT/BitVector.h"
#include "llvm/ADT/DenseMap.h"
#include "llvm/ADT/DenseSet.h"

#include <map>

namespace peftc {
#define GEN_PASS_DEF_REMATERIALIZE
#include "peftc/Transforms/Passes.h.inc"
} // namespace peftc

using namespace mlir;
using namespace peftc;

namespace {

/// The not-kept values of one function and the clones made so far.
class Recomputation {
public:
  explicit Recomputation(func::FuncOp function)
      : function(function), forward(forwardOps(function)) {}

  /// Reads the decision; an error where it cannot be obeyed.
  LogicalResult readChoice();
  /// Gives every backward op clones of what it reads of them.
  void run();

  bool anyChosen() const { return !notKept.empty(); }
  unsigned opsRecomputed() const { return cloned; }
  uint64_t bytesNotKept() const { return bytes; }

private:
  using Needs = std::map<size_t, llvm::BitVector, std::greater<size_t>>;

  void need(Value value, Needs &needs);
  void recompute(Needs &needs, Operation *before);
  void clone(size_t index, const llvm::BitVector &results, OpBuilder &builder);
  lora::LinearOp projectionOnly(size_t index, const llvm::BitVector &results);

  func::FuncOp function;
  SmallVector<Operation *> forward;
  llvm::DenseMap<Operation *, size_t> indexOf; ///< in `forward`
  llvm::DenseSet<Value> notKept;
  llvm::DenseSet<Value> counted; ///< in `bytes`
  IRMapping clones;
  unsigned cloned = 0;
  uint64_t bytes = 0;
};

} // namespace

LogicalResult Recomputation::readChoice() {
  for (auto [index, op] : llvm::enumerate(forward))
    indexOf[op] = index;
  WalkResult result = function.walk([&](Operation *op) {
    Attribute attribute = op->getAttr(notKeptAttr);
    if (!attribute)
      return WalkResult::advance();
    auto results = dyn_cast<DenseI64ArrayAttr>(attribute);
    if (!results) {
      op->emitOpError() << notKeptAttr << " is " << attribute
                        << ", needed are result numbers as array<i64: 0>";
      return WalkResult::interrupt();
    }
    if (!indexOf.contains(op)) {
      op->emitOpError("is no op of the forward pass: its results cannot be "
                      "recomputed in backward");
      return WalkResult::interrupt();
    }
    if (!isMemoryEffectFree(op)) {
      op->emitOpError("has effects: it cannot run twice");
      return WalkResult::interrupt();
    }
    for (int64_t number : results.asArrayRef()) {
      if (number < 0 || number >= op->getNumResults()) {
        op->emitOpError() << notKeptAttr << " names result " << number
                          << ", the op has " << op->getNumResults();
        return WalkResult::interrupt();
      }
      notKept.insert(op->getResult(number));
    }
    op->removeAttr(notKeptAttr);
    return WalkResult::advance();
  });
  return failure(result.wasInterrupted());
}

/// Adds `value` to what has to be computed, unless it is kept or cloned.
void Recomputation::need(Value value, Needs &needs) {
  if (!notKept.contains(value) || clones.contains(value))
    return;
  Operation *op = value.getDefiningOp();
  llvm::BitVector &results = needs[indexOf.lookup(op)];
  results.resize(op->getNumResults());
  results.set(cast<OpResult>(value).getResultNumber());
}

/// The op if it is a linear of which only the projection is needed, else null:
/// the product with the frozen weight is most of its work.
lora::LinearOp Recomputation::projectionOnly(size_t index,
                                             const llvm::BitVector &results) {
  auto linear = dyn_cast<lora::LinearOp>(forward[index]);
  if (!linear)
    return {};
  unsigned projection =
      cast<OpResult>(linear.getProjection()).getResultNumber();
  return results.count() == 1 && results[projection] ? linear
                                                     : lora::LinearOp();
}

void Recomputation::clone(size_t index, const llvm::BitVector &results,
                          OpBuilder &builder) {
  Operation *copy;
  if (lora::LinearOp linear = projectionOnly(index, results)) {
    auto down = lora::DownOp::create(
        builder, linear.getLoc(), linear.getProjection().getType(),
        clones.lookupOrDefault(linear.getInput()), linear.getAAttr(),
        linear.getScaleAttr(), linear.getDropoutAttr(), linear.getModuleAttr());
    clones.map(linear.getProjection(), down.getProjection());
    copy = down;
  } else {
    IRMapping all = clones;
    copy = builder.clone(*forward[index], all);
    for (OpResult result : forward[index]->getResults())
      if (notKept.contains(result))
        clones.map(result, copy->getResult(result.getResultNumber()));
  }
  copy->setAttr(recomputedAttr, builder.getUnitAttr());
  ++cloned;
}

/// Clones what `needs` names, and what that needs in turn, in the order of the
/// forward pass. From the last op to the first: when an op is looked at, all
/// who read it have said which of its results they need.
void Recomputation::recompute(Needs &needs, Operation *before) {
  for (auto it = needs.begin(); it != needs.end(); ++it) {
    if (lora::LinearOp linear = projectionOnly(it->first, it->second)) {
      need(linear.getInput(), needs);
      continue;
    }
    for (Value operand : forward[it->first]->getOperands())
      need(operand, needs);
  }
  OpBuilder builder(before);
  for (auto &[index, results] : llvm::reverse(needs))
    clone(index, results, builder);
}

/// Clones stand as late as they can: just before the first backward op that
/// reads one of them.
void Recomputation::run() {
  Block &block = function.front();
  auto first = forward.empty() ? block.begin()
                               : std::next(Block::iterator(forward.back()));
  for (Operation &op : llvm::make_early_inc_range(
           llvm::make_range(first, block.end()))) {
    Needs needs;
    SmallVector<OpOperand *> reads;
    op.walk([&](Operation *inner) {
      for (OpOperand &operand : inner->getOpOperands())
        if (notKept.contains(operand.get()))
          reads.push_back(&operand);
    });
    for (OpOperand *read : reads) {
      need(read->get(), needs);
      if (counted.insert(read->get()).second)
        bytes += nn::bytesOf(cast<RankedTensorType>(read->get().getType()));
    }
    recompute(needs, &op);
    for (OpOperand *read : reads)
      read->set(clones.lookup(read->get()));
  }
}

namespace {
struct Rematerialize : public peftc::impl::RematerializeBase<Rematerialize> {
  using RematerializeBase::RematerializeBase;

  void runOnOperation() override {
    for (auto function : getOperation().getOps<func::FuncOp>()) {
      Recomputation recomputation(function);
      if (failed(recomputation.readChoice()))
        return signalPassFailure();
      if (!recomputation.anyChosen())
        continue;
      recomputation.run();
      unsigned ops = recomputation.opsRecomputed();
      opsRecomputed += ops;
      bytesNotKept += recomputation.bytesNotKept();
      if (!ops)
        continue;
      std::string text = (Twine(recomputation.bytesNotKept()) +
                          " bytes that backward reads are not kept; " +
                          Twine(ops) + " ops of the forward pass run again")
                             .str();
      Builder builder(&getContext());
      function->setAttr(recomputeRemarkAttr, builder.getStringAttr(text));
    }
  }
};
} // namespace
