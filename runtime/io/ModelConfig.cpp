//===- ModelConfig.cpp - config.json, normalised --------------------------===//
#include "peft/ModelConfig.h"
#include "FieldReader.h"
#include "QuantizationConfig.h"
#include "RopeConfig.h"
#include "peft/File.h"
#include "peft/ModelDirectory.h"

#include <algorithm>
#include <optional>

using namespace peft;
using Json = nlohmann::json;

namespace {

constexpr uint64_t maximumConfigBytes = 16 << 20;
constexpr int64_t maximumWindow = 1ll << 32;
constexpr int64_t maximumHeadDim = 512; ///< of the attention kernels

/// The class defaults of one family: transformers leaves a field out when it
/// has them. 4.x and 5.x agree on all of these.
struct Family {
  const char *modelType;
  const char *architecture;
  int64_t vocab;
  int64_t intermediate;
  int64_t maxPositions;
  std::optional<int64_t> kvHeads; ///< absent: as many as heads
  std::optional<int64_t> headDim; ///< absent: hidden / heads
  bool qkvBias;                   ///< always; else `attention_bias` decides
  bool attentionBiasField;
  bool mlpBiasField;
  bool qkNorm;
  enum class Sliding { never, always, byLayer } sliding;
  std::optional<int64_t> beginToken, endToken;
};

const Family families[] = {
    {.modelType = "llama",
     .architecture = "LlamaForCausalLM",
     .vocab = 32000,
     .intermediate = 11008,
     .maxPositions = 2048,
     .kvHeads = std::nullopt,
     .headDim = std::nullopt,
     .qkvBias = false,
     .attentionBiasField = true,
     .mlpBiasField = true,
     .qkNorm = false,
     .sliding = Family::Sliding::never,
     .beginToken = 1,
     .endToken = 2},
    {.modelType = "mistral",
     .architecture = "MistralForCausalLM",
     .vocab = 32000,
     .intermediate = 14336,
     .maxPositions = 131072,
     .kvHeads = 8,
     .headDim = std::nullopt,
     .qkvBias = false,
     .attentionBiasField = false,
     .mlpBiasField = false,
     .qkNorm = false,
     .sliding = Family::Sliding::always,
     .beginToken = 1,
     .endToken = 2},
    {.modelType = "qwen2",
     .architecture = "Qwen2ForCausalLM",
     .vocab = 151936,
     .intermediate = 22016,
     .maxPositions = 32768,
     .kvHeads = 32,
     .headDim = std::nullopt,
     .qkvBias = true,
     .attentionBiasField = false,
     .mlpBiasField = false,
     .qkNorm = false,
     .sliding = Family::Sliding::byLayer,
     .beginToken = std::nullopt,
     .endToken = std::nullopt},
    {.modelType = "qwen3",
     .architecture = "Qwen3ForCausalLM",
     .vocab = 151936,
     .intermediate = 22016,
     .maxPositions = 32768,
     .kvHeads = 32,
     .headDim = 128,
     .qkvBias = false,
     .attentionBiasField = true,
     .mlpBiasField = false,
     .qkNorm = true,
     .sliding = Family::Sliding::byLayer,
     .beginToken = std::nullopt,
     .endToken = std::nullopt},
};

/// Fields that change the arithmetic, of these families or of others, and the
/// one value (besides null, and besides nothing at all) that does not.
struct Neutral {
  const char *field;
  Json value;
  const char *supported;
};

const std::vector<Neutral> &neutralFields() {
  static const std::vector<Neutral> fields = {
      {"hidden_act", "silu", "silu"},
      {"hidden_activation", "silu", "silu"},
      {"pretraining_tp", 1, "1"},
      {"partial_rotary_factor", 1, "1"},
      {"rope_interleaved", false, "false"},
      {"attention_dropout", 0, "0"},
      {"hidden_dropout", 0, "0"},
      {"resid_pdrop", 0, "0"},
      {"embd_pdrop", 0, "0"},
      {"num_experts", 0, "dense models"},
      {"num_local_experts", 0, "dense models"},
      {"n_routed_experts", 0, "dense models"},
      {"attn_logit_softcapping", 0, "no soft cap"},
      {"final_logit_softcapping", 0, "no soft cap"},
      {"logit_softcapping", 0, "no soft cap"},
      {"query_pre_attn_scalar", 0, "scores scaled by the head dimension"},
      {"attention_multiplier", 1, "1"},
      {"residual_multiplier", 1, "1"},
      {"embedding_multiplier", 1, "1"},
      {"logits_scaling", 1, "1"},
      {"logit_scale", 1, "1"},
      {"attention_chunk_size", 0, "attention that is not chunked"},
      {"no_rope_layers", Json::array(), "RoPE in every layer"},
      {"pruned_heads", Json::object(), "every head present"},
      {"use_qk_norm", false, "false (qwen3 always normalises q and k)"},
      {"qk_layernorm", false, "false (qwen3 always normalises q and k)"},
      {"clip_qkv", 0, "no clipping"},
      {"alibi", false, "RoPE"},
      {"add_cross_attention", false, "decoders alone"},
      {"is_encoder_decoder", false, "decoders alone"},
      {"text_config", Json::object(), "text models alone"},
      {"vision_config", Json::object(), "text models alone"},
      {"audio_config", Json::object(), "text models alone"},
  };
  return fields;
}

const Family *findFamily(FieldReader &fields) {
  std::string names;
  const std::string type = fields.text("model_type", "");
  for (const Family &family : families) {
    if (type == family.modelType)
      return &family;
    names += (names.empty() ? "" : ", ") + std::string(family.modelType);
  }
  if (fields.isNull("model_type"))
    fields.fail("model_type", "is missing; supported: " + names);
  else
    fields.unsupported("model_type", type, names);
  return nullptr;
}

void checkArchitecture(FieldReader &fields, const Family &family) {
  for (const std::string &name : fields.texts("architectures"))
    if (name != family.architecture)
      fields.unsupported("architectures", name,
                         std::string(family.architecture) + " for model_type " +
                             family.modelType);
}

void checkNeutral(const Json &json, const Family &family, FieldReader &fields) {
  for (const Neutral &neutral : neutralFields()) {
    const auto at = json.find(neutral.field);
    if (at == json.end() || at->is_null() || *at == neutral.value)
      continue;
    if (*at == "swish" && neutral.value == "silu") // the same function
      continue;
    fields.unsupported(neutral.field, *at, neutral.supported);
  }
  // Read by other families only: set here, the weights would have them.
  if (!family.mlpBiasField && fields.boolean("mlp_bias", false))
    fields.unsupported("mlp_bias", true,
                       std::string("false for ") + family.modelType);
  if (!family.attentionBiasField && !family.qkvBias &&
      fields.boolean("attention_bias", false))
    fields.unsupported("attention_bias", true,
                       std::string("false for ") + family.modelType);
}

void readSizes(FieldReader &fields, const Family &family, ModelConfig &config) {
  config.vocab = fields.integer("vocab_size", family.vocab, 1, 1 << 24);
  config.hidden = fields.integer("hidden_size", 4096, 1, 1 << 18);
  config.intermediate =
      fields.integer("intermediate_size", family.intermediate, 1, 1 << 21);
  config.layers = fields.integer("num_hidden_layers", 32, 1, 4096);
  config.heads = fields.integer("num_attention_heads", 32, 1, 4096);
  config.maxPositions = fields.integer("max_position_embeddings",
                                       family.maxPositions, 1, 1ll << 32);
  config.rmsEpsilon = fields.number("rms_norm_eps", 1e-6, 1e-30, 0.1);
  config.kvHeads = family.kvHeads.value_or(config.heads);
  if (fields.get("num_key_value_heads"))
    config.kvHeads = fields.optionalInteger("num_key_value_heads", 1, 4096)
                         .value_or(config.heads);
  if (!fields.status().ok())
    return;
  if (config.heads % config.kvHeads != 0)
    fields.fail("num_key_value_heads",
                std::to_string(config.kvHeads) +
                    " does not divide num_attention_heads, which is " +
                    std::to_string(config.heads));
  std::optional<int64_t> headDim = family.headDim;
  if (fields.get("head_dim"))
    headDim = fields.optionalInteger("head_dim", 2, maximumHeadDim);
  if (!headDim && config.hidden % config.heads != 0)
    fields.fail("hidden_size",
                std::to_string(config.hidden) +
                    " is no multiple of num_attention_heads, which is " +
                    std::to_string(config.heads) + ", and head_dim is not set");
  config.headDim = headDim.value_or(config.hidden / config.heads);
  if (config.headDim % 2 != 0 || config.headDim > maximumHeadDim)
    fields.fail("head_dim", "is " + std::to_string(config.headDim) +
                                "; it must be even and at most " +
                                std::to_string(maximumHeadDim));
}

/// layer_types, checked; empty when the field is not there.
std::vector<std::string> readLayerTypes(FieldReader &fields,
                                        const ModelConfig &config) {
  std::vector<std::string> types = fields.texts("layer_types");
  if (types.empty())
    return types;
  if (types.size() != static_cast<size_t>(config.layers))
    fields.fail("layer_types", "names " + std::to_string(types.size()) +
                                   " layers, but num_hidden_layers is " +
                                   std::to_string(config.layers));
  for (const std::string &type : types)
    if (type != "full_attention" && type != "sliding_attention")
      fields.unsupported("layer_types", type,
                         "full_attention, sliding_attention");
  return types;
}

void readWindows(FieldReader &fields, const Family &family,
                 ModelConfig &config) {
  const auto layers = static_cast<size_t>(config.layers);
  config.slidingWindow.assign(layers, 0);
  const std::vector<std::string> types = readLayerTypes(fields, config);
  int64_t window = 0;
  if (family.sliding != Family::Sliding::never) {
    const std::optional<int64_t> given =
        fields.optionalInteger("sliding_window", 1, maximumWindow);
    window = fields.get("sliding_window") ? given.value_or(0) : 4096;
    // No row is as long as that; plans hold windows of 31 bits.
    window = std::min<int64_t>(window, INT32_MAX);
  }
  int64_t first = 0; // the first layer that slides
  if (family.sliding == Family::Sliding::byLayer) {
    if (!fields.boolean("use_sliding_window", false))
      window = 0;
    first = fields.integer("max_window_layers", 28, 0, 1 << 20);
  }
  if (!fields.status().ok())
    return;
  for (size_t i = 0; i < layers; ++i) {
    bool slides = window != 0 && static_cast<int64_t>(i) >= first;
    if (!types.empty()) {
      const bool named = types[i] == "sliding_attention";
      const bool free = family.sliding == Family::Sliding::byLayer;
      if (named != slides && (!free || window == 0))
        return fields.fail("layer_types",
                           "layer " + std::to_string(i) + " is " + types[i] +
                               ", but sliding_window and model_type " +
                               family.modelType + " say otherwise");
      slides = named;
    }
    config.slidingWindow[i] = slides ? window : 0;
  }
}

std::optional<DType> storedType(FieldReader &fields) {
  std::string text = fields.text("dtype", fields.text("torch_dtype", ""));
  if (text.starts_with("torch."))
    text = text.substr(6);
  if (text == "float32")
    return DType::f32;
  if (text == "bfloat16")
    return DType::bf16;
  if (text == "float16")
    return DType::f16;
  return std::nullopt;
}

/// The pad id, which is also the row of the embedding that gets no gradient:
/// torch counts a negative one from the end and refuses one that is no row.
void readPadToken(FieldReader &fields, ModelConfig &config) {
  config.padTokenId =
      fields.optionalInteger("pad_token_id", -config.vocab, config.vocab - 1);
  if (config.padTokenId && *config.padTokenId < 0)
    *config.padTokenId += config.vocab;
}

/// Ids below 0 are an old way to say "none".
void readTokens(FieldReader &fields, ModelConfig &config) {
  const int64_t low = INT32_MIN, high = INT32_MAX;
  const auto one = [&](const char *field, std::optional<int64_t> &result) {
    if (!fields.get(field))
      return;
    result = fields.optionalInteger(field, low, high);
    if (result && *result < 0)
      result.reset();
  };
  one("pad_token_id", config.padTokenId);
  one("bos_token_id", config.bosTokenId);
  if (fields.get("eos_token_id")) {
    config.eosTokenIds = fields.integers("eos_token_id", low, high);
    std::erase_if(config.eosTokenIds, [](int64_t id) { return id < 0; });
  }
}

} // namespace

Expected<ModelConfig> peft::parseModelConfig(std::string_view text,
                                             const std::string &what) {
  PEFT_ASSIGN(const Json json, parseJson(text, what));
  if (!json.is_object())
    return badInput(what + ": must hold a JSON object, not " + describe(json));
  FieldReader fields(json, what);
  const Family *family = findFamily(fields);
  if (!family)
    return fields.status();
  ModelConfig config;
  config.modelType = family->modelType;
  config.architecture = family->architecture;
  checkArchitecture(fields, *family);
  checkNeutral(json, *family, fields);
  readQuantization(json, what, fields, config);
  readSizes(fields, *family, config);
  if (!fields.status().ok())
    return fields.status();

  config.qkNorm = family->qkNorm;
  config.qkvBias = family->qkvBias;
  if (family->attentionBiasField)
    config.qkvBias = config.outputBias =
        fields.boolean("attention_bias", false);
  if (family->mlpBiasField)
    config.mlpBias = fields.boolean("mlp_bias", false);
  config.tied = fields.boolean("tie_word_embeddings", false);
  config.dtype = storedType(fields);
  config.bosTokenId = family->beginToken;
  if (family->endToken)
    config.eosTokenIds = {*family->endToken};
  readTokens(fields, config);
  readPadToken(fields, config);
  readWindows(fields, *family, config);
  readRope(json, what, fields, config);
  if (!fields.status().ok())
    return fields.status();
  return config;
}

Status peft::applyGenerationConfig(std::string_view text,
                                   const std::string &what,
                                   ModelConfig &config) {
  PEFT_ASSIGN(const Json json, parseJson(text, what));
  if (!json.is_object())
    return badInput(what + ": must hold a JSON object, not " + describe(json));
  FieldReader fields(json, what);
  ModelConfig stated;
  readTokens(fields, stated);
  PEFT_TRY(fields.status());
  if (!stated.eosTokenIds.empty())
    config.eosTokenIds = stated.eosTokenIds;
  if (stated.bosTokenId)
    config.bosTokenId = stated.bosTokenId;
  if (stated.padTokenId)
    config.padTokenId = stated.padTokenId;
  return Status();
}

Expected<ModelConfig> peft::readModelConfig(const ModelDirectory &model) {
  PEFT_ASSIGN(const std::string text,
              readFile(model.configPath, maximumConfigBytes));
  PEFT_ASSIGN(ModelConfig config, parseModelConfig(text, model.configPath));
  if (model.generationConfigPath.empty())
    return config;
  PEFT_ASSIGN(const std::string generation,
              readFile(model.generationConfigPath, maximumConfigBytes));
  PEFT_TRY(
      applyGenerationConfig(generation, model.generationConfigPath, config));
  return config;
}
