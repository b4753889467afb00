//===- AttentionPlan.h - attention forward and backward ---------*- C++ -*-===//
#ifndef PEFT_TEST_ATTENTIONPLAN_H
#define PEFT_TEST_ATTENTIONPLAN_H

#include "TinyPlan.h"

namespace peft::test {

struct AttentionSizes {
  DType type = DType::bf16;
  uint64_t batch = 2, seq = 70, heads = 4, kvHeads = 2, headDim = 16;
  int64_t window = 0;
  bool segments = true;
  int64_t engine = 1; ///< of both launches
  double softcap = 0;
  bool predicated = false; ///< both launches run if "gate" is above 0

  uint64_t rows() const { return batch * seq; }
};

/// A plan for a card with the entries "forward" and "backward", a launch each,
/// on persistent buffers that have the names of the operands.
inline Plan attentionPlan(const AttentionSizes &of) {
  PlanBuilder builder;
  builder.plan.compute = of.type;
  builder.plan.deviceKind = DeviceKind::cuda;
  const uint64_t rows = of.rows(), width = of.heads * of.headDim,
                 keyWidth = of.kvHeads * of.headDim;
  for (const char *name : {"q", "o", "d_o", "dq"})
    builder.persistent(name, of.type, {rows, width}, BufferClass::activation);
  for (const char *name : {"k", "v", "dk", "dv"})
    builder.persistent(name, of.type, {rows, keyWidth},
                       BufferClass::activation);
  builder.persistent("lse", DType::f32, {of.heads, rows},
                     BufferClass::activation);
  builder.persistent("segments", DType::i32, {rows}, BufferClass::input);
  const std::string segments = of.segments ? "segments" : "";
  const std::vector<Attribute> attributes = {
      {"seq", int64_t(of.seq)},          {"heads", int64_t(of.heads)},
      {"kv_heads", int64_t(of.kvHeads)}, {"head_dim", int64_t(of.headDim)},
      {"window", of.window},             {"scale", 0.3},
      {"engine", of.engine},
      {"softcap", of.softcap}};
  Predicate predicate;
  if (of.predicated) {
    builder.persistent("gate", DType::i32, {1}, BufferClass::scalar);
    predicate = {builder.index("gate"), 0};
  }
  builder.entry("forward");
  builder
      .launch(0, "attention_fwd", {"q", "k", "v", segments, "o", "lse"},
              attributes)
      .predicate = predicate;
  builder.entry("backward");
  builder
      .launch(0, "attention_bwd",
              {"q", "k", "v", "o", "d_o", "lse", segments, "dq", "dk", "dv"},
              attributes)
      .predicate = predicate;
  return builder.finish();
}

} // namespace peft::test

#endif // PEFT_TEST_ATTENTIONPLAN_H
