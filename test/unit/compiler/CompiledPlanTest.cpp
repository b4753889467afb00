//===- CompiledPlanTest.cpp - properties of whole compiled plans ----------===//
#include "peftc/Import.h"
#include "peftc/Pipelines.h"
#include "peftc/RegisterAll.h"
#include "peftc/Target/PlanFile.h"

#include "peft/File.h"

#include "mlir/IR/DialectRegistry.h"
#include "mlir/IR/MLIRContext.h"

#include <gtest/gtest.h>

using namespace peft;

namespace {

constexpr const char *config = R"({
  "model_type": "qwen2", "architectures": ["Qwen2ForCausalLM"],
  "vocab_size": 96, "hidden_size": 32, "intermediate_size": 48,
  "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2,
  "hidden_act": "silu", "rms_norm_eps": 1e-6, "max_position_embeddings": 128,
  "tie_word_embeddings": true, "torch_dtype": "bfloat16"})";

constexpr const char *adapter = R"({
  "peft_type": "LORA", "r": 4, "lora_alpha": 8, "lora_dropout": 0.1,
  "target_modules": "all-linear"})";

Plan compile(peftc::CompileOptions options) {
  std::string path = testing::TempDir() + "compiled-plan-test-config.json";
  EXPECT_TRUE(writeFileAtomically(path, config).ok());
  mlir::DialectRegistry registry;
  peftc::registerAllDialects(registry);
  mlir::MLIRContext context(registry);
  context.loadAllAvailableDialects();
  auto module = peftc::importModel(context, path);
  EXPECT_TRUE(module.ok()) << module.status().message();
  Status status = peftc::compileModel(**module, options);
  EXPECT_TRUE(status.ok()) << status.message();
  auto plan = peftc::exportPlan(**module);
  EXPECT_TRUE(plan.ok()) << plan.status().message();
  return *plan;
}

Plan compileAdapter() {
  peftc::CompileOptions options;
  options.batch = 2;
  options.seq = 16;
  options.adapterConfig = adapter;
  return compile(options);
}

Plan compileAll() {
  peftc::CompileOptions options;
  options.seq = 16;
  options.trainAll = true;
  options.headChunkBytes = 1; // chunks of 16 rows, the least there are
  return compile(options);
}

} // namespace

TEST(CompiledPlan, EveryWaitIsNecessary) {
  for (const Plan &plan : {compileAdapter(), compileAll()}) {
    ASSERT_TRUE(verifyPlan(plan).ok());
    size_t waits = 0;
    for (size_t entry = 0; entry < plan.entries.size(); ++entry)
      for (size_t item = 0; item < plan.entries[entry].items.size(); ++item) {
        if (!std::holds_alternative<Wait>(
                plan.entries[entry].items[item].action))
          continue;
        ++waits;
        Plan broken = plan;
        auto &items = broken.entries[entry].items;
        items.erase(items.begin() + static_cast<ptrdiff_t>(item));
        EXPECT_FALSE(verifyPlan(broken).ok())
            << plan.entries[entry].name << ", item " << item;
      }
    EXPECT_GT(waits, 10u);
  }
}

TEST(CompiledPlan, BytesSurviveTheDialect) {
  for (const Plan &plan : {compileAdapter(), compileAll()}) {
    mlir::MLIRContext context;
    auto module = peftc::importPlan(&context, plan);
    auto back = peftc::exportPlan(*module);
    ASSERT_TRUE(back.ok()) << back.status().message();
    EXPECT_EQ(serializePlan(plan), serializePlan(*back));
  }
}

TEST(CompiledPlan, CompilingTwiceGivesTheSameBytes) {
  EXPECT_EQ(serializePlan(compileAdapter()), serializePlan(compileAdapter()));
}

TEST(CompiledPlan, NothingIsSavedOrComputedBelowTheFirstAdapter) {
  peftc::CompileOptions options;
  options.seq = 16;
  options.adapterConfig = R"({"peft_type": "LORA", "r": 4,
    "target_modules": ["q_proj"], "layers_to_transform": [1]})";
  Plan plan = compile(options);
  bool afterLoss = false;
  size_t checked = 0;
  for (const Item &item : plan.entries[plan.findEntry("micro_step")].items) {
    const auto *launch = std::get_if<Launch>(&item.action);
    if (!launch)
      continue;
    afterLoss |= launch->kernel.starts_with("cross_entropy");
    if (!afterLoss)
      continue;
    ++checked;
    EXPECT_FALSE(launch->module.starts_with("model.layers.0."));
    for (uint32_t operand : launch->operands)
      if (operand != none)
        EXPECT_FALSE(plan.buffers[operand].name.starts_with("model.layers.0."))
            << launch->kernel << " reads " << plan.buffers[operand].name;
  }
  EXPECT_GT(checked, 10u);
}

TEST(CompiledPlan, OnACardTheArenaHasEverythingButTheCpusScratch) {
  peftc::CompileOptions options;
  options.seq = 16;
  options.adapterConfig = adapter;
  options.target = "h200";
  options.device = "cuda";
  Plan plan = compile(options);
  ASSERT_TRUE(verifyPlan(plan).ok());
  EXPECT_EQ(plan.target, "h200");
  EXPECT_EQ(plan.deviceKind, DeviceKind::cuda);
  ASSERT_EQ(plan.arenas.size(), 2u);
  EXPECT_EQ(plan.arenas[0].space, Space::device);
  EXPECT_EQ(plan.arenas[1].space, Space::pageable);
  EXPECT_EQ(plan.arenas[1].persistentBytes, 0u);
  std::vector<bool> scratch(plan.buffers.size());
  for (const Entry &entry : plan.entries)
    for (const Item &item : entry.items)
      if (const auto *launch = std::get_if<Launch>(&item.action))
        if (launch->threadWorkspace != none)
          scratch[launch->threadWorkspace] = true;
  for (size_t i = 0; i < plan.buffers.size(); ++i) {
    EXPECT_EQ(plan.buffers[i].arena, scratch[i] ? 1u : 0u)
        << plan.buffers[i].name;
    EXPECT_EQ(plan.buffers[i].offset % 256, 0u) << plan.buffers[i].name;
  }
  // One initializer per frozen weight, and one per adapter's A.
  size_t frozen = 0, initialized = 0;
  for (const Buffer &buffer : plan.buffers)
    frozen += buffer.kind == BufferClass::base;
  for (const Initializer &start : plan.initializers)
    initialized += start.kind == Initializer::Kind::weight;
  EXPECT_EQ(frozen, plan.weights.size());
  EXPECT_EQ(initialized, frozen);

  mlir::MLIRContext context;
  auto module = peftc::importPlan(&context, plan);
  auto back = peftc::exportPlan(*module);
  ASSERT_TRUE(back.ok()) << back.status().message();
  EXPECT_EQ(serializePlan(plan), serializePlan(*back));
}

TEST(CompiledPlan, FrozenWeightsAreMapped) {
  Plan plan = compileAdapter();
  for (const Buffer &buffer : plan.buffers)
    EXPECT_EQ(buffer.kind == BufferClass::base, buffer.arena == none)
        << buffer.name;
  plan = compileAll();
  for (const Buffer &buffer : plan.buffers)
    EXPECT_NE(buffer.arena, none) << buffer.name;
}
