//===- AdapterConfig.cpp - reading adapter_config.json --------------------===//
#include "peft/AdapterConfig.h"
#include "FieldReader.h"
#include "peft/File.h"

#include <algorithm>
#include <cctype>
#include <charconv>
#include <cmath>

using namespace peft;
using Json = nlohmann::json;
using OrderedJson = nlohmann::ordered_json;

namespace {

constexpr int64_t maximumRank = 1 << 16;
constexpr double smallestAlpha = 1e-9, largestAlpha = 1e9;
constexpr double largestDropout = 0.999; ///< of the kernels

/// Read below, or metadata that changes nothing.
constexpr std::string_view knownFields[] = {
    "peft_type",
    "r",
    "lora_alpha",
    "lora_dropout",
    "target_modules",
    "exclude_modules",
    "rank_pattern",
    "alpha_pattern",
    "bias",
    "layers_to_transform",
    "use_rslora",
    "use_dora",
    "lora_bias",
    "layers_pattern",
    "modules_to_save",
    "init_lora_weights",
    "task_type",
    "base_model_name_or_path",
    "revision",
    "inference_mode",
    "peft_version",
    "auto_mapping",
    "runtime_config",
};

/// PEFT's own fields that are not implemented, whose defaults are null, false
/// or empty.
constexpr std::string_view unimplementedFields[] = {
    "fan_in_fan_out",
    "target_parameters",
    "trainable_token_indices",
    "ensure_weight_tying",
    "layer_replication",
    "loftq_config",
    "eva_config",
    "corda_config",
    "lora_ga_config",
    "velora_config",
    "monteclora_config",
    "kasa_config",
    "arrow_config",
    "use_bdlora",
    "use_qalora",
    "qalora_group_size",
    "alora_invocation_tokens",
    "megatron_config",
    "megatron_core",
};

/// The two defaults that are neither null, false nor empty.
bool isOtherDefault(std::string_view field, const Json &value) {
  return (field == "qalora_group_size" && value == 16) ||
         (field == "megatron_core" && value == "megatron.core");
}

template <size_t N>
bool contains(const std::string_view (&names)[N], std::string_view name) {
  return std::find(std::begin(names), std::end(names), name) != std::end(names);
}

bool isUnset(const Json &value) {
  return value.is_null() || value == false ||
         ((value.is_structured() || value.is_string()) &&
          (value.empty() || value == ""));
}

void checkOtherFields(const Json &json, FieldReader &fields) {
  for (const auto &[field, value] : json.items()) {
    if (contains(knownFields, field) || isUnset(value) ||
        isOtherDefault(field, value))
      continue;
    if (contains(unimplementedFields, field))
      fields.fail(field, describe(value) +
                             " is not implemented; only adapters without it "
                             "are supported");
    else
      fields.fail(field, describe(value) +
                             " is set, but no such field of LoRA is known "
                             "here; it may change what is computed, so remove "
                             "it if it does not");
  }
}

ModuleSelection readSelection(FieldReader &fields, const std::string &field) {
  const Json *value = fields.get(field);
  if (!value || value->is_null())
    return {};
  if (!value->is_string())
    return ModuleSelection::ofNames(fields.texts(field));
  std::string text = value->get<std::string>();
  std::string lower = text;
  for (char &c : lower)
    c = static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
  if (lower == "all-linear") // PEFT ignores its case
    text = lower;
  if (text.empty())
    fields.fail(field, "is an empty string");
  return ModuleSelection::ofExpression(text);
}

template <typename T>
std::vector<std::pair<std::string, T>>
readPattern(const OrderedJson &json, const std::string &what,
            const std::string &field, FieldReader &fields) {
  std::vector<std::pair<std::string, T>> result;
  const auto at = json.find(field);
  if (at == json.end() || at->is_null())
    return result;
  if (!at->is_object()) {
    fields.fail(field, "must be an object, not " + describe(Json(*at)));
    return result;
  }
  for (const auto &[key, value] : at->items()) {
    // A FieldReader over this one entry checks type and range.
    const Json entry = {{key, Json(value)}};
    FieldReader inner(entry, what + ": " + field);
    T number;
    if constexpr (std::is_integral_v<T>)
      number = inner.integer(key, 1, 1, maximumRank);
    else
      number = inner.number(key, 1, smallestAlpha, largestAlpha);
    fields.take(inner.status());
    result.emplace_back(key, number);
  }
  return result;
}

LoraBias readBias(FieldReader &fields) {
  const std::string bias = fields.text("bias", "none");
  for (LoraBias value : {LoraBias::none, LoraBias::all, LoraBias::loraOnly})
    if (bias == name(value))
      return value;
  fields.unsupported("bias", bias, "none, all, lora_only");
  return LoraBias::none;
}

LoraInit readInit(FieldReader &fields, int64_t &iterations) {
  const Json *value = fields.get("init_lora_weights");
  if (!value || *value == true)
    return LoraInit::kaiming;
  if (*value == "gaussian")
    return LoraInit::gaussian;
  if (*value == "olora")
    return LoraInit::olora;
  if (*value == false)
    return LoraInit::random;
  constexpr std::string_view several = "pissa_niter_";
  std::string text = value->is_string() ? value->get<std::string>() : "";
  if (text == "pissa")
    return LoraInit::pissa;
  if (text.starts_with(several)) {
    const char *begin = text.data() + several.size();
    const char *last = text.data() + text.size();
    auto [end, error] = std::from_chars(begin, last, iterations);
    if (error == std::errc() && end == last && iterations > 0 &&
        iterations <= 1000)
      return LoraInit::pissa;
  }
  fields.unsupported("init_lora_weights", *value,
                     "true, false, \"gaussian\", \"pissa\", "
                     "\"pissa_niter_N\", \"olora\"");
  return LoraInit::kaiming;
}

/// The combinations that PEFT refuses, too. (It also refuses all-linear with
/// layers; here that has a meaning, and what is written for PEFT in the end
/// lists the names.)
void checkLayers(const AdapterConfig &config, FieldReader &fields) {
  const bool expression =
      config.targetModules.kind == ModuleSelection::Kind::expression &&
      !config.targetModules.allLinear();
  if (expression && !config.layersToTransform.empty())
    fields.fail("layers_to_transform",
                "cannot be used while target_modules is a string; list the "
                "modules' names, or put the layers into the expression");
  if (expression && !config.layersPattern.empty())
    fields.fail("layers_pattern",
                "cannot be used while target_modules is a string");
  if (!config.layersPattern.empty() && config.layersToTransform.empty())
    fields.fail("layers_pattern", "does nothing without layers_to_transform");
}

void checkKind(FieldReader &fields) {
  const std::string kind = fields.text("peft_type", "");
  if (kind.empty())
    fields.fail("peft_type", "is missing; supported: LORA");
  else if (kind != "LORA")
    fields.unsupported("peft_type", kind, "LORA");
  const std::string task = fields.text("task_type", "");
  if (!task.empty() && task != "CAUSAL_LM")
    fields.unsupported("task_type", task, "CAUSAL_LM");
}

} // namespace

double AdapterConfig::scale(int64_t moduleRank, double moduleAlpha) const {
  const double size = static_cast<double>(moduleRank);
  return moduleAlpha / (rsLora ? std::sqrt(size) : size);
}

std::string peft::conflictIn(const AdapterConfig &config) {
  if (!startsFromWeights(config.init))
    return {};
  std::string start = config.init == LoraInit::pissa ? "pissa" : "olora";
  if (config.dora)
    return start + " with DoRA is not in this version; take one of them";
  if (config.dropout > 0)
    return start + " with dropout is not in this version: the pair that takes "
                   "the start off again must not be dropped; take dropout 0";
  if (config.rsLora &&
      (!config.rankPattern.empty() || !config.alphaPattern.empty()))
    return start + " with rsLoRA and rank_pattern or alpha_pattern cannot be "
                   "saved as a plain adapter: PEFT's form of twice the rank "
                   "would have another scale; leave one of them out";
  return {};
}

AdapterConfig peft::convertedConfig(AdapterConfig config) {
  if (!startsFromWeights(config.init))
    return config;
  config.init = LoraInit::kaiming;
  config.pissaIterations = 0;
  config.rank *= 2;
  config.alpha *= config.rsLora ? std::sqrt(2.0) : 2.0;
  for (auto &[key, rank] : config.rankPattern)
    rank *= 2;
  for (auto &[key, alpha] : config.alphaPattern)
    alpha *= 2;
  return config;
}

std::vector<std::string>
peft::defaultTargetModules(std::string_view modelType) {
  for (const char *known :
       {"llama", "mistral", "qwen2", "qwen3", "gemma2", "gemma3_text"})
    if (modelType == known)
      return {"q_proj", "v_proj"};
  return {};
}

std::string_view peft::name(LoraBias bias) {
  switch (bias) {
  case LoraBias::none:
    return "none";
  case LoraBias::all:
    return "all";
  case LoraBias::loraOnly:
    return "lora_only";
  }
  return "?";
}

Expected<AdapterConfig> peft::parseAdapterConfig(std::string_view text,
                                                 const std::string &what) {
  PEFT_ASSIGN(const OrderedJson ordered, parseOrderedJson(text, what));
  PEFT_ASSIGN(const Json json, parseJson(text, what));
  if (!json.is_object())
    return badInput(what + ": must hold a JSON object, not " + describe(json));
  FieldReader fields(json, what);
  AdapterConfig config;
  checkKind(fields);
  config.rank = fields.integer("r", 8, 1, maximumRank);
  config.alpha = fields.number("lora_alpha", 8, smallestAlpha, largestAlpha);
  config.dropout = fields.number("lora_dropout", 0, 0, 1);
  if (config.dropout == 1)
    fields.fail("lora_dropout", "is 1, which drops everything");
  else if (config.dropout > largestDropout)
    fields.fail("lora_dropout", "must be at most 0.999");
  config.targetModules = readSelection(fields, "target_modules");
  config.excludeModules = readSelection(fields, "exclude_modules");
  config.layersToTransform =
      fields.integers("layers_to_transform", 0, INT32_MAX);
  config.layersPattern = fields.texts("layers_pattern");
  config.rankPattern =
      readPattern<int64_t>(ordered, what, "rank_pattern", fields);
  config.alphaPattern =
      readPattern<double>(ordered, what, "alpha_pattern", fields);
  config.bias = readBias(fields);
  config.rsLora = fields.boolean("use_rslora", false);
  config.dora = fields.boolean("use_dora", false);
  config.init = readInit(fields, config.pissaIterations);
  config.loraBias = fields.boolean("lora_bias", false);
  config.modulesToSave = fields.texts("modules_to_save");
  config.taskType = fields.text("task_type", "");
  config.baseModelName = fields.text("base_model_name_or_path", "");
  config.revision = fields.text("revision", "");
  config.inferenceMode = fields.boolean("inference_mode", false);
  checkLayers(config, fields);
  if (std::string conflict = conflictIn(config); !conflict.empty())
    fields.fail("init_lora_weights", conflict);
  checkOtherFields(json, fields);
  if (!fields.status().ok())
    return fields.status();
  return config;
}
