//===- MeasuringTest.cpp - traces and calibration -------------------------===//
#include "TemporaryFiles.h"
#include "TinyPlan.h"
#include "peft/CpuDevice.h"
#include "peft/Session.h"
#include "train/CalibrationPlan.h"
#include "train/Trace.h"

#include <gtest/gtest.h>

using namespace peft;
using namespace peft::test;

TEST(PlanTimes, streamsWaitOnlyForWhatThePlanSays) {
  Entry entry;
  // Stream 0: launch, record, launch; stream 1: launch, wait, launch.
  entry.items = {{0, Launch()}, {0, Record{0}}, {0, Launch()},
                 {1, Launch()}, {1, Wait{0}},   {1, Launch()}};
  std::vector<TracedItem> measured(6);
  // One after the other, as one queue runs them; stream 1's first is short.
  measured[0] = {true, 0, 4};
  measured[2] = {true, 4, 6};
  measured[3] = {true, 6, 7};
  measured[5] = {true, 7, 10};
  std::vector<TracedItem> planned = planTimes(entry, measured);
  EXPECT_EQ(planned[0].begin, 0);
  EXPECT_EQ(planned[2].begin, 4);
  EXPECT_EQ(planned[2].end, 6);
  EXPECT_EQ(planned[3].begin, 0) << "it waits for nothing";
  EXPECT_EQ(planned[3].end, 1);
  EXPECT_EQ(planned[5].begin, 4) << "it waits for the event";
  EXPECT_EQ(planned[5].end, 7);
}

TEST(Trace, theCpuDeviceTimesEveryItemInOrder) {
  auto plan = additionPlan({DeviceKind::cpu, 2}, 4096, 5);
  ASSERT_TRUE(plan.ok()) << plan.status().message();
  auto device = createCpuDevice({});
  ASSERT_TRUE(device.ok());
  ASSERT_TRUE((*device)->load(*plan, {}).ok());
  std::vector<ItemTime> times(99);
  ASSERT_TRUE((*device)->trace(0, times).ok());
  ASSERT_EQ(times.size(), 5u);
  double last = 0;
  for (uint32_t i = 0; i < 5; ++i) {
    EXPECT_EQ(times[i].item, i);
    EXPECT_LE(last, times[i].begin);
    EXPECT_LT(times[i].begin, times[i].end);
    last = times[i].end;
  }
}

TEST(Calibration, plansForBothKindsRunOnTheCpu) {
  for (DeviceKind kind : {DeviceKind::cpu, DeviceKind::cuda}) {
    CalibrationTarget target{kind, 3};
    for (DType type : {DType::f32, DType::bf16, DType::f16})
      for (bool backward : {false, true}) {
        auto plan = productPlan(target, {backward, 7, 9, 11, 1}, type, 2);
        ASSERT_TRUE(plan.ok()) << plan.status().message();
        auto device = createCpuDevice({});
        ASSERT_TRUE(device.ok());
        ASSERT_TRUE((*device)->load(*plan, {}).ok());
        EXPECT_TRUE((*device)->run(0).ok());
      }
    auto transfers = transferPlan(target, 4096);
    ASSERT_TRUE(transfers.ok()) << transfers.status().message();
    ASSERT_EQ(transfers->entries.size(), 3u);
    EXPECT_EQ(transfers->entries[2].items.size(), 2u);
  }
}

TEST(Calibration, theProductsOfAPlanWithTheMostOperations) {
  PlanBuilder build;
  build.persistent("x", DType::f32, {8, 64}, BufferClass::activation);
  build.persistent("w", DType::f32, {32, 64}, BufferClass::base);
  build.persistent("y", DType::f32, {8, 32}, BufferClass::activation);
  build.persistent("a", DType::f32, {1, 64}, BufferClass::base);
  build.persistent("t", DType::f32, {8, 1}, BufferClass::activation);
  build.entry("micro_step");
  build.launch(0, "linear_fwd", {"x", "w", "", "", "", "y"});
  build.launch(0, "linear_fwd", {"x", "w", "", "", "", "y"});
  build.launch(0, "linear_dx", {"y", "w", "", "", "x"});
  build.launch(0, "linear_fwd", {"x", "a", "", "", "", "t"});
  std::vector<Product> products = productsOf(build.finish());
  ASSERT_EQ(products.size(), 2u) << "the product of rank 1 is 1 % of them";
  EXPECT_FALSE(products[0].backward);
  EXPECT_EQ(products[0].count, 2u);
  EXPECT_EQ(products[0].describe(), "forward 8 x 32 x 64");
  EXPECT_EQ(products[0].operations(), 2.0 * 8 * 32 * 64);
  EXPECT_TRUE(products[1].backward);
}

namespace {
Status refused(RunOptions options) {
  return runSession(options, [](const std::string &, const Plan &,
                                const DeviceOptions &) {
    return Expected<ChosenDevice>(internalError("no device was needed"));
  });
}
} // namespace

TEST(Calibration, whatItCannotBeCombinedWithIsRefused) {
  RunOptions options;
  options.calibrate = true;
  EXPECT_TRUE(failsWith(refused(options), Code::usage, "-o FILE"));
  options.output = "here";
  EXPECT_TRUE(failsWith(refused(options), Code::usage, ".json"));
  options.output = "here.json";
  EXPECT_TRUE(failsWith(refused(options), Code::internal, "no device"));
  options.model = "model";
  EXPECT_TRUE(failsWith(refused(options), Code::usage, "--model"));
  options.model.clear();
  options.check = true;
  EXPECT_TRUE(failsWith(refused(options), Code::usage, "--check"));
  options.check = false;
  options.trace = "trace.json";
  EXPECT_TRUE(failsWith(refused(options), Code::usage, "--trace"));
}
