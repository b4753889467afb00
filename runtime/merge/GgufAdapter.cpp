//===- GgufAdapter.cpp - an adapter for llama.cpp -------------------------===//
#include "peft/GgufAdapter.h"

#include "AdapterChanges.h"
#include "peft/GgufFile.h"
#include "peft/ModelConfig.h"

#include <algorithm>
#include <cctype>
#include <cmath>
#include <memory>

using namespace peft;

namespace {

/// A family as llama.cpp calls it. Where it rotates neighbouring pairs, the
/// rows of q and k, which Hugging Face has in halves, are interleaved.
struct Architecture {
  std::string_view modelType, name;
  bool interleaved;
};

constexpr Architecture architectures[] = {
    {"llama", "llama", true},   {"mistral", "llama", true},
    {"qwen2", "qwen2", false},  {"qwen3", "qwen3", false},
    {"gemma2", "gemma2", false}, {"gemma3_text", "gemma3", false},
    {"phi3", "phi3", false},
};

/// The linears of a layer.
constexpr std::pair<std::string_view, std::string_view> linears[] = {
    {"self_attn.q_proj", "attn_q"},      {"self_attn.k_proj", "attn_k"},
    {"self_attn.v_proj", "attn_v"},      {"self_attn.o_proj", "attn_output"},
    {"self_attn.qkv_proj", "attn_qkv"},  {"mlp.gate_proj", "ffn_gate"},
    {"mlp.up_proj", "ffn_up"},           {"mlp.down_proj", "ffn_down"},
    {"mlp.gate_up_proj", "ffn_up"},
};

class GgufExporter {
public:
  GgufExporter(const AdapterDirectory &adapter, const ModelDirectory &model)
      : adapter(adapter), model(model) {}

  Expected<GgufReport> run(const ScaleOfModule &scaleOf,
                           const std::string &output);

private:
  Status readArchitecture();
  Status checkExpressible(const AdapterChanges &changes) const;
  Expected<std::string> nameOf(const LowRankChange &change) const;
  int64_t interleavedHeads(const std::string &module) const;
  Status add(const LowRankChange &change);
  void add(const std::string &name, std::vector<int64_t> shape,
           std::vector<float> values);
  Status refuse(const std::string &what) const {
    return badInput(adapter.directory + ": " + what +
                    "; `peftc merge` makes a model of it, which llama.cpp's "
                    "own converter takes");
  }

  const AdapterDirectory &adapter;
  const ModelDirectory &model;
  ModelConfig config;
  Architecture architecture{};
  std::vector<std::unique_ptr<std::vector<float>>> values;
  std::vector<TensorToWrite> tensors;
};

} // namespace

Status GgufExporter::readArchitecture() {
  PEFT_ASSIGN(config, readModelConfig(model));
  std::string known;
  for (const Architecture &each : architectures) {
    if (each.modelType == config.modelType) {
      architecture = each;
      return {};
    }
    known += (known.empty() ? "" : ", ") + std::string(each.modelType);
  }
  return badInput(model.configPath + ": adapters of model_type " +
                  config.modelType +
                  " are not exported in this version; known: " + known);
}

/// The format has pairs of factors and one alpha, nothing else.
Status
GgufExporter::checkExpressible(const AdapterChanges &changes) const {
  for (const auto &[name, change] : changes.lowRank) {
    if (change.magnitude)
      return refuse(change.module + " is a DoRA module, which llama.cpp's "
                                    "adapters cannot have");
    if (change.bias)
      return refuse(change.module + " has a bias of its own (lora_bias), which "
                                    "llama.cpp's adapters cannot have");
    if (change.embedding)
      return refuse(change.module + " is an adapted embedding, which "
                                    "llama.cpp's adapters cannot have");
    if (change.module == "lm_head" && config.tied)
      return refuse("lm_head is adapted, but llama.cpp has one table for it "
                    "and the embedding");
  }
  for (const auto &[name, tensor] : changes.whole)
    // The frozen weight of an adapted head, which PEFT saves beside it.
    if (!tensor->name.ends_with(".base_layer.weight"))
      return refuse(name + " is saved whole (modules_to_save or a trained "
                           "bias), which llama.cpp's adapters cannot have");
  return {};
}

/// "blk.7.attn_q.weight"
Expected<std::string> GgufExporter::nameOf(const LowRankChange &change) const {
  const std::string &module = change.module;
  if (module == "lm_head")
    return std::string("output.weight");
  constexpr std::string_view layers = "model.layers.";
  if (module.starts_with(layers)) {
    const size_t dot = module.find('.', layers.size());
    const std::string layer =
        module.substr(layers.size(), dot - layers.size());
    const bool isNumber =
        !layer.empty() && std::ranges::all_of(layer, [](unsigned char c) {
          return std::isdigit(c);
        });
    if (dot != std::string::npos && isNumber)
      for (const auto &[theirs, ours] : linears)
        if (module.substr(dot + 1) == theirs)
          return "blk." + layer + "." + std::string(ours) + ".weight";
  }
  return refuse(module + " has no name in llama.cpp that is known here");
}

/// How many heads' rows are interleaved; 0: none.
int64_t GgufExporter::interleavedHeads(const std::string &module) const {
  if (!architecture.interleaved)
    return 0;
  return module.ends_with("q_proj")   ? config.heads
         : module.ends_with("k_proj") ? config.kvHeads
                                      : 0;
}

void GgufExporter::add(const std::string &name, std::vector<int64_t> shape,
                       std::vector<float> content) {
  values.push_back(std::make_unique<std::vector<float>>(std::move(content)));
  TensorToWrite tensor;
  tensor.name = name;
  tensor.shape = std::move(shape);
  tensor.bytes = std::as_bytes(std::span(*values.back()));
  tensors.push_back(std::move(tensor));
}

Status GgufExporter::add(const LowRankChange &change) {
  PEFT_ASSIGN(const std::string name, nameOf(change));
  PEFT_ASSIGN(std::vector<float> a, readValues(adapter.tensors, *change.a));
  PEFT_ASSIGN(std::vector<float> b, readValues(adapter.tensors, *change.b));
  const int64_t rows = change.b->shape[0], rank = change.rank;
  // llama.cpp multiplies by alpha / rank.
  const double factor = change.scale * static_cast<double>(rank) /
                        static_cast<double>(adapter.config.rank);
  const int64_t heads = interleavedHeads(change.module);
  if (heads && rows % (2 * heads) != 0)
    return badInput(adapter.tensors.path() + ": " + change.module + " has " +
                    std::to_string(rows) + " rows, which are no " +
                    std::to_string(heads) + " heads of pairs");
  std::vector<float> ordered(b.size());
  for (int64_t row = 0; row < rows; ++row) {
    int64_t target = row;
    if (heads) {
      // Half h, pair p of a head becomes row 2 p + h of it.
      const int64_t size = rows / heads, half = size / 2;
      const int64_t inside = row % size;
      target = row - inside + 2 * (inside % half) + inside / half;
    }
    for (int64_t r = 0; r < rank; ++r)
      ordered[target * rank + r] =
          static_cast<float>(factor * b[row * rank + r]);
  }
  if (std::ranges::any_of(ordered,
                          [](float value) { return !std::isfinite(value); }))
    return badInput(adapter.tensors.path() + ": " + change.b->name +
                    " times its scale is more than f32 can hold");
  add(name + ".lora_a", change.a->shape, std::move(a));
  add(name + ".lora_b", change.b->shape, std::move(ordered));
  return {};
}

Expected<GgufReport> GgufExporter::run(const ScaleOfModule &scaleOf,
                                       const std::string &output) {
  PEFT_TRY(readArchitecture());
  PEFT_ASSIGN(AdapterChanges changes, readChanges(adapter, scaleOf));
  PEFT_TRY(checkExpressible(changes));
  for (const auto &[name, change] : changes.lowRank)
    PEFT_TRY(add(change));
  GgufReport report;
  report.modules = changes.lowRank.size();
  report.architecture = architecture.name;
  report.alpha = static_cast<float>(adapter.config.rank);
  const GgufFields fields = {{"general.architecture", report.architecture},
                             {"general.type", "adapter"},
                             {"general.name", fileName(adapter.directory)},
                             {"adapter.type", "lora"},
                             {"adapter.lora.alpha", report.alpha}};
  PEFT_TRY(writeGguf(output, fields, tensors));
  return report;
}

Expected<GgufReport> peft::exportGgufAdapter(const AdapterDirectory &adapter,
                                             const ModelDirectory &model,
                                             const ScaleOfModule &scaleOf,
                                             const std::string &output) {
  return GgufExporter(adapter, model).run(scaleOf, output);
}
