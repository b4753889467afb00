//===- AdapterConfigTest.cpp - adapter_config.json ------------------------===//
#include "peft/AdapterConfig.h"
#include "TemporaryFiles.h"

#include <cmath>

using namespace peft;

namespace {

Expected<AdapterConfig> parse(const std::string &text) {
  return parseAdapterConfig(text, "adapter_config.json");
}

/// As PEFT 0.21.2 saves LoraConfig(r=4, lora_alpha=16, ...).
const char *savedByPeft = R"({
  "alora_invocation_tokens": null, "alpha_pattern": {"z": 3.5, "a": 2},
  "arrow_config": null, "auto_mapping": null,
  "base_model_name_or_path": "org/model", "bias": "lora_only",
  "corda_config": null, "ensure_weight_tying": false, "eva_config": null,
  "exclude_modules": ["lm_head"], "fan_in_fan_out": false,
  "inference_mode": true, "init_lora_weights": "gaussian",
  "kasa_config": null, "layer_replication": null, "layers_pattern": "layers",
  "layers_to_transform": [0, 2], "loftq_config": {}, "lora_alpha": 16,
  "lora_bias": false, "lora_dropout": 0.05, "lora_ga_config": null,
  "megatron_config": null, "megatron_core": "megatron.core",
  "modules_to_save": ["lm_head"], "monteclora_config": null,
  "peft_type": "LORA", "peft_version": "0.21.2", "qalora_group_size": 16,
  "r": 4, "rank_pattern": {"v_proj": 2, "q_proj": 8}, "revision": null,
  "target_modules": ["v_proj", "q_proj"], "target_parameters": null,
  "task_type": "CAUSAL_LM", "trainable_token_indices": null,
  "use_bdlora": null, "use_dora": false, "use_qalora": false,
  "use_rslora": true, "velora_config": null})";

TEST(AdapterConfig, ReadsWhatPeftSaves) {
  const auto config = parse(savedByPeft);
  ASSERT_TRUE(config.ok()) << config.status().message();
  EXPECT_EQ(config->rank, 4);
  EXPECT_EQ(config->alpha, 16);
  EXPECT_EQ(config->dropout, 0.05);
  EXPECT_EQ(config->targetModules,
            ModuleSelection::ofNames({"v_proj", "q_proj"}));
  EXPECT_EQ(config->excludeModules, ModuleSelection::ofNames({"lm_head"}));
  EXPECT_EQ(config->layersToTransform, (std::vector<int64_t>{0, 2}));
  EXPECT_EQ(config->layersPattern, std::vector<std::string>{"layers"});
  ASSERT_EQ(config->rankPattern.size(), 2u); // in the file's order
  EXPECT_EQ(config->rankPattern[0], std::pair(std::string("v_proj"), 2l));
  EXPECT_EQ(config->alphaPattern[0], std::pair(std::string("z"), 3.5));
  EXPECT_EQ(config->bias, LoraBias::loraOnly);
  EXPECT_EQ(config->init, LoraInit::gaussian);
  EXPECT_EQ(config->modulesToSave, std::vector<std::string>{"lm_head"});
  EXPECT_TRUE(config->rsLora);
  EXPECT_TRUE(config->inferenceMode);
  EXPECT_EQ(config->taskType, "CAUSAL_LM");
  EXPECT_EQ(config->baseModelName, "org/model");
  EXPECT_DOUBLE_EQ(config->scale(4, 16), 8);
}

TEST(AdapterConfig, Defaults) {
  const auto config = parse(R"({"peft_type": "LORA"})");
  ASSERT_TRUE(config.ok()) << config.status().message();
  EXPECT_EQ(*config, AdapterConfig());
  EXPECT_EQ(config->rank, 8);
  EXPECT_EQ(config->alpha, 8);
  EXPECT_TRUE(config->targetModules.empty());
  EXPECT_DOUBLE_EQ(config->scale(16, 8), 0.5);
  EXPECT_EQ(defaultTargetModules("qwen3"),
            (std::vector<std::string>{"q_proj", "v_proj"}));
  EXPECT_EQ(defaultTargetModules("gemma3_text"),
            (std::vector<std::string>{"q_proj", "v_proj"}));
  EXPECT_TRUE(defaultTargetModules("gemma3").empty());
  EXPECT_TRUE(defaultTargetModules("phi3").empty());
}

TEST(AdapterConfig, Expressions) {
  const auto config = parse(
      R"({"peft_type": "LORA", "target_modules": "All-Linear",
          "exclude_modules": ".*\\.o_proj", "init_lora_weights": false})");
  ASSERT_TRUE(config.ok());
  EXPECT_TRUE(config->targetModules.allLinear());
  EXPECT_EQ(config->excludeModules,
            ModuleSelection::ofExpression(".*\\.o_proj"));
  EXPECT_EQ(config->init, LoraInit::random);
  EXPECT_TRUE(parse(R"({"peft_type": "LORA", "target_modules": "all-linear",
                        "layers_to_transform": [0, 1]})")
                  .ok());
}

TEST(AdapterConfig, WritesWhatItReads) {
  const auto config = parse(savedByPeft);
  ASSERT_TRUE(config.ok());
  AdapterConfig expected = *config;
  expected.targetModules = ModuleSelection::ofNames({"q_proj", "v_proj"});
  expected.rankPattern = {{"q_proj", 8}, {"v_proj", 2}};
  expected.alphaPattern = {{"a", 2}, {"z", 3.5}};
  const std::string text = writeAdapterConfig(*config);
  const auto again = parse(text);
  ASSERT_TRUE(again.ok()) << again.status().message();
  EXPECT_EQ(*again, expected);
  EXPECT_EQ(writeAdapterConfig(*again), text);
}

TEST(AdapterConfig, WritesLikePython) {
  AdapterConfig config;
  config.targetModules = ModuleSelection::ofNames({"v_proj", "q_proj"});
  config.baseModelName = "caf\u00e9";
  EXPECT_EQ(writeAdapterConfig(config), R"({
  "alpha_pattern": {},
  "auto_mapping": null,
  "base_model_name_or_path": "caf\u00e9",
  "bias": "none",
  "exclude_modules": null,
  "fan_in_fan_out": false,
  "inference_mode": false,
  "init_lora_weights": true,
  "layers_pattern": null,
  "layers_to_transform": null,
  "lora_alpha": 8,
  "lora_dropout": 0.0,
  "modules_to_save": null,
  "peft_type": "LORA",
  "r": 8,
  "rank_pattern": {},
  "revision": null,
  "target_modules": [
    "q_proj",
    "v_proj"
  ],
  "task_type": null,
  "use_dora": false,
  "use_rslora": false
}
)");
}

TEST(AdapterConfig, KeepsTheBiasOfB) {
  // Only merged, but read: so that merging knows what it was given.
  auto config = parseAdapterConfig(
      R"({"peft_type": "LORA", "target_modules": ["q_proj"], "lora_bias": true})",
      "c");
  ASSERT_TRUE(config.ok()) << config.status().message();
  EXPECT_TRUE(config->loraBias);
  auto again = parseAdapterConfig(writeAdapterConfig(*config), "again");
  ASSERT_TRUE(again.ok()) << again.status().message();
  EXPECT_EQ(*again, *config);
}

TEST(AdapterConfig, RefusesByName) {
  const struct {
    const char *fields, *fragment;
  } cases[] = {
      {R"("use_dora": "yes")", "use_dora: must be"},
      {R"("lora_bias": 1)", "lora_bias: must be"},
      {R"("fan_in_fan_out": true)", "fan_in_fan_out: true is not"},
      {R"("trainable_token_indices": [1])", "trainable_token_indices: [1]"},
      {R"("target_parameters": ["w"])", "target_parameters: [\"w\"]"},
      {R"("layer_replication": [[0, 1]])", "layer_replication"},
      {R"("loftq_config": {"loftq_bits": 4})", "loftq_config"},
      {R"("eva_config": {"rho": 2.0})", "eva_config"},
      {R"("qalora_group_size": 32)", "qalora_group_size: 32"},
      {R"("megatron_core": "x")", "megatron_core: \"x\""},
      {R"("use_warp_lora": 3)",
       "use_warp_lora: 3 is set, but no such field of LoRA is known"},
      {R"("init_lora_weights": "eva")", "init_lora_weights: \"eva\""},
      {R"("init_lora_weights": "pissa_niter_x")",
       "init_lora_weights: \"pissa_niter_x\""},
      {R"("init_lora_weights": "pissa", "use_dora": true)",
       "pissa with DoRA is not in this version"},
      {R"("init_lora_weights": "olora", "lora_dropout": 0.5)",
       "olora with dropout is not in this version"},
      {R"("init_lora_weights": "pissa", "use_rslora": true,
          "rank_pattern": {"q_proj": 2})",
       "pissa with rsLoRA and rank_pattern"},
      {R"("init_lora_weights": null)", "init_lora_weights: null"},
      {R"("task_type": "SEQ_CLS")", "task_type: \"SEQ_CLS\""},
      {R"("bias": "some")", "supported: none, all, lora_only"},
      {R"("r": 0)", "r: must be between 1 and"},
      {R"("r": 4.5)", "r: must be a whole number"},
      {R"("lora_alpha": 0)", "lora_alpha: must be between"},
      {R"("lora_alpha": "x")", "lora_alpha: must be a number"},
      {R"("lora_dropout": 1.5)", "lora_dropout: must be between"},
      {R"("lora_dropout": 1.0)", "drops everything"},
      {R"("lora_dropout": 0.9995)", "lora_dropout: must be at most 0.999"},
      {R"("target_modules": 1)", "target_modules: must be a list of strings"},
      {R"("target_modules": ["a", 1])", "but holds 1"},
      {R"("target_modules": "")", "empty string"},
      {R"("rank_pattern": [])", "rank_pattern: must be an object"},
      {R"("rank_pattern": {"a": 0})", "rank_pattern: a: must be between"},
      {R"("alpha_pattern": {"a": "x"})", "alpha_pattern: a: must be a number"},
      {R"("layers_to_transform": [-1])", "layers_to_transform: must be"},
      {R"("target_modules": ".*_proj", "layers_to_transform": 1)",
       "cannot be used while target_modules is a string"},
      {R"("layers_pattern": "h")", "nothing without layers_to_transform"},
      {R"("r": 8, "r": 9)", "stands twice"},
  };
  for (const auto &[fields, fragment] : cases) {
    SCOPED_TRACE(fields);
    const Status status =
        parse(std::string("{\"peft_type\": \"LORA\", ") + fields + "}")
            .status();
    EXPECT_TRUE(failsWith(status, Code::badInput, fragment));
  }
  EXPECT_TRUE(failsWith(parse(R"({"peft_type": "IA3"})").status(),
                        Code::badInput, "peft_type: \"IA3\""));
  EXPECT_TRUE(
      failsWith(parse("{}").status(), Code::badInput, "peft_type: is missing"));
  EXPECT_TRUE(failsWith(parse("3").status(), Code::badInput, "JSON object"));
}

TEST(AdapterDirectory, FindsTheAdapter) {
  TemporaryDirectory folder;
  const std::string tensors = safetensorsBytes(
      R"({"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}})", "1234");
  const std::string config = R"({"peft_type": "LORA", "r": 3})";
  EXPECT_TRUE(failsWith(openAdapter(folder.path()).status(), Code::badInput,
                        "has no adapter_config.json"));
  EXPECT_TRUE(failsWith(openAdapter(folder.path("x")).status(), Code::badInput,
                        "no such directory"));
  folder.write("one/adapter_config.json", config);
  EXPECT_TRUE(failsWith(openAdapter(folder.path()).status(), Code::badInput,
                        "the adapter is incomplete"));
  folder.write("one/adapter_model.bin", "x");
  EXPECT_TRUE(failsWith(openAdapter(folder.path()).status(), Code::badInput,
                        "only adapter_model.bin"));
  folder.write("one/adapter_model.safetensors", tensors);
  for (const std::string &path : {folder.path(), folder.path("one")}) {
    const auto adapter = openAdapter(path);
    ASSERT_TRUE(adapter.ok()) << adapter.status().message();
    EXPECT_EQ(adapter->directory, folder.path("one"));
    EXPECT_EQ(adapter->config.rank, 3);
    EXPECT_TRUE(adapter->tensors.get("a").ok());
  }
  folder.write("two/adapter_config.json", config);
  EXPECT_TRUE(failsWith(openAdapter(folder.path()).status(), Code::badInput,
                        "several adapters (one, two)"));
  folder.write("two/adapter_config.json",
               "version https://git-lfs.github.com/spec/v1\n");
  EXPECT_TRUE(failsWith(openAdapter(folder.path("two")).status(),
                        Code::badInput, "Git LFS pointer"));
}

TEST(AdapterDirectory, TakesTheStartOfARunOnlyByName) {
  TemporaryDirectory folder;
  folder.write("start/adapter_config.json",
               R"({"peft_type": "LORA", "init_lora_weights": "pissa"})");
  folder.write(
      "start/adapter_model.safetensors",
      safetensorsBytes(R"({"__metadata__":{"start_of":"pissa"}})", ""));
  EXPECT_TRUE(failsWith(openAdapter(folder.path()).status(), Code::badInput,
                        "only the start of a run that did not end"));
  EXPECT_TRUE(openAdapter(folder.path("start")).ok());
  folder.write("other/adapter_config.json", R"({"peft_type": "LORA"})");
  folder.write("other/adapter_model.safetensors", safetensorsBytes("{}", ""));
  const auto adapter = openAdapter(folder.path());
  ASSERT_TRUE(adapter.ok()) << adapter.status().message();
  EXPECT_EQ(adapter->directory, folder.path("other"));
}

} // namespace
