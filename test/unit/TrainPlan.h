//===- TrainPlan.h - a plan that learns, made by hand -----------*- C++ -*-===//
//
// One linear layer between an embedding and the tied head, f32, 2 rows of 4
// tokens, vocabulary 12, hidden 8:
//
//   x = table[ids], y = x w^T + 2 (x A^T) B^T, logits = y table^T
//
// with all entries and ports that the trainer uses. A `model` plan trains w
// itself instead of A and B; in a `half` plan the gradient of the logits, and
// that of y on its way to its rows, are f16 and scaled.
//
//===----------------------------------------------------------------------===//
#ifndef PEFT_TEST_TRAINPLAN_H
#define PEFT_TEST_TRAINPLAN_H

#include "TinyPlan.h"

namespace peft::test {

inline constexpr const char *tableName = "model.embed_tokens.weight";
inline constexpr const char *weightName = "model.layers.0.mlp.up_proj.weight";
inline constexpr const char *modelConfigText = R"({
  "architectures": ["LlamaForCausalLM"], "model_type": "llama",
  "vocab_size": 12, "hidden_size": 8, "intermediate_size": 8,
  "num_hidden_layers": 1, "num_attention_heads": 2, "eos_token_id": 11,
  "tie_word_embeddings": true, "torch_dtype": "float32"
})";

class TrainPlan {
public:
  enum class Kind { adapter, model, half };

  explicit TrainPlan(Kind kind = Kind::adapter)
      : whole(kind == Kind::model), half(kind == Kind::half) {
    if (half)
      build.plan.compute = DType::f16;
    build.plan.batch = 2;
    build.plan.seq = 4;
    build.plan.vocab = 12;
    build.plan.modelConfig = modelConfigText;
    if (!whole)
      build.plan.adapterConfig =
          R"({"peft_type": "LORA", "r": 2, "lora_alpha": 4,
              "target_modules": ["up_proj"]})";
    addState();
    addMicroStep();
    addUpdate();
    addEvaluation();
    addLogits();
  }

  Plan finish() {
    uint32_t lossSum = build.index("loss_sum");
    build.plan.groups.push_back({"default", 1, lossSum, build.index("tokens"),
                                 build.index("norm_square")});
    for (const std::string &name : trained())
      addParameter(name);
    return build.finish();
  }

  PlanBuilder build;

private:
  std::vector<std::string> trained() const {
    return whole ? std::vector<std::string>{"w.master"}
                 : std::vector<std::string>{"A", "B"};
  }

  void addTrained(const std::string &name, std::vector<uint64_t> shape) {
    using enum BufferClass;
    build.persistent(name, DType::f32, shape, adapter);
    build.persistent(name + ".grad", DType::f32, shape, gradient);
    build.persistent(name + ".m", DType::f32, shape, optimizer);
    build.persistent(name + ".v", DType::f32, shape, optimizer);
  }

  void addParameter(const std::string &name) {
    Parameter parameter;
    parameter.name = whole ? weightName
                           : "base_model.model.model.layers.0.mlp.up_proj."
                             "lora_" +
                                 name + ".weight";
    parameter.module = "model.layers.0.mlp.up_proj";
    parameter.buffer = build.index(name);
    parameter.gradients = {build.index(name + ".grad")};
    parameter.firstMoment = build.index(name + ".m");
    parameter.secondMoment = build.index(name + ".v");
    parameter.zeroGradientAtStart = name == "A";
    build.plan.parameters.push_back(parameter);
  }

  void addState() {
    using enum BufferClass;
    build.mapped(tableName, DType::f32, {12, 8});
    build.mapped(weightName, DType::f32, {8, 8});
    Initializer start;
    if (whole) {
      addTrained("w.master", {8, 8});
      start.buffer = build.index("w.master");
      start.weight = 1;
    } else {
      addTrained("A", {2, 8});
      addTrained("B", {8, 2});
      start.buffer = build.index("A");
      start.kind = Initializer::Kind::kaimingUniform;
      start.stream = 5;
    }
    build.plan.initializers.push_back(start);
    for (const char *name :
         {"input_ids", "labels", "position_ids", "segment_ids"})
      addPort(Port::Kind::input, name, DType::i32, {8});
    addPort(Port::Kind::input, "logit_rows", DType::i32, {2});
    for (const char *name : {"step", "first_row"})
      addPort(Port::Kind::scalar, name, DType::i32, {1});
    addPort(Port::Kind::scalar, "seed", DType::i64, {1});
    for (const char *name : {"learning_rate", "beta1", "beta2", "epsilon",
                             "weight_decay", "max_grad_norm"})
      addPort(Port::Kind::scalar, name, DType::f64, {1});
    for (const char *name : {"loss_sum", "eval_loss_sum"})
      addPort(Port::Kind::output, name, DType::f64, {1});
    for (const char *name : {"tokens", "eval_tokens"})
      addPort(Port::Kind::output, name, DType::i64, {1});
    addPort(Port::Kind::output, "metrics", DType::f64, {4});
    addPort(Port::Kind::output, "logits", DType::f32, {2, 12});
    build.persistent("norm_square", DType::f64, {1}, scalar);
    build.persistent("adam", DType::f64, {8}, scalar);
    build.persistent("optimizer_step", DType::i32, {1}, optimizer);
    build.persistent("apply", DType::i32, {1}, scalar);
    if (half) {
      addPort(Port::Kind::scalar, "loss_scale", DType::f32, {1});
      addPort(Port::Kind::output, "proceed", DType::i32, {1});
      build.persistent("good_steps", DType::i32, {1}, optimizer);
    }
  }

  /// The scale's name, or that of no operand.
  std::string scale() const { return half ? "loss_scale" : ""; }

  void addPort(Port::Kind kind, const char *name, DType type,
               std::vector<uint64_t> shape) {
    build.persistent(name, type, std::move(shape), BufferClass::input);
    build.port(kind, name);
  }

  /// x and y of the open entry; names end in `suffix`.
  void addBody(const std::string &suffix) {
    for (const char *name : {"x", "y"})
      build.local(name + suffix, DType::f32, {8, 8});
    build.launch(0, "embed_fwd", {"input_ids", tableName, "x" + suffix});
    if (whole) {
      build.launch(0, "linear_fwd",
                   {"x" + suffix, "w.master", "", "", "", "y" + suffix});
      return;
    }
    build.local("t" + suffix, DType::f32, {8, 2});
    build.launch(0, "lora_down_fwd",
                 {"x" + suffix, "A", "", "", "", "", "", "t" + suffix},
                 {{"scale", 2.0}});
    build.launch(0, "linear_lora_fwd",
                 {"x" + suffix, weightName, "", "t" + suffix, "B", "", "",
                  "y" + suffix});
  }

  /// Compacted logits and what the loss needs.
  void addHead(const std::string &suffix) {
    for (const char *name : {"index", "target"})
      build.local(name + suffix, DType::i32, {8});
    build.local("count" + suffix, DType::i32, {1});
    build.local("rows" + suffix, DType::f32, {8, 8});
    build.local("scores" + suffix, DType::f32, {8, 12});
    build.local("loss" + suffix, DType::f32, {8});
    build.launch(0, "compact_rows",
                 {"labels", "segment_ids", "index" + suffix, "target" + suffix,
                  "count" + suffix},
                 {{"seq", int64_t(4)}, {"vocab", int64_t(12)}});
    build.launch(
        0, "gather_rows",
        {"y" + suffix, "index" + suffix, "count" + suffix, "rows" + suffix});
    build.launch(0, "linear_fwd",
                 {"rows" + suffix, tableName, "", "", "count" + suffix,
                  "scores" + suffix});
  }

  void addMicroStep() {
    build.entry("micro_step");
    addBody("");
    addHead("");
    const DType compute = half ? DType::f16 : DType::f32;
    build.local("drows", compute, {8, 8});
    build.local("dy", DType::f32, {8, 8});
    build.local("dscores", compute, {8, 12});
    build.launch(0, "cross_entropy_fwd_bwd",
                 {"scores", "target", "count", "loss", "dscores", scale()});
    build.launch(0, "loss_sum", {"loss", "count", "loss_sum"});
    build.launch(0, "count_tokens", {"count", "tokens"});
    build.launch(0, "linear_dx", {"dscores", tableName, "", "count", "drows"});
    build.launch(0, "fill_zero", {"dy"});
    build.launch(0, "scatter_rows", {"drows", "index", "count", "dy"});
    if (whole) {
      build.launch(0, "linear_dw", {"dy", "x", "", "w.master.grad"});
      return;
    }
    build.local("dt", DType::f32, {8, 2});
    build.launch(0, "linear_dw", {"dy", "t", "", "B.grad"});
    build.launch(0, "linear_dx", {"dy", "B", "", "", "dt"}, {{"scale", 2.0}});
    build.launch(0, "lora_down_dw", {"dt", "x", "", "", "", "", "", "A.grad"});
  }

  void addUpdate() {
    build.entry("update");
    for (const std::string &name : trained())
      build.launch(0, "norm_square", {name + ".grad", "norm_square"});
    build.launch(0, "finish_step",
                 {"loss_sum", "tokens", "norm_square", "learning_rate", "beta1",
                  "beta2", "epsilon", "weight_decay", "max_grad_norm",
                  "optimizer_step", "adam", "metrics", "apply", scale()});
    if (half)
      build.launch(0, "adjust_loss_scale",
                   {"metrics", "loss_scale", "good_steps", "proceed"});
    Predicate ifApplied{build.index("apply"), 0};
    Predicate ifGoing{build.index(half ? "proceed" : "apply"), 0};
    for (const std::string &name : trained()) {
      build
          .launch(0, "adamw",
                  {name, name + ".grad", name + ".m", name + ".v", "adam"})
          .predicate = ifApplied;
      build.launch(0, "fill_zero", {name + ".grad"}).predicate = ifGoing;
    }
  }

  void addEvaluation() {
    build.entry("eval");
    addBody(".e");
    addHead(".e");
    build.launch(0, "cross_entropy_fwd",
                 {"scores.e", "target.e", "count.e", "loss.e"});
    build.launch(0, "loss_sum", {"loss.e", "count.e", "eval_loss_sum"});
    build.launch(0, "count_tokens", {"count.e", "eval_tokens"});
  }

  void addLogits() {
    build.entry("logits");
    addBody(".l");
    build.local("last", DType::f32, {2, 8});
    build.launch(0, "gather_rows", {"y.l", "logit_rows", "", "last"});
    build.launch(0, "linear_fwd", {"last", tableName, "", "", "", "logits"});
  }

  bool whole, half;
};

} // namespace peft::test

#endif // PEFT_TEST_TRAINPLAN_H
