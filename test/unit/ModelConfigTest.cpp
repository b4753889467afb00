//===- ModelConfigTest.cpp - config.json of transformers 4 and 5 ----------===//
#include "peft/ModelConfig.h"
#include "TemporaryFiles.h"
#include "peft/ModelDirectory.h"

#include <cmath>

using namespace peft;

namespace {

Expected<ModelConfig> parse(std::string_view text) {
  return parseModelConfig(text, "config.json");
}

ModelConfig parsed(std::string_view text) {
  Expected<ModelConfig> config = parse(text);
  EXPECT_TRUE(config.ok()) << config.status().message();
  return config.ok() ? *config : ModelConfig();
}

/// The class defaults, as `XConfig().to_dict()` of transformers gives them.
TEST(ModelConfig, ClassDefaults) {
  const struct {
    const char *type;
    int64_t vocab, intermediate, kvHeads, maxPositions, window;
    bool qkvBias, qkNorm;
    size_t eosTokens;
  } families[] = {
      {"llama", 32000, 11008, 32, 2048, 0, false, false, 1},
      {"mistral", 32000, 14336, 8, 131072, 4096, false, false, 1},
      {"qwen2", 151936, 22016, 32, 32768, 0, true, false, 0},
      {"qwen3", 151936, 22016, 32, 32768, 0, false, true, 0},
  };
  for (const auto &family : families) {
    SCOPED_TRACE(family.type);
    const ModelConfig config =
        parsed(std::string("{\"model_type\": \"") + family.type + "\"}");
    EXPECT_EQ(config.vocab, family.vocab);
    EXPECT_EQ(config.hidden, 4096);
    EXPECT_EQ(config.intermediate, family.intermediate);
    EXPECT_EQ(config.layers, 32);
    EXPECT_EQ(config.heads, 32);
    EXPECT_EQ(config.kvHeads, family.kvHeads);
    EXPECT_EQ(config.headDim, 128);
    EXPECT_EQ(config.rmsEpsilon, 1e-6);
    EXPECT_EQ(config.maxPositions, family.maxPositions);
    EXPECT_EQ(config.qkvBias, family.qkvBias);
    EXPECT_FALSE(config.outputBias);
    EXPECT_FALSE(config.mlpBias);
    EXPECT_FALSE(config.tied);
    EXPECT_EQ(config.qkNorm, family.qkNorm);
    EXPECT_EQ(config.slidingWindow, std::vector<int64_t>(32, family.window));
    EXPECT_EQ(config.rope.theta, 10000);
    EXPECT_EQ(config.rope.type, RopeType::standard);
    EXPECT_EQ(config.eosTokenIds.size(), family.eosTokens);
  }
}

TEST(ModelConfig, ClassDefaultsOfGemmaAndPhi) {
  const struct {
    const char *type;
    int64_t vocab, hidden, intermediate, layers, heads, kvHeads, headDim,
        maxPositions, padToken;
    double attentionSoftcap, logitSoftcap, normOffset;
    bool tied, qkNorm;
  } families[] = {
      {"gemma2", 256000, 2304, 9216, 26, 8, 4, 256, 8192, 0, 50, 30, 1, true,
       false},
      {"gemma3_text", 262208, 2304, 9216, 26, 8, 4, 256, 131072, 0, 0, 0, 1,
       true, true},
      {"gemma3", 262208, 2304, 9216, 26, 8, 4, 256, 131072, 0, 0, 0, 1, true,
       true},
      {"phi3", 32064, 3072, 8192, 32, 32, 32, 96, 4096, 32000, 0, 0, 0, false,
       false},
  };
  for (const auto &family : families) {
    SCOPED_TRACE(family.type);
    const ModelConfig config =
        parsed(std::string("{\"model_type\": \"") + family.type + "\"}");
    EXPECT_EQ(config.modelType, family.type);
    EXPECT_EQ(config.vocab, family.vocab);
    EXPECT_EQ(config.hidden, family.hidden);
    EXPECT_EQ(config.intermediate, family.intermediate);
    EXPECT_EQ(config.layers, family.layers);
    EXPECT_EQ(config.heads, family.heads);
    EXPECT_EQ(config.kvHeads, family.kvHeads);
    EXPECT_EQ(config.headDim, family.headDim);
    EXPECT_EQ(config.maxPositions, family.maxPositions);
    EXPECT_EQ(config.padTokenId, family.padToken);
    EXPECT_EQ(config.attentionSoftcap, family.attentionSoftcap);
    EXPECT_EQ(config.logitSoftcap, family.logitSoftcap);
    EXPECT_EQ(config.normOffset, family.normOffset);
    EXPECT_EQ(config.embeddingScale, family.normOffset ? 48 : 1);
    EXPECT_EQ(config.attentionScale,
              family.normOffset ? 1.0 / 16 : 1 / std::sqrt(96.0));
    EXPECT_EQ(config.activation, family.normOffset ? Activation::geluTanh
                                                   : Activation::silu);
    EXPECT_EQ(config.rmsEpsilon, family.normOffset ? 1e-6 : 1e-5);
    EXPECT_EQ(config.tied, family.tied);
    EXPECT_EQ(config.qkNorm, family.qkNorm);
    EXPECT_EQ(config.localRope.has_value(), family.qkNorm);
    EXPECT_EQ(config.rope.theta, family.qkNorm ? 1e6 : 1e4);
  }
}

/// gemma-3-4b-it and Phi-4-mini as they lie on the hub, and in the words of
/// transformers 5.
TEST(ModelConfig, GemmaAndPhiOfBothVersions) {
  const ModelConfig four = parsed(R"({"model_type": "gemma3",
      "architectures": ["Gemma3ForConditionalGeneration"],
      "eos_token_id": [1, 106], "mm_tokens_per_image": 256,
      "text_config": {"hidden_size": 2560, "intermediate_size": 10240,
          "model_type": "gemma3_text", "num_hidden_layers": 34,
          "rope_scaling": {"factor": 8.0, "rope_type": "linear"},
          "sliding_window": 1024},
      "torch_dtype": "bfloat16",
      "vision_config": {"hidden_size": 1152, "model_type":
          "siglip_vision_model", "patch_size": 14}})");
  EXPECT_EQ(four.layers, 34);
  EXPECT_EQ(four.headDim, 256);
  EXPECT_EQ(four.dtype, DType::bf16);
  EXPECT_EQ(four.eosTokenIds, (std::vector<int64_t>{1, 106}));
  EXPECT_EQ(four.slidingWindow[4], 1024);
  EXPECT_EQ(four.slidingWindow[5], 0); // every sixth layer is global
  EXPECT_EQ(four.rope.type, RopeType::linear);
  ASSERT_TRUE(four.localRope.has_value());
  EXPECT_EQ(four.localRope->theta, 1e4);
  EXPECT_EQ(four.rope.invFreq[0], 0.125f);
  EXPECT_EQ(four.localRope->invFreq[0], 1.0f);
  const ModelConfig five = parsed(R"({"model_type": "gemma3",
      "dtype": "bfloat16", "text_config": {"hidden_size": 2560,
          "intermediate_size": 10240, "num_hidden_layers": 34,
          "sliding_window": 1024, "rope_parameters": {
          "full_attention": {"rope_type": "linear", "factor": 8.0,
                             "rope_theta": 1000000.0},
          "sliding_attention": {"rope_type": "default",
                                "rope_theta": 10000.0}}}})");
  EXPECT_EQ(four.rope.invFreq, five.rope.invFreq);
  EXPECT_EQ(four.localRope->invFreq, five.localRope->invFreq);
  EXPECT_EQ(four.slidingWindow, five.slidingWindow);

  const std::string sizes = R"({"model_type": "phi3", "hidden_size": 64,
      "num_attention_heads": 4, "num_key_value_heads": 2,
      "max_position_embeddings": 131072, "tie_word_embeddings": true,
      "original_max_position_embeddings": 4096, )";
  const std::string lists = R"("short_factor": [1.0, 1.5, 2.0, 3.0],
      "long_factor": [1, 4, 16, 32])";
  const ModelConfig phi = parsed(sizes + R"("partial_rotary_factor": 0.5,
      "rope_scaling": {"type": "longrope", )" + lists + "}}");
  EXPECT_EQ(phi.rope.type, RopeType::longrope);
  ASSERT_EQ(phi.rope.invFreq.size(), 4u);
  ASSERT_EQ(phi.rope.longInvFreq.size(), 4u);
  EXPECT_NEAR(phi.rope.invFreq[1], 1 / (1.5 * std::pow(1e4, 0.25)), 1e-7);
  EXPECT_NEAR(phi.rope.attentionFactor,
              std::sqrt(1 + std::log(32.0) / std::log(4096.0)), 1e-12);
  EXPECT_EQ(phi.rope.originalMaxPositions, 4096);
  for (const char *name : {"su", "yarn"}) {
    const ModelConfig older = parsed(sizes + R"("partial_rotary_factor": 0.5,
        "rope_scaling": {"type": ")" + name + "\", " + lists + "}}");
    EXPECT_EQ(older.rope.longInvFreq, phi.rope.longInvFreq);
  }
  const ModelConfig newer = parsed(
      sizes + R"("rope_parameters": {"rope_type": "longrope",
      "rope_theta": 10000.0, "partial_rotary_factor": 0.5,
      "original_max_position_embeddings": 4096, )" + lists + "}}");
  EXPECT_EQ(newer.rope.invFreq, phi.rope.invFreq);
  EXPECT_EQ(newer.rope.longInvFreq, phi.rope.longInvFreq);
  EXPECT_EQ(newer.rope.attentionFactor, phi.rope.attentionFactor);
}

TEST(ModelConfig, GemmaCapsAndScales) {
  const ModelConfig config = parsed(R"({"model_type": "gemma2",
      "query_pre_attn_scalar": 144, "attn_logit_softcapping": null,
      "final_logit_softcapping": 20.0, "sliding_window_size": 4096,
      "hidden_act": "gelu", "num_hidden_layers": 3})");
  EXPECT_EQ(config.attentionScale, 1.0 / 12);
  EXPECT_EQ(config.attentionSoftcap, 0);
  EXPECT_EQ(config.logitSoftcap, 20);
  EXPECT_EQ(config.slidingWindow, (std::vector<int64_t>{4096, 0, 4096}));
  const ModelConfig three = parsed(R"({"model_type": "gemma3_text",
      "num_hidden_layers": 4, "sliding_window": 8,
      "sliding_window_pattern": 2})");
  EXPECT_EQ(three.slidingWindow, (std::vector<int64_t>{8, 0, 8, 0}));
  const ModelConfig named = parsed(R"({"model_type": "gemma3_text",
      "num_hidden_layers": 2, "sliding_window": 8,
      "layer_types": ["full_attention", "sliding_attention"]})");
  EXPECT_EQ(named.slidingWindow, (std::vector<int64_t>{0, 8}));
}

/// SmolLM2-135M as transformers 4 wrote it.
const char *smolLM2 = R"({
  "architectures": ["LlamaForCausalLM"], "attention_bias": false,
  "attention_dropout": 0.0, "bos_token_id": 1, "eos_token_id": 2,
  "hidden_act": "silu", "hidden_size": 576, "initializer_range": 0.041,
  "intermediate_size": 1536, "is_llama_config": true,
  "max_position_embeddings": 8192, "mlp_bias": false, "model_type": "llama",
  "num_attention_heads": 9, "num_hidden_layers": 30, "num_key_value_heads": 3,
  "pad_token_id": 2, "pretraining_tp": 1, "rms_norm_eps": 1e-05,
  "rope_interleaved": false, "rope_scaling": null, "rope_theta": 100000,
  "tie_word_embeddings": true, "torch_dtype": "bfloat16",
  "transformers.js_config": {"kv_cache_dtype": {"q4f16": "float16"}},
  "transformers_version": "4.42.3", "use_cache": true, "vocab_size": 49152})";

TEST(ModelConfig, SmolLM2) {
  const ModelConfig config = parsed(smolLM2);
  EXPECT_EQ(config.architecture, "LlamaForCausalLM");
  EXPECT_EQ(config.vocab, 49152);
  EXPECT_EQ(config.headDim, 64);
  EXPECT_EQ(config.kvHeads, 3);
  EXPECT_EQ(config.rmsEpsilon, 1e-5);
  EXPECT_TRUE(config.tied);
  EXPECT_EQ(config.dtype, DType::bf16);
  EXPECT_EQ(config.rope.theta, 100000);
  EXPECT_EQ(config.padTokenId, 2);
  EXPECT_EQ(config.eosTokenIds, std::vector<int64_t>{2});
  ASSERT_EQ(config.rope.invFreq.size(), 32u);
  EXPECT_EQ(config.rope.invFreq[0], 1.0f);
}

/// The same arithmetic in the words of transformers 4 and of 5.
TEST(ModelConfig, BothVersionsSayTheSame) {
  const struct {
    const char *four, *five;
  } pairs[] = {
      {R"({"model_type": "llama", "rope_theta": 5e5, "torch_dtype": "float16"})",
       R"({"model_type": "llama", "dtype": "float16",
           "rope_parameters": {"rope_type": "default", "rope_theta": 5e5}})"},
      {R"({"model_type": "llama",
           "rope_scaling": {"type": "linear", "factor": 4}})",
       R"({"model_type": "llama", "rope_parameters":
           {"rope_type": "linear", "factor": 4.0, "rope_theta": 10000.0}})"},
      {R"({"model_type": "llama", "rope_theta": 5e5, "rope_scaling":
           {"rope_type": "llama3", "factor": 8, "low_freq_factor": 1,
            "high_freq_factor": 4, "original_max_position_embeddings": 8192}})",
       R"({"model_type": "llama", "rope_parameters":
           {"rope_type": "llama3", "factor": 8, "low_freq_factor": 1,
            "high_freq_factor": 4, "original_max_position_embeddings": 8192,
            "rope_theta": 500000.0}})"},
      {R"({"model_type": "qwen2", "rope_theta": 1e6})",
       R"({"model_type": "qwen2", "rope_parameters": {"full_attention":
           {"rope_type": "default", "rope_theta": 1e6},
           "sliding_attention": null}})"},
  };
  for (const auto &[four, five] : pairs) {
    SCOPED_TRACE(five);
    const ModelConfig left = parsed(four), right = parsed(five);
    EXPECT_EQ(left.rope.invFreq, right.rope.invFreq);
    EXPECT_EQ(left.rope.type, right.rope.type);
    EXPECT_EQ(left.rope.theta, right.rope.theta);
    EXPECT_EQ(left.dtype, right.dtype);
  }
}

/// Values that torch 2.15 printed for these configs, to one ulp.
TEST(ModelConfig, Frequencies) {
  const std::string base = R"({"model_type": "llama", "head_dim": 8, )";
  const std::string llama3 = base + R"("rope_theta": 500000.0, "rope_scaling":
      {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0,
       "high_freq_factor": 4.0, "original_max_position_embeddings": 256}})";
  const struct {
    std::string config;
    std::vector<float> expected;
  } cases[] = {
      {base + R"("rope_theta": 10000.0})", {1.0f, 0.1f, 0.01f, 0.001f}},
      {base + R"("rope_scaling": {"type": "linear", "factor": 4.0}})",
       {0.25f, 0.025f, 0.0025f, 0.00025f}},
      {llama3, {1.0f, 0.0105382307f, 0.000176776681f, 6.64786967e-06f}},
  };
  for (const auto &[text, expected] : cases) {
    const ModelConfig config = parsed(text);
    ASSERT_EQ(config.rope.invFreq.size(), expected.size());
    for (size_t i = 0; i < expected.size(); ++i)
      EXPECT_NEAR(config.rope.invFreq[i], expected[i],
                  1.2e-7 * std::fabs(expected[i]))
          << text << " " << i;
  }
}

TEST(ModelConfig, SlidingWindows) {
  const std::string qwen = R"({"model_type": "qwen2", "num_hidden_layers": 4,
      "sliding_window": 64, )";
  const struct {
    std::string config;
    std::vector<int64_t> windows;
  } cases[] = {
      {R"({"model_type": "mistral", "num_hidden_layers": 2})", {4096, 4096}},
      {R"({"model_type": "mistral", "num_hidden_layers": 2,
           "sliding_window": null})",
       {0, 0}},
      {R"({"model_type": "mistral", "num_hidden_layers": 1,
           "sliding_window": 4294967296})",
       {INT32_MAX}},
      {R"({"model_type": "mistral", "num_hidden_layers": 2,
           "sliding_window": 8})",
       {8, 8}},
      {R"({"model_type": "llama", "num_hidden_layers": 2,
           "sliding_window": 8})",
       {0, 0}},
      {qwen + R"("max_window_layers": 2})", {0, 0, 0, 0}},
      {qwen + R"("use_sliding_window": true, "max_window_layers": 2})",
       {0, 0, 64, 64}},
      {qwen + R"("use_sliding_window": true})", {0, 0, 0, 0}},
      {qwen + R"("use_sliding_window": true, "layer_types":
           ["sliding_attention", "full_attention", "full_attention",
            "sliding_attention"]})",
       {64, 0, 0, 64}},
      {R"({"model_type": "qwen3", "num_hidden_layers": 2,
           "use_sliding_window": true, "max_window_layers": 1})",
       {0, 4096}},
  };
  for (const auto &[text, windows] : cases) {
    SCOPED_TRACE(text);
    EXPECT_EQ(parsed(text).slidingWindow, windows);
  }
}

TEST(ModelConfig, Biases) {
  const ModelConfig llama = parsed(
      R"({"model_type": "llama", "attention_bias": true, "mlp_bias": true})");
  EXPECT_TRUE(llama.qkvBias && llama.outputBias && llama.mlpBias);
  const ModelConfig qwen2 = parsed(R"({"model_type": "qwen2"})");
  EXPECT_TRUE(qwen2.qkvBias && !qwen2.outputBias && !qwen2.mlpBias);
  const ModelConfig qwen3 =
      parsed(R"({"model_type": "qwen3", "attention_bias": true})");
  EXPECT_TRUE(qwen3.qkvBias && qwen3.outputBias && qwen3.qkNorm);
}

TEST(ModelConfig, HeadsAndTokens) {
  const ModelConfig config = parsed(
      R"({"model_type": "llama", "num_attention_heads": 8, "head_dim": 128,
          "hidden_size": 100, "num_key_value_heads": null,
          "eos_token_id": [5, 6], "pad_token_id": -1, "bos_token_id": null})");
  EXPECT_EQ(config.headDim, 128); // and hidden need not be a multiple
  EXPECT_EQ(config.kvHeads, 8);
  EXPECT_EQ(config.eosTokenIds, (std::vector<int64_t>{5, 6}));
  EXPECT_EQ(config.padTokenId, 31999); // torch counts from the end
  EXPECT_EQ(config.bosTokenId, std::nullopt);
}

TEST(ModelConfig, GenerationConfigNamesTheEnd) {
  ModelConfig config = parsed(R"({"model_type": "llama"})");
  ASSERT_TRUE(
      applyGenerationConfig(R"({"temperature": 0.5})", "g", config).ok());
  EXPECT_EQ(config.eosTokenIds, std::vector<int64_t>{2});
  ASSERT_TRUE(applyGenerationConfig(
                  R"({"eos_token_id": [7, 9], "pad_token_id": 3})", "g", config)
                  .ok());
  EXPECT_EQ(config.eosTokenIds, (std::vector<int64_t>{7, 9}));
  EXPECT_EQ(config.padTokenId, 3);
  EXPECT_EQ(config.bosTokenId, 1);
  EXPECT_TRUE(
      failsWith(applyGenerationConfig(R"({"eos_token_id": "x"})", "g", config),
                Code::badInput, "g: eos_token_id: must be a whole number"));
}

TEST(ModelConfig, ReadsAModelDirectory) {
  TemporaryDirectory folder;
  const std::string path = folder.write("config.json", smolLM2);
  folder.write("generation_config.json", R"({"eos_token_id": [0, 2]})");
  const auto model = openModel(path);
  ASSERT_TRUE(model.ok()) << model.status().message();
  const auto config = readModelConfig(*model);
  ASSERT_TRUE(config.ok()) << config.status().message();
  EXPECT_EQ(config->eosTokenIds, (std::vector<int64_t>{0, 2}));
}

struct Bad {
  const char *fields, *fragment;
};

void expectRefused(const std::string &type, const std::vector<Bad> &cases) {
  for (const Bad &bad : cases) {
    const std::string text =
        "{\"model_type\": \"" + type + "\", " + bad.fields + "}";
    SCOPED_TRACE(text);
    EXPECT_TRUE(failsWith(parse(text).status(), Code::badInput, bad.fragment));
  }
}

TEST(ModelConfig, RefusesWhatChangesTheArithmetic) {
  expectRefused(
      "llama",
      {{R"("architectures": ["LlamaForSequenceClassification"])",
        "architectures: \"LlamaForSequenceClassification\" is not supported; "
        "supported: LlamaForCausalLM"},
       {R"("hidden_act": "gelu")", "hidden_act: \"gelu\" is not supported"},
       {R"("quantization_config": {"quant_method": "gptq"})",
        "quantization_config: quant_method \"gptq\" is not supported"},
       {R"("quantization_config": {"bits": 4})",
        "quantization_config: {\"bits\":4} is not supported"},
       {R"("quantization_config": {"quant_method": "bitsandbytes"})",
        "load_in_4bit: and load_in_8bit are both false"},
       {R"("quantization_config": {"load_in_4bit": true, "load_in_8bit": true})",
        "quantization_config: load_in_4bit: and load_in_8bit are both true"},
       {R"("quantization_config": {"load_in_4bit": true,
            "bnb_4bit_quant_type": "int4"})",
        "bnb_4bit_quant_type: \"int4\" is not supported"},
       {R"("quantization": {"bits": 4})", "quantization: {\"bits\":4}"},
       {R"("pretraining_tp": 2)", "pretraining_tp: 2"},
       {R"("partial_rotary_factor": 0.5)", "partial_rotary_factor: 0.5"},
       {R"("num_experts": 8)", "num_experts: 8"},
       {R"("num_local_experts": 8)", "num_local_experts: 8"},
       {R"("attn_logit_softcapping": 50.0)", "attn_logit_softcapping: 50.0"},
       {R"("attention_dropout": 0.1)", "attention_dropout: 0.1"},
       {R"("rope_interleaved": true)", "rope_interleaved: true"},
       {R"("text_config": {"a": 1})", "text_config"},
       {R"("rope_scaling": {"type": "dynamic", "factor": 2})",
        "rope_scaling: rope_type: \"dynamic\" is not supported; supported: "
        "default, linear, llama3"},
       {R"("rope_scaling": {"rope_type": "yarn", "factor": 2})", "\"yarn\""},
       {R"("rope_parameters": {"rope_type": "longrope"})", "\"longrope\""},
       {R"("rope_parameters": {"partial_rotary_factor": 0.25})",
        "rope_parameters: partial_rotary_factor: 0.25"},
       {R"("rope_parameters": {"rope_theta": 5}, "rope_theta": 6)",
        "differs from the rope_theta outside"},
       {R"("rope_scaling": {"factor": 2})", "rope_type: is missing"},
       {R"("rope_scaling": {"type": "linear"})", "factor: is missing"},
       {R"("rope_scaling": {"type": "llama3", "factor": 8})",
        "low_freq_factor: is missing"},
       {R"("rope_scaling": {"type": "llama3", "factor": 8,
            "low_freq_factor": 4, "high_freq_factor": 4})",
        "must be larger than low_freq_factor"},
       {R"("rope_scaling": [1])", "rope_scaling: must be an object"},
       {R"("layer_types": ["sliding_attention"], "num_hidden_layers": 1)",
        "layer 0 is sliding_attention"}});
  expectRefused("mistral",
                {{R"("attention_bias": true)", "attention_bias: true"},
                 {R"("mlp_bias": true)", "mlp_bias: true"},
                 {R"("layer_types": ["full_attention"],
                      "num_hidden_layers": 1)",
                  "layer 0 is full_attention"}});
  expectRefused(
      "qwen3",
      {{R"("layer_types": ["chunked_attention"], "num_hidden_layers": 1)",
        "layer_types: \"chunked_attention\" is not supported"},
       {R"("layer_types": ["full_attention"], "num_hidden_layers": 2)",
        "names 1 layers, but num_hidden_layers is 2"},
       {R"("layer_types": ["sliding_attention"], "num_hidden_layers": 1)",
        "layer 0 is sliding_attention"},
       {R"("num_hidden_layers": 2, "use_sliding_window": true,
            "max_window_layers": 1, "rope_parameters": {
            "full_attention": {"rope_theta": 1}, "sliding_attention":
            {"rope_theta": 2}})",
        "full_attention and sliding_attention differ"}});
}

TEST(ModelConfig, RefusesOtherGemmasAndPhis) {
  expectRefused(
      "gemma2",
      {{R"("hidden_activation": "gelu")",
        "hidden_activation: \"gelu\" is not supported; supported: "
        "gelu_pytorch_tanh"},
       {R"("query_pre_attn_scalar": 0)", "query_pre_attn_scalar: must be"},
       {R"("attn_logit_softcapping": 0)", "attn_logit_softcapping: must be"},
       {R"("sliding_window_size": 5)",
        "sliding_window_size: is 5, but sliding_window is 4096"},
       {R"("sliding_window": null)",
        "sliding_window: is null, but layer 0 slides"},
       {R"("use_bidirectional_attention": true)",
        "use_bidirectional_attention: true"},
       {R"("partial_rotary_factor": 0.5)", "partial_rotary_factor: 0.5"},
       {R"("vision_config": {"a": 1})", "vision_config"}});
  expectRefused(
      "gemma3_text",
      {{R"("attn_logit_softcapping": 50.0)", "attn_logit_softcapping: 50.0"},
       {R"("rope_parameters": {"rope_type": "default", "rope_theta": 5})",
        "rope_parameters: must be an object of full_attention and"},
       {R"("rope_parameters": {"full_attention": 3})",
        "full_attention must be an object"},
       {R"("rope_parameters": {"sliding_attention": {"rope_theta": 5}},
            "rope_local_base_freq": 6)",
        "differs from the rope_local_base_freq outside"},
       {R"("rope_scaling": {"rope_type": "yarn", "factor": 8})", "\"yarn\""}});
  expectRefused(
      "gemma3",
      {{R"("text_config": [1])", "text_config: must be an object"},
       {R"("text_config": {"model_type": "llama"})",
        "text_config: model_type: \"llama\" is not supported"},
       {R"("text_config": {"final_logit_softcapping": 30.0})",
        "text_config: final_logit_softcapping: 30.0"},
       {R"("text_config": {"tie_word_embeddings": false})",
        "tie_word_embeddings: differs from that of text_config"},
       {R"("text_config": {"hidden_size": 0})",
        "text_config: hidden_size: must be between"}});
  expectRefused(
      "phi3",
      {{R"("partial_rotary_factor": 1.5)", "partial_rotary_factor: must be"},
       {R"("partial_rotary_factor": 0.24)",
        "makes 23 of 96 features rotate"},
       {R"("partial_rotary_factor": 0.5,
            "rope_parameters": {"partial_rotary_factor": 0.75})",
        "differs from the one outside"},
       {R"("rope_scaling": {"type": "linear", "factor": 2})",
        "\"linear\" is not supported; supported: default, longrope"},
       {R"("rope_scaling": {"type": "longrope"})",
        "short_factor: has 0 numbers, needs 48"},
       {R"("rope_scaling": {"type": "longrope", "short_factor": [1, 0]})",
        "short_factor: must be between"},
       {R"("rope_scaling": {"type": "longrope", "short_factor": 3})",
        "short_factor: must be a list of numbers"},
       {R"("rope_scaling": {"type": "longrope", "factor": 3})",
        "factor: is not max_position_embeddings"},
       {R"("vocab_size": 300)", "pad_token_id: is missing, and the default"},
       {R"("attention_bias": true)", "attention_bias: true"}});
}

TEST(ModelConfig, RefusesSizesThatCannotBe) {
  expectRefused(
      "llama",
      {{R"("hidden_size": 0)", "hidden_size: must be between 1 and"},
       {R"("hidden_size": 4096.0)", "must be a whole number, not 4096.0"},
       {R"("hidden_size": "4096")", "must be a whole number, not \"4096\""},
       {R"("hidden_size": null)", "must be a whole number, not null"},
       {R"("vocab_size": 18446744073709551615)", "vocab_size: must be between"},
       {R"("vocab_size": -5)", "vocab_size: must be between"},
       {R"("num_hidden_layers": 1000000)", "num_hidden_layers"},
       {R"("num_attention_heads": 0)", "num_attention_heads"},
       {R"("num_key_value_heads": 5)",
        "5 does not divide num_attention_heads, which is 32"},
       {R"("num_key_value_heads": 64)", "64 does not divide"},
       {R"("head_dim": 7)", "head_dim: is 7; it must be even"},
       {R"("head_dim": 640)", "head_dim: must be between 2 and 512, not 640"},
       {R"("hidden_size": 33)", "33 is no multiple of num_attention_heads"},
       {R"("rms_norm_eps": -1e-6)", "rms_norm_eps: must be between"},
       {R"("rms_norm_eps": "1e-6")", "rms_norm_eps: must be a number"},
       {R"("rope_theta": 0)", "rope_theta: must be between"},
       {R"("tie_word_embeddings": 1)", "must be true or false, not 1"},
       {R"("eos_token_id": [1, true])", "eos_token_id: must be a whole"},
       {R"("pad_token_id": 32000)", "pad_token_id: must be between -32000 and"},
       {R"("architectures": [1])", "architectures: must be a list of strings"},
       {R"("hidden_size": 1, "hidden_size": 2)", "stands twice"}});
}

TEST(ModelConfig, RefusesOtherModels) {
  EXPECT_TRUE(failsWith(
      parse(R"({"model_type": "gpt2"})").status(), Code::badInput,
      "model_type: \"gpt2\" is not supported; supported: llama, mistral, "
      "qwen2, qwen3, gemma2, gemma3_text, gemma3, phi3"));
  EXPECT_TRUE(failsWith(parse("{}").status(), Code::badInput,
                        "model_type: is missing"));
  EXPECT_TRUE(failsWith(parse("[]").status(), Code::badInput,
                        "must hold a JSON object"));
}

TEST(ModelConfig, WhatBitsandbytesQuantized) {
  const auto four = parsed(R"({"model_type": "llama", "quantization_config": {
      "quant_method": "bitsandbytes", "load_in_4bit": true,
      "load_in_8bit": false, "bnb_4bit_quant_type": "nf4",
      "bnb_4bit_use_double_quant": true, "llm_int8_skip_modules": ["lm_head"],
      "bnb_4bit_compute_dtype": "bfloat16", "llm_int8_threshold": 6.0}})");
  ASSERT_TRUE(four.quantization);
  EXPECT_EQ(four.quantization->format, (QuantFormat{DType::nf4, 64, 256}));
  EXPECT_EQ(four.quantization->skipModules, std::vector<std::string>{"lm_head"});
  // The fields of 4 bits stand in configs of 8 bits, too, and mean nothing.
  const auto eight = parsed(R"({"model_type": "llama", "quantization_config": {
      "_load_in_8bit": true, "_load_in_4bit": false, "load_in_4bit": false,
      "load_in_8bit": true, "bnb_4bit_quant_type": "fp4"}})");
  ASSERT_TRUE(eight.quantization);
  EXPECT_EQ(eight.quantization->format, (QuantFormat{DType::i8, 0, 0}));
  const auto plain = parsed(R"({"model_type": "llama",
      "quantization_config": {"load_in_4bit": true}})");
  ASSERT_TRUE(plain.quantization);
  EXPECT_EQ(plain.quantization->format, (QuantFormat{DType::fp4, 64, 0}));
  EXPECT_FALSE(parsed(R"({"model_type": "llama"})").quantization);
}

TEST(ModelConfig, IgnoresWhatCannotMatter) {
  parsed(R"({"model_type": "llama", "use_cache": false, "initializer_range": 1,
             "_name_or_path": "x", "quantization_config": null,
             "num_experts": null, "pretraining_tp": null, "pruned_heads": {},
             "hidden_act": "swish", "rope_scaling": {},
             "max_window_layers": 3, "auto_map": {}, "whatever": [1]})");
}

} // namespace
