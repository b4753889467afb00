//===- GroupDownProjections.cpp - adapters of one input, one launch -------===//
//
// q, k and v have one input, and so have gate and up. Their projections
// t = scale (drop(x) A^T) are skinny products that mostly read x: one launch for
// two or three of them reads it once where the device can. Each keeps its rank,
// scale, stored type and mask; on the CPU every element is the same chain.
//
//===----------------------------------------------------------------------===//
#include "StepConverter.h"

#include "peftc/Transforms/Recompute.h"

using namespace mlir;
using namespace peftc;
using namespace peft::kernels;

/// The operands and attributes of the adapters of lora_down_group_fwd.
namespace {
struct Member {
  int a, t, scale;
  StringRef key;
};
} // namespace
static constexpr Member members[] = {
    {lora_down_group_fwd::a0, lora_down_group_fwd::t0,
     lora_down_group_fwd::scale0, "module_key0"},
    {lora_down_group_fwd::a1, lora_down_group_fwd::t1,
     lora_down_group_fwd::scale1, "module_key1"},
    {lora_down_group_fwd::a2, lora_down_group_fwd::t2,
     lora_down_group_fwd::scale2, "module_key2"},
};

/// `first` and what may be projected with it: later ops of its block, in order,
/// with its input and its dropout. An adapter that comes again ends the group:
/// that is another evaluation, whose projection is wanted later.
SmallVector<lora::LinearOp> StepConverter::groupOf(lora::LinearOp first) {
  SmallVector<lora::LinearOp> group{first};
  for (Operation *op = first->getNextNode(); op; op = op->getNextNode()) {
    auto linear = dyn_cast<lora::LinearOp>(op);
    if (!linear || linear.getInput() != first.getInput())
      continue;
    if (group.size() == std::size(members) ||
        llvm::any_of(group, [&](lora::LinearOp member) {
          return member.getA() == linear.getA();
        }))
      break;
    if (linear.getDropout() == first.getDropout() &&
        !projected.contains(linear.getProjection()))
      group.push_back(linear);
  }
  return group;
}

LogicalResult StepConverter::lower(lora::DownOp op) { return projectOne(op); }

/// Gives `op` its projection, unless an earlier one of its group did.
LogicalResult StepConverter::projectDown(lora::LinearOp op) {
  if (projected.contains(op.getProjection()))
    return success();
  if (!groupsProjections)
    return projectOne(op);
  SmallVector<lora::LinearOp> group = groupOf(op);
  return group.size() == 1 ? projectOne(op) : projectGroup(group);
}

template <typename Op> LogicalResult StepConverter::projectOne(Op op) {
  using namespace lora_down_fwd;
  FailureOr<Value> factor = useFactor(op, op.getA());
  if (failed(factor))
    return failure();
  KernelCall c = call(op, "lora_down_fwd");
  c.operand(x, use(op.getInput()))
      .operand(a, *factor)
      .set(scale, op.getScale().convertToDouble());
  setDropout(c, op.getDropout().convertToDouble(), op.getModule());
  define(op, op.getProjection(), c, t);
  projected.insert(op.getProjection());
  return launch(op, c);
}

/// The module that all of `group` belong to, or the first one's name.
static std::string commonModule(ArrayRef<lora::LinearOp> group) {
  std::string first = peftc::moduleOf(group.front());
  StringRef parent = StringRef(first).rsplit('.').first;
  for (lora::LinearOp op : group)
    if (StringRef(peftc::moduleOf(op)).rsplit('.').first != parent)
      return first;
  return parent.str();
}

LogicalResult StepConverter::projectGroup(ArrayRef<lora::LinearOp> group) {
  lora::LinearOp first = group.front();
  KernelCall c("lora_down_group_fwd", commonModule(group));
  if (first->hasAttr(recomputedAttr))
    c.again();
  c.operand(lora_down_group_fwd::x, use(first.getInput()));
  for (size_t i = 0; i < group.size(); ++i) {
    lora::LinearOp op = group[i];
    const Member &member = members[i];
    FailureOr<Value> factor = useFactor(op, op.getA());
    if (failed(factor))
      return failure();
    c.operand(member.a, *factor)
        .set(member.scale, op.getScale().convertToDouble());
    setDropout(c, op.getDropout().convertToDouble(), op.getModule(),
               member.key);
    define(op, op.getProjection(), c, member.t);
    projected.insert(op.getProjection());
  }
  return launch(first, c);
}
