//===- ModelConfig.cpp - config.json, normalised --------------------------===//
#include "peft/ModelConfig.h"
#include "FieldReader.h"
#include "QuantizationConfig.h"
#include "ModelFamilies.h"
#include "RopeConfig.h"
#include "peft/File.h"
#include "peft/ModelDirectory.h"

#include <algorithm>
#include <cmath>
#include <optional>

using namespace peft;
using Json = nlohmann::json;

namespace {

constexpr uint64_t maximumConfigBytes = 16 << 20;
constexpr int64_t maximumWindow = 1ll << 32;
constexpr int64_t maximumHeadDim = 512; ///< of the attention kernels

/// Fields that change the arithmetic, of these families or of others, and the
/// one value (besides null, and besides nothing at all) that does not. A family
/// reads some of them itself.
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
      {"use_bidirectional_attention", false, "causal attention"},
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

const ModelFamily *findFamily(FieldReader &fields) {
  std::string names;
  const std::string type = fields.text("model_type", "");
  for (const ModelFamily &family : modelFamilies()) {
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

void checkArchitecture(FieldReader &fields, const ModelFamily &family) {
  for (const std::string &name : fields.texts("architectures"))
    if (name != family.architecture)
      fields.unsupported("architectures", name,
                         std::string(family.architecture) + " for model_type " +
                             family.modelType);
}

void checkNeutral(const Json &json, const ModelFamily &family, FieldReader &fields) {
  for (const Neutral &neutral : neutralFields()) {
    const auto at = json.find(neutral.field);
    if (at == json.end() || at->is_null() || *at == neutral.value ||
        std::ranges::find(family.reads, neutral.field) != family.reads.end())
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

void readActivation(FieldReader &fields, const ModelFamily &family,
                    ModelConfig &config) {
  config.activation = family.activation;
  // The older hidden_act stands in gemma's files, too, and is read by nobody.
  const char *gelu = "gelu_pytorch_tanh";
  if (family.activation == Activation::geluTanh)
    if (const std::string name = fields.text("hidden_activation", gelu);
        name != gelu)
      fields.unsupported("hidden_activation", name, gelu);
}

/// A soft cap of scores or logits; 0 is none.
double readCap(FieldReader &fields, const char *field,
               std::optional<double> byDefault) {
  if (const Json *value = fields.get(field); value && value->is_null())
    return 0;
  return fields.get(field) ? fields.number(field, 0, 1e-3, 1e6)
                           : byDefault.value_or(0);
}

/// What gemma's layers do otherwise than llama's.
void readGemma(FieldReader &fields, const ModelFamily &family,
               ModelConfig &config) {
  config.attentionScale = 1 / std::sqrt(static_cast<double>(config.headDim));
  if (!family.gemma)
    return;
  config.normOffset = 1;
  config.embeddingScale = std::sqrt(static_cast<double>(config.hidden));
  config.attentionScale =
      1 / std::sqrt(fields.number("query_pre_attn_scalar", 256, 1e-6, 1e9));
  const auto reads = [&](const char *field) {
    return std::ranges::find(family.reads, field) != family.reads.end();
  };
  if (reads("attn_logit_softcapping"))
    config.attentionSoftcap =
        readCap(fields, "attn_logit_softcapping", family.attentionSoftcap);
  if (reads("final_logit_softcapping"))
    config.logitSoftcap =
        readCap(fields, "final_logit_softcapping", family.logitSoftcap);
}

void readSizes(FieldReader &fields, const ModelFamily &family, ModelConfig &config) {
  config.vocab = fields.integer("vocab_size", family.vocab, 1, 1 << 24);
  config.hidden = fields.integer("hidden_size", family.hidden, 1, 1 << 18);
  config.intermediate =
      fields.integer("intermediate_size", family.intermediate, 1, 1 << 21);
  config.layers = fields.integer("num_hidden_layers", family.layers, 1, 4096);
  config.heads = fields.integer("num_attention_heads", family.heads, 1, 4096);
  config.maxPositions = fields.integer("max_position_embeddings",
                                       family.maxPositions, 1, 1ll << 32);
  config.rmsEpsilon = fields.number("rms_norm_eps", family.rmsEpsilon, 1e-30, 0.1);
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

/// The window of the layers that slide; 0: none does.
int64_t readWindow(FieldReader &fields, const ModelFamily &family) {
  if (family.sliding == ModelFamily::Sliding::never)
    return 0;
  const std::optional<int64_t> given =
      fields.optionalInteger("sliding_window", 1, maximumWindow);
  const int64_t window =
      fields.get("sliding_window") ? given.value_or(0) : family.window;
  // The name it had in the first gemma2 files, which carry both.
  const std::optional<int64_t> older =
      family.gemma
          ? fields.optionalInteger("sliding_window_size", 1, maximumWindow)
          : std::nullopt;
  if (older && *older != window)
    fields.fail("sliding_window_size",
                "is " + std::to_string(*older) + ", but sliding_window is " +
                    (window ? std::to_string(window) : "none") +
                    "; transformers reads the latter alone");
  // No row is as long as that; plans hold windows of 31 bits.
  return std::min<int64_t>(window, INT32_MAX);
}

void readWindows(FieldReader &fields, const ModelFamily &family,
                 ModelConfig &config) {
  using Sliding = ModelFamily::Sliding;
  const auto layers = static_cast<size_t>(config.layers);
  config.slidingWindow.assign(layers, 0);
  const std::vector<std::string> types = readLayerTypes(fields, config);
  int64_t window = readWindow(fields, family);
  int64_t first = 0;  // the first layer that slides
  int64_t period = 0; // every period-th layer does not
  if (family.sliding == Sliding::byLayer) {
    if (!fields.boolean("use_sliding_window", false))
      window = 0;
    first = fields.integer("max_window_layers", 28, 0, 1 << 20);
  }
  if (family.sliding == Sliding::periodic)
    period = family.slidingPatternField
                 ? fields.integer("sliding_window_pattern", family.period, 1,
                                  1 << 20)
                 : family.period;
  if (!fields.status().ok())
    return;
  for (size_t i = 0; i < layers; ++i) {
    const auto layer = static_cast<int64_t>(i);
    bool slides = window != 0 && layer >= first;
    if (period)
      slides = (layer + 1) % period != 0;
    if (!types.empty()) {
      const bool named = types[i] == "sliding_attention";
      const bool free = period || (family.sliding == Sliding::byLayer &&
                                   window != 0);
      if (named != slides && !free)
        return fields.fail("layer_types",
                           "layer " + std::to_string(i) + " is " + types[i] +
                               ", but sliding_window and model_type " +
                               family.modelType + " say otherwise");
      slides = named;
    }
    if (slides && !window)
      return fields.fail("sliding_window", "is null, but layer " +
                                               std::to_string(i) + " slides");
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
void readPadToken(FieldReader &fields, const ModelFamily &family,
                  ModelConfig &config) {
  if (fields.get("pad_token_id"))
    config.padTokenId =
        fields.optionalInteger("pad_token_id", -config.vocab, config.vocab - 1);
  else if (family.padToken && *family.padToken >= config.vocab)
    fields.fail("pad_token_id", "is missing, and the default, " +
                                    std::to_string(*family.padToken) +
                                    ", is no token of this vocabulary");
  else
    config.padTokenId = family.padToken;
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

/// The fields of a model of text, which may be part of a larger config.
Expected<ModelConfig> readText(const Json &json, const std::string &what,
                               const ModelFamily &family) {
  FieldReader fields(json, what);
  ModelConfig config;
  config.modelType = family.modelType;
  config.architecture = family.architecture;
  checkArchitecture(fields, family);
  checkNeutral(json, family, fields);
  readQuantization(json, what, fields, config);
  readSizes(fields, family, config);
  if (!fields.status().ok())
    return fields.status();

  readActivation(fields, family, config);
  readGemma(fields, family, config);
  config.qkNorm = family.qkNorm;
  config.qkvBias = family.qkvBias;
  if (family.attentionBiasField)
    config.qkvBias = config.outputBias =
        fields.boolean("attention_bias", false);
  if (family.mlpBiasField)
    config.mlpBias = fields.boolean("mlp_bias", false);
  config.tied = fields.boolean("tie_word_embeddings", family.tied);
  config.dtype = storedType(fields);
  config.bosTokenId = family.beginToken;
  if (family.endToken)
    config.eosTokenIds = {*family.endToken};
  readTokens(fields, config);
  readPadToken(fields, family, config);
  readWindows(fields, family, config);
  readRope(json, what, family.rope, fields, config);
  if (!fields.status().ok())
    return fields.status();
  return config;
}

/// A model of images and text: its text_config, and what stands outside.
Expected<ModelConfig> readNested(const Json &json, const std::string &what,
                                 const ModelFamily &family) {
  FieldReader fields(json, what);
  checkArchitecture(fields, family);
  checkNeutral(json, family, fields);
  const Json none = Json::object();
  const Json *text = fields.get("text_config");
  if (!text || text->is_null())
    text = &none;
  if (!text->is_object())
    fields.fail("text_config", "must be an object, not " + describe(*text));
  if (!fields.status().ok())
    return fields.status();
  FieldReader inner(*text, what + ": text_config");
  const std::string type = inner.text("model_type", family.textModelType);
  if (type != family.textModelType)
    inner.unsupported("model_type", type, family.textModelType);
  PEFT_TRY(inner.status());
  ModelFamily nested = family;
  nested.architecture = family.textArchitecture;
  PEFT_ASSIGN(ModelConfig config,
              readText(*text, what + ": text_config", nested));
  config.architecture = family.architecture;
  readQuantization(json, what, fields, config);
  if (fields.boolean("tie_word_embeddings", family.tied) != config.tied)
    fields.fail("tie_word_embeddings", "differs from that of text_config");
  if (const std::optional<DType> stored = storedType(fields))
    config.dtype = stored;
  ModelConfig outer;
  readTokens(fields, outer);
  if (!outer.eosTokenIds.empty())
    config.eosTokenIds = outer.eosTokenIds;
  PEFT_TRY(fields.status());
  return config;
}

} // namespace

Expected<ModelConfig> peft::parseModelConfig(std::string_view text,
                                             const std::string &what) {
  PEFT_ASSIGN(const Json json, parseJson(text, what));
  if (!json.is_object())
    return badInput(what + ": must hold a JSON object, not " + describe(json));
  FieldReader fields(json, what);
  const ModelFamily *family = findFamily(fields);
  if (!family)
    return fields.status();
  return family->textModelType ? readNested(json, what, *family)
                               : readText(json, what, *family);
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
