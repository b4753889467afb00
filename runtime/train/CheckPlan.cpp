//===- CheckPlan.cpp - whether a plan is one that trains ------------------===//
#include "CheckPlan.h"

#include "peft/KernelSpec.h"
#include "peft/ModelConfig.h"
#include "peft/Safetensors.h"

#include <algorithm>
#include <sstream>

using namespace peft;

namespace {
struct NeededPort {
  const char *name;
  Port::Kind kind;
  DType dtype;
  uint64_t elements;
};

constexpr const char *hint = "; compile the model again with peftc compile";

Status checkPort(const Plan &plan, const NeededPort &needed) {
  uint32_t index = plan.findPort(needed.name);
  std::string where = std::string("the plan's port '") + needed.name + "'";
  if (index == none)
    return badInput(where + " is missing" + hint);
  const Port &port = plan.ports[index];
  const Buffer &buffer = plan.buffers[port.buffer];
  uint64_t found = buffer.elements();
  if (port.kind != needed.kind)
    return badInput(where + " is of another kind" + hint);
  if (buffer.dtype != needed.dtype || found != needed.elements)
    return badInput(where + " has " + std::to_string(found) + " elements of " +
                    std::string(name(buffer.dtype)) + ", needed are " +
                    std::to_string(needed.elements) + " of " +
                    std::string(name(needed.dtype)) + hint);
  return {};
}
} // namespace

Status peft::checkTrainingPlan(const Plan &plan) {
  using enum Port::Kind;
  for (const char *entry : {"micro_step", "update", "eval", "logits"})
    if (plan.findEntry(entry) == none)
      return badInput(std::string("the plan has no entry '") + entry + "'" +
                      hint);
  if (plan.batch == 0 || plan.seq == 0 || plan.vocab == 0)
    return badInput(std::string("the plan has no rows, tokens or vocabulary") +
                    hint);
  if (plan.vocab > INT32_MAX)
    return badInput("the plan's vocabulary of " + std::to_string(plan.vocab) +
                    " does not fit 31 bits");
  if (std::ranges::none_of(plan.parameters, &Parameter::trains))
    return badInput(std::string("the plan trains nothing") + hint);
  // Products of a stranger's numbers: they stay at the largest value and then
  // differ from the buffer's size.
  uint64_t rows = (Saturating(plan.batch) * Saturating(plan.seq)).value;
  uint64_t scores = (Saturating(plan.batch) * Saturating(plan.vocab)).value;
  const NeededPort ports[] = {
      {"input_ids", input, DType::i32, rows},
      {"labels", input, DType::i32, rows},
      {"position_ids", input, DType::i32, rows},
      {"segment_ids", input, DType::i32, rows},
      {"logit_rows", input, DType::i32, plan.batch},
      {"step", scalar, DType::i32, 1},
      {"first_row", scalar, DType::i32, 1},
      {"seed", scalar, DType::i64, 1},
      {"learning_rate", scalar, DType::f64, 1},
      {"beta1", scalar, DType::f64, 1},
      {"beta2", scalar, DType::f64, 1},
      {"epsilon", scalar, DType::f64, 1},
      {"weight_decay", scalar, DType::f64, 1},
      {"max_grad_norm", scalar, DType::f64, 1},
      {"metrics", output, DType::f64, 4},
      {"loss_sum", output, DType::f64, 1},
      {"tokens", output, DType::i64, 1},
      {"eval_loss_sum", output, DType::f64, 1},
      {"eval_tokens", output, DType::i64, 1},
      {"logits", output, DType::f32, scores},
  };
  for (const NeededPort &port : ports)
    PEFT_TRY(checkPort(plan, port));
  if (plan.compute == DType::f16 || plan.findPort("loss_scale") != none) {
    PEFT_TRY(checkPort(plan, {"loss_scale", scalar, DType::f32, 1}));
    PEFT_TRY(checkPort(plan, {"proceed", output, DType::i32, 1}));
  }
  return {};
}

/// A checkpoint may hold a head although its config ties it to the embedding.
/// transformers 5 ties them only if they are equal; so nothing else is taken.
static Status checkTiedHead(const ModelDirectory &model) {
  ModelDirectory::Tensor head = model.find("lm_head.weight");
  ModelDirectory::Tensor table = model.find("model.embed_tokens.weight");
  if (!head || !table)
    return {};
  PEFT_ASSIGN(SafetensorsFile headFile,
              SafetensorsFile::open(head.shard->path));
  PEFT_ASSIGN(SafetensorsFile tableFile,
              SafetensorsFile::open(table.shard->path));
  if (std::ranges::equal(headFile.bytes(*head.header),
                         tableFile.bytes(*table.header)))
    return {};
  return badInput(model.directory +
                  ": config.json ties lm_head.weight to the embedding "
                  "(tie_word_embeddings), but the checkpoint holds another "
                  "one; set tie_word_embeddings to false and compile again, or "
                  "save the model with tied weights");
}

Status peft::checkSameModel(const Plan &plan, const ModelDirectory &model) {
  if (plan.modelConfig.empty())
    return {};
  PEFT_ASSIGN(ModelConfig made,
              parseModelConfig(plan.modelConfig, "the plan's config.json"));
  PEFT_ASSIGN(ModelConfig given, readModelConfig(model));
  Status status;
  auto same = [&](const char *field, const auto &planned, const auto &found) {
    if (!status.ok() || planned == found)
      return;
    std::ostringstream text;
    text << "the plan was compiled for another model: its " << field << " is "
         << planned << ", that of " << model.directory << " is " << found
         << "; compile " << model.directory << " with peftc compile";
    status = badInput(text.str());
  };
  same("model_type", made.modelType, given.modelType);
  same("num_hidden_layers", made.layers, given.layers);
  same("num_attention_heads", made.heads, given.heads);
  same("num_key_value_heads", made.kvHeads, given.kvHeads);
  same("head_dim", made.headDim, given.headDim);
  same("rms_norm_eps", made.rmsEpsilon, given.rmsEpsilon);
  same("tie_word_embeddings", made.tied, given.tied);
  same("hidden activation", int(made.activation), int(given.activation));
  same("query_pre_attn_scalar", made.attentionScale, given.attentionScale);
  same("attn_logit_softcapping", made.attentionSoftcap,
       given.attentionSoftcap);
  same("final_logit_softcapping", made.logitSoftcap, given.logitSoftcap);
  same("rope_type", name(made.rope.type), name(given.rope.type));
  same("rope_theta", made.rope.theta, given.rope.theta);
  same("RoPE factor", made.rope.factor, given.rope.factor);
  for (size_t i = 0; status.ok() && i < made.slidingWindow.size(); ++i)
    same("sliding_window", made.slidingWindow[i], given.slidingWindow[i]);
  if (status.ok() && made.tied)
    status = checkTiedHead(model);
  // What else scales the angles, as the frequencies show it.
  auto sameAngles = [&](const RopeConfig &planned, const RopeConfig &found) {
    for (auto list : {&RopeConfig::invFreq, &RopeConfig::longInvFreq}) {
      same("number of rotating features", (planned.*list).size() * 2,
           (found.*list).size() * 2);
      for (size_t i = 0; status.ok() && i < (planned.*list).size(); ++i)
        same("RoPE frequency", (planned.*list)[i], (found.*list)[i]);
    }
    same("RoPE attention factor", planned.attentionFactor,
         found.attentionFactor);
    same("original_max_position_embeddings", planned.originalMaxPositions,
         found.originalMaxPositions);
  };
  sameAngles(made.rope, given.rope);
  if (made.localRope && given.localRope)
    sameAngles(*made.localRope, *given.localRope);
  return status;
}
