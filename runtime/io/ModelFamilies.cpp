//===- ModelFamilies.cpp - class defaults by model_type -------------------===//
#include "ModelFamilies.h"

using namespace peft;

namespace {

using Sliding = ModelFamily::Sliding;

ModelFamily gemma2() {
  return {.modelType = "gemma2",
          .architecture = "Gemma2ForCausalLM",
          .vocab = 256000,
          .hidden = 2304,
          .intermediate = 9216,
          .layers = 26,
          .heads = 8,
          .kvHeads = 4,
          .headDim = 256,
          .maxPositions = 8192,
          .tied = true,
          .attentionBiasField = true,
          .activation = Activation::geluTanh,
          .gemma = true,
          .attentionSoftcap = 50,
          .logitSoftcap = 30,
          .sliding = Sliding::periodic,
          .period = 2,
          .beginToken = 2,
          .endToken = 1,
          .padToken = 0,
          .reads = {"hidden_act", "hidden_activation", "query_pre_attn_scalar",
                    "attn_logit_softcapping", "final_logit_softcapping"}};
}

/// Attention has no soft cap whatever the config says, so it must say none.
ModelFamily gemma3Text() {
  ModelFamily family = gemma2();
  family.modelType = "gemma3_text";
  family.architecture = "Gemma3ForCausalLM";
  family.vocab = 262208;
  family.maxPositions = 131072;
  family.qkNorm = true;
  family.attentionSoftcap = family.logitSoftcap = std::nullopt;
  family.period = 6;
  family.slidingPatternField = true;
  family.rope = {.theta = 1e6, .localTheta = 1e4};
  family.reads = {"hidden_act", "hidden_activation", "query_pre_attn_scalar",
                  "final_logit_softcapping"};
  return family;
}

/// With images, of which the text model is used. Its logits have no soft cap.
ModelFamily gemma3() {
  ModelFamily family = gemma3Text();
  family.modelType = "gemma3";
  family.architecture = "Gemma3ForConditionalGeneration";
  family.reads = {"hidden_act", "hidden_activation", "query_pre_attn_scalar",
                  "text_config", "vision_config"};
  family.textModelType = "gemma3_text";
  family.textArchitecture = "Gemma3ForCausalLM";
  return family;
}

const std::vector<ModelFamily> &families() {
  static const std::vector<ModelFamily> all = {
      {.modelType = "llama",
       .architecture = "LlamaForCausalLM",
       .vocab = 32000,
       .intermediate = 11008,
       .maxPositions = 2048,
       .attentionBiasField = true,
       .mlpBiasField = true,
       .sliding = Sliding::never,
       .beginToken = 1,
       .endToken = 2},
      {.modelType = "mistral",
       .architecture = "MistralForCausalLM",
       .vocab = 32000,
       .intermediate = 14336,
       .kvHeads = 8,
       .maxPositions = 131072,
       .sliding = Sliding::always,
       .beginToken = 1,
       .endToken = 2},
      {.modelType = "qwen2",
       .architecture = "Qwen2ForCausalLM",
       .vocab = 151936,
       .intermediate = 22016,
       .kvHeads = 32,
       .maxPositions = 32768,
       .qkvBias = true,
       .sliding = Sliding::byLayer},
      {.modelType = "qwen3",
       .architecture = "Qwen3ForCausalLM",
       .vocab = 151936,
       .intermediate = 22016,
       .kvHeads = 32,
       .headDim = 128,
       .maxPositions = 32768,
       .attentionBiasField = true,
       .qkNorm = true,
       .sliding = Sliding::byLayer},
      gemma2(),
      gemma3Text(),
      gemma3(),
      {.modelType = "phi3",
       .architecture = "Phi3ForCausalLM",
       .vocab = 32064,
       .hidden = 3072,
       .intermediate = 8192,
       .maxPositions = 4096,
       .rmsEpsilon = 1e-5,
       .sliding = Sliding::always,
       .window = 0,
       .rope = {.longrope = true, .partial = true},
       .beginToken = 1,
       .endToken = 32000,
       .padToken = 32000,
       .reads = {"partial_rotary_factor"}},
  };
  return all;
}

} // namespace

std::span<const ModelFamily> peft::modelFamilies() { return families(); }
