//===- TargetTest.cpp - descriptions, and what they predict ---------------===//
#include "peft/KernelSpec.h"
#include "peftc/Target.h"
#include "peftc/Analysis/StepCost.h"

#include <gtest/gtest.h>

using namespace peft;
using peftc::TargetDescription;

namespace {

TargetDescription target() {
  auto description = peftc::parseTarget(
      R"({"name": "round", "kind": "cuda", "compute_capability": "8.0",
          "memory_bytes": 1000, "allowance_bytes": 100,
          "flops": {"f32": 1000, "bf16": 4000},
          "memory_bytes_per_second": 100, "host_bytes_per_second": 10,
          "launch_seconds": 0.5})",
      "test");
  EXPECT_TRUE(description.ok()) << description.status().message();
  return *description;
}

/// y [m, n] = x [m, k] w [n, k]^T, all of `type`.
Plan linearPlan(DType type, uint64_t m, uint64_t n, uint64_t k) {
  Plan plan;
  plan.compute = type;
  Launch launch;
  launch.kernel = "linear_fwd";
  launch.operands.assign(peft::findKernel("linear_fwd")->operands.size(), none);
  auto add = [&](size_t operand, std::vector<uint64_t> shape) {
    Buffer buffer;
    buffer.dtype = type;
    buffer.size = shape[0] * shape[1] * byteSize(type);
    buffer.shape = std::move(shape);
    launch.operands[operand] = static_cast<uint32_t>(plan.buffers.size());
    plan.buffers.push_back(buffer);
  };
  add(0, {m, k});
  add(1, {n, k});
  add(5, {m, n});
  plan.entries.push_back({"micro_step", {{0, launch}}, 0, 0});
  return plan;
}

} // namespace

TEST(Target, EveryBuiltInOneIsWhole) {
  std::vector<std::string> names = peftc::targetNames();
  EXPECT_GE(names.size(), 5u);
  for (const std::string &name : names) {
    auto target = peftc::loadTarget(name);
    ASSERT_TRUE(target.ok()) << target.status().message();
    EXPECT_EQ(target->name, name);
    EXPECT_EQ(target->kind == DeviceKind::cpu, name == "cpu");
    EXPECT_TRUE(target->supports(DType::f32));
    EXPECT_TRUE(target->supports(DType::f16));
    EXPECT_EQ(target->supports(DType::bf16), name != "t4");
    EXPECT_EQ(target->defaultCompute(), name == "t4" ? "f16" : "bf16");
    EXPECT_EQ(target->memoryBytes == 0, name == "cpu");
    EXPECT_GT(target->allowanceBytes, 0u);
    // A rate in a wrong unit would be off by a thousand.
    EXPECT_GT(target->memoryBytesPerSecond, 1e10);
    EXPECT_LT(target->memoryBytesPerSecond, 1e13);
    EXPECT_LT(target->launchSeconds, 1e-4);
  }
}

TEST(Target, AProductTakesTheLongerOfWorkAndBytes) {
  TargetDescription card = target();
  // 2 x 100 operations at 4000/s; 2 x (10 + 10 + 100) bytes at 100/s.
  Plan plan = linearPlan(DType::bf16, 10, 10, 1);
  peftc::StepCost cost = peftc::stepCost(plan, &card);
  EXPECT_DOUBLE_EQ(cost.flops("micro_step"), 200);
  EXPECT_DOUBLE_EQ(cost.bytes("micro_step"), 240);
  EXPECT_EQ(cost.launches("micro_step"), 1u);
  EXPECT_DOUBLE_EQ(cost.seconds("micro_step"), 240.0 / 100 + 0.5);
  EXPECT_DOUBLE_EQ(cost.seconds("update"), 0);
  // With faster memory the work decides, at the rate of the compute type.
  card.memoryBytesPerSecond = 1e9;
  cost = peftc::stepCost(plan, &card);
  EXPECT_DOUBLE_EQ(cost.seconds("micro_step"), 200.0 / 4000 + 0.5);
  cost = peftc::stepCost(linearPlan(DType::f32, 10, 10, 1), &card);
  EXPECT_DOUBLE_EQ(cost.seconds("micro_step"), 200.0 / 1000 + 0.5);
  EXPECT_DOUBLE_EQ(peftc::stepCost(plan).seconds("micro_step"), 0);
}

TEST(Target, AnEmbeddingMovesTheRowsItReads) {
  Plan plan;
  plan.compute = DType::f32;
  auto add = [&](DType type, std::vector<uint64_t> shape) {
    Buffer buffer;
    buffer.dtype = type;
    buffer.size = byteSize(type);
    for (uint64_t extent : shape)
      buffer.size *= extent;
    buffer.shape = std::move(shape);
    plan.buffers.push_back(buffer);
  };
  add(DType::i32, {4});
  add(DType::f32, {1000000, 8});
  add(DType::f32, {4, 8});
  Launch launch;
  launch.kernel = "embed_fwd";
  launch.operands = {0, 1, 2};
  plan.entries.push_back({"micro_step", {{0, launch}}, 0, 0});
  EXPECT_LE(peftc::stepCost(plan).bytes("micro_step"), 2 * (16 + 128));
}
