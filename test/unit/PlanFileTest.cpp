//===- PlanFileTest.cpp - encoding and decoding of plans ------------------===//
#include "EveryKernelPlan.h"

#include "peft/File.h"

#include <cstdio>
#include <filesystem>
#include <gtest/gtest.h>
#include <unistd.h>

using namespace peft;
using namespace peft::test;

TEST(PlanFile, RoundTripGivesTheSameBytes) {
  Plan plan = tinyPlan();
  plan.weights.push_back({"sliced", DType::f16, {4, 4}, {{0, 0, 4}}});
  plan.modelConfig = "{\n\t\"a\": 1\n}";
  plan.target = "t4";
  launchOf(plan, "micro_step", "embed_fwd").module = "";
  launchOf(plan, "micro_step", "embed_fwd").recomputed = true;
  std::string bytes = serializePlan(plan);
  EXPECT_EQ(bytes, serializePlan(plan));
  Expected<Plan> back = parsePlan(asBytes(bytes));
  ASSERT_TRUE(back.ok()) << back.status().message();
  EXPECT_EQ(serializePlan(*back), bytes);
  EXPECT_EQ(back->modelConfig, plan.modelConfig);
  EXPECT_EQ(back->entries[0].items.size(), plan.entries[0].items.size());
  EXPECT_TRUE(launchOf(*back, "micro_step", "embed_fwd").recomputed);
  EXPECT_FALSE(launchOf(*back, "update", "adamw").recomputed);
  EXPECT_EQ(back->weights.back().slices[0].extent, 4u);
  EXPECT_EQ(launchOf(*back, "update", "adamw").predicate.buffer,
            launchOf(plan, "update", "adamw").predicate.buffer);
}

TEST(PlanFile, KeepsTheKindOfTheDevice) {
  Plan plan = everyKernelPlan(DType::f32, DeviceKind::cuda);
  EXPECT_EQ(plan.arenas.size(), 2u);
  Expected<Plan> back = parsePlan(asBytes(serializePlan(plan)));
  ASSERT_TRUE(back.ok()) << back.status().message();
  EXPECT_EQ(back->deviceKind, DeviceKind::cuda);
  EXPECT_EQ(back->arenas[1].space, Space::pageable);
  plan.deviceKind = static_cast<DeviceKind>(2);
  back = parsePlan(asBytes(serializePlan(plan)));
  ASSERT_FALSE(back.ok());
  EXPECT_NE(back.status().message().find("device kind"), std::string::npos)
      << back.status().message();
}

TEST(PlanFile, KeepsEveryKindOfAttribute) {
  Plan plan = tinyPlan();
  Launch &launch = launchOf(plan, "micro_step", "embed_fwd");
  launch.attributes = {{"i", int64_t(-3)},
                       {"r", 0.5},
                       {"f", std::vector<float>{1, 2}},
                       {"e", std::vector<float>{}}};
  std::string bytes = serializePlan(plan);
  Expected<Plan> back = decodePlan(asBytes(bytes));
  ASSERT_TRUE(back.ok()) << back.status().message();
  const auto &found = launchOf(*back, "micro_step", "embed_fwd").attributes;
  ASSERT_EQ(found.size(), 4u);
  EXPECT_EQ(std::get<int64_t>(found[0].value), -3);
  EXPECT_EQ(std::get<double>(found[1].value), 0.5);
  EXPECT_EQ(std::get<std::vector<float>>(found[2].value)[1], 2);
  EXPECT_TRUE(std::get<std::vector<float>>(found[3].value).empty());
}

TEST(PlanFile, RefusesWhatIsNoPlan) {
  for (std::string text : {"", "PEFT", "not a plan at all, not even close"}) {
    Expected<Plan> plan = parsePlan(asBytes(text));
    ASSERT_FALSE(plan.ok());
    EXPECT_EQ(plan.status().code(), Code::badInput);
    EXPECT_NE(plan.status().message().find("identifier"), std::string::npos);
  }
}

TEST(PlanFile, RefusesEveryTruncation) {
  std::string bytes = serializePlan(tinyPlan());
  // The last bytes may be padding, so cuts begin where a number is lost.
  for (size_t length = 0; length + 8 < bytes.size(); length += 7) {
    std::string cut = bytes.substr(0, length);
    EXPECT_FALSE(parsePlan(asBytes(cut)).ok()) << "cut at " << length;
  }
}

TEST(PlanFile, ReadsFromAnyAddress) {
  std::string bytes = "x" + serializePlan(tinyPlan());
  Expected<Plan> plan = parsePlan(asBytes(bytes).subspan(1));
  EXPECT_TRUE(plan.ok()) << plan.status().message();
}

TEST(PlanFile, RefusesAnUnknownEnumerator) {
  Plan plan = tinyPlan();
  plan.streams.push_back(static_cast<Engine>(9));
  Expected<Plan> back = decodePlan(asBytes(serializePlan(plan)));
  ASSERT_FALSE(back.ok());
  EXPECT_NE(back.status().message().find("engine number 9"), std::string::npos);
  plan = tinyPlan();
  plan.buffers[1].dtype = static_cast<DType>(77);
  EXPECT_FALSE(decodePlan(asBytes(serializePlan(plan))).ok());
}

TEST(PlanFile, LoadNamesTheFile) {
  std::string path = std::filesystem::temp_directory_path() /
                     ("peft-plan-" + std::to_string(::getpid()) + ".plan");
  Expected<Plan> missing = loadPlan(path);
  ASSERT_FALSE(missing.ok());
  EXPECT_EQ(missing.status().code(), Code::io);
  ASSERT_TRUE(writeFileAtomically(path, serializePlan(tinyPlan())).ok());
  EXPECT_TRUE(loadPlan(path).ok());
  Plan broken = tinyPlan();
  bufferOf(broken, "a").offset += 64;
  ASSERT_TRUE(writeFileAtomically(path, serializePlan(broken)).ok());
  Expected<Plan> refused = loadPlan(path);
  ASSERT_FALSE(refused.ok());
  EXPECT_EQ(refused.status().code(), Code::badInput);
  EXPECT_EQ(refused.status().message().find(path), 0u);
  std::filesystem::remove(path);
}
