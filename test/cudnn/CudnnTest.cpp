//===- CudnnTest.cpp - what cuDNN has for attention, without a card -------===//
//
// Plans of cuDNN are finalised from descriptions of cards and compared with
// what the compiler takes for granted: which engines there are, and that they
// ask for no more than kernels.def reserves. Skipped where cuDNN is missing.
//
//===----------------------------------------------------------------------===//
#include "AttentionPlan.h"
#include "Runtime.h"

#include "cuda/library/Cudnn.h"
#include "cuda/plan/AttentionChoices.h"
#include "cuda/plan/Extra.h"
#include "peft/AttentionEngine.h"

#include <dlfcn.h>
#include <gtest/gtest.h>

using namespace peft;
using namespace peft::cuda;
using namespace peft::test;

namespace {

struct Described {
  int capability;
  const char *name;
  int processors, sharedBytes, threads, blocks; ///< the last three: of one
};
// NVIDIA's data sheets and the CUDA C++ Programming Guide's table of compute
// capabilities.
constexpr Described cards[] = {
    {75, "Tesla T4", 40, 65536, 1024, 16},
    {80, "NVIDIA A100-SXM4-80GB", 108, 166912, 2048, 32},
    {86, "NVIDIA GeForce RTX 3090", 82, 101376, 1536, 16},
    {89, "NVIDIA GeForce RTX 4090", 128, 101376, 1536, 24},
    {90, "NVIDIA H200", 132, 232448, 2048, 32},
    {100, "NVIDIA B200", 148, 232448, 2048, 32},
    {120, "NVIDIA GeForce RTX 5090", 170, 101376, 1536, 32},
};

/// As CUDNN_ATTR_DEVICEPROP_JSON_REPRESENTATION has it.
std::string describe(const Described &card) {
  auto field = [](const char *name, uint64_t value) {
    return ", \"" + std::string(name) + "\": " + std::to_string(value);
  };
  return "{\"cudaDeviceId\": 0, \"deviceName\": \"" + std::string(card.name) +
         "\"" + field("deviceVer", uint64_t(card.capability) * 10) +
         field("driverVer", 13000) +
         ", \"maxGridSize\": [2147483647, 65535, 65535]"
         ", \"maxBlockSize\": [1024, 1024, 64]" +
         field("regsPerBlock", 65536) +
         field("multiProcessorCount", card.processors) +
         field("smClockRateKHz", 1800000) + field("memClockRateKHz", 3000000) +
         field("l2CacheSize", 50 << 20) + field("warpSize", 32) +
         field("maxSharedMemoryPerBlock", 49152) +
         field("maxSharedMemoryPerBlockOptin", card.sharedBytes) +
         field("reservedSharedMemoryPerBlock", 1024) +
         field("maxRegistersPerSM", 65536) + field("pciDeviceId", 0) +
         field("maxCtasPerSM", card.blocks) +
         field("maxThreadsPerBlock", 1024) +
         field("maxThreadsPerSM", card.threads) + field("isTccDriver", 0) +
         field("supportCoopLaunch", 1) + field("totalGlobalMem", 24ull << 30) +
         "}";
}

Expected<std::shared_ptr<AttentionGraph>>
build(const Described &card, const AttentionProblem &problem) {
  pretendCapability(card.capability);
  return buildCudnnGraph(problem, {.description = describe(card),
                                   .capability = card.capability});
}

class CudnnAttention : public testing::TestWithParam<Described> {
protected:
  void SetUp() override {
    // The name by which cuDNN asks for its driver is then taken.
    if (!::dlopen(PEFT_TEST_DRIVER, RTLD_NOW | RTLD_GLOBAL))
      GTEST_SKIP() << ::dlerror();
    if (Status status = openCudnn(); !status.ok())
      GTEST_SKIP() << status.message();
  }
};

DType typeOf(const Described &card) {
  return card.capability >= 80 ? DType::bf16 : DType::f16;
}

AttentionEngine engineOf(const Described &card, const AttentionProblem &of) {
  return chooseAttentionEngine({.capability = card.capability,
                                .type = of.type,
                                .rows = of.rows(),
                                .heads = of.heads,
                                .headDim = of.headDim,
                                .backward = of.backward});
}

/// The problem of entry `entry` of a plan with both.
AttentionProblem problemOf(const Plan &plan, uint32_t entry) {
  auto choice =
      describeAttention(plan, std::get<Launch>(plan.entries[entry].items[0].action));
  EXPECT_TRUE(choice.ok());
  return choice->problem;
}

} // namespace

TEST_P(CudnnAttention, asksForWhatKernelsDefReserves) {
  const Described &card = GetParam();
  const DType type = typeOf(card);
  for (const AttentionSizes &sizes :
       {AttentionSizes{type, 2, 4096, 32, 8, 128},
        AttentionSizes{type, 3, 300, 9, 3, 64, 100},
        AttentionSizes{type, 1, 77, 4, 4, 256}})
    for (uint32_t entry : {0, 1}) {
      const Plan plan = attentionPlan(sizes);
      const auto &launch = std::get<Launch>(plan.entries[entry].items[0].action);
      auto choice = describeAttention(plan, launch);
      auto reserved = workspaceBytes(plan, launch);
      ASSERT_TRUE(choice.ok() && reserved.ok());
      if (engineOf(card, choice->problem) == AttentionEngine::own)
        continue;
      auto graph = build(card, choice->problem);
      ASSERT_TRUE(graph.ok()) << card.name << ", head size " << sizes.headDim
                              << ": " << graph.status().message();
      choice->graph = *graph;
      EXPECT_LE(choice->needBytes(), *reserved)
          << card.name << " by " << (*graph)->engine() << " asks for "
          << (*graph)->workspaceBytes() << " bytes";
      EXPECT_FALSE((*graph)->engine().empty());
    }
}

/// Why the backward is mostly ours: where cuDNN has a deterministic one, it
/// grows with the square of the sequence. When this fails, the choice in
/// AttentionEngine.h can be widened.
TEST_P(CudnnAttention, deterministicBackwardsElsewhereAreNotLinear) {
  const Described &card = GetParam();
  AttentionProblem problem = problemOf(
      attentionPlan({typeOf(card), 1, 1024, 8, 2, 128}), 1);
  if (engineOf(card, problem) == AttentionEngine::library)
    return; // the test before asks for it
  auto bytes = [&](uint64_t seq) -> uint64_t {
    problem.seq = seq;
    auto graph = build(card, problem);
    return graph.ok() ? (*graph)->workspaceBytes() : 0;
  };
  const uint64_t shorter = bytes(1024), longer = bytes(4096);
  EXPECT_TRUE(shorter == 0 || longer > 8 * shorter)
      << card.name << ": " << shorter << " bytes at 1024 tokens, " << longer
      << " at 4096";
}

/// What --attention fast would take.
TEST_P(CudnnAttention, otherBackwardsAreLinear) {
  const Described &card = GetParam();
  AttentionProblem problem = problemOf(
      attentionPlan({typeOf(card), 1, 1024, 8, 2, 128}), 1);
  problem.deterministic = false;
  auto shorter = build(card, problem);
  if (card.capability < 80) {
    EXPECT_EQ(shorter.status().code(), Code::unsuitable);
    return;
  }
  ASSERT_TRUE(shorter.ok()) << shorter.status().message();
  problem.seq = 4096;
  auto longer = build(card, problem);
  ASSERT_TRUE(longer.ok()) << longer.status().message();
  EXPECT_LE((*longer)->workspaceBytes(), 4 * (*shorter)->workspaceBytes());
}

TEST_P(CudnnAttention, f32IsNotComputedInLess) {
  AttentionProblem problem;
  problem.type = DType::f32;
  auto graph = build(GetParam(), problem);
  EXPECT_EQ(graph.status().code(), Code::unsuitable);
}

INSTANTIATE_TEST_SUITE_P(Cards, CudnnAttention, testing::ValuesIn(cards),
                         [](const auto &info) {
                           return "sm_" + std::to_string(info.param.capability);
                         });
