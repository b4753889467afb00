//===- ScheduleTest.cpp - random orders keep what must be kept ------------===//
#include "TinyPlan.h"

#include "peft/ItemAccess.h"
#include "peft/Schedule.h"

#include <algorithm>
#include <gtest/gtest.h>
#include <set>

using namespace peft;
using namespace peft::test;

namespace {

/// Independent chains, so that there is something to move.
Plan widePlan() {
  PlanBuilder builder;
  builder.entry("micro_step");
  for (int i = 0; i < 8; ++i)
    for (int j = 0; j < 3; ++j)
      builder.local("b" + std::to_string(i) + std::to_string(j), DType::f32,
                    {16});
  for (int j = 0; j < 3; ++j)
    for (int i = 0; i < 8; ++i) {
      std::string at = "b" + std::to_string(i);
      if (j == 0)
        builder.launch(i % 2, "fill_zero", {at + "0"});
      else
        builder.launch(i % 2, "cast",
                       {at + std::to_string(j - 1), at + std::to_string(j)});
    }
  return builder.finish();
}

/// The entry with its items in the given order.
Plan reordered(Plan plan, uint32_t entry, const std::vector<uint32_t> &order) {
  std::vector<Item> items;
  for (uint32_t item : order)
    items.push_back(plan.entries[entry].items[item]);
  plan.entries[entry].items = items;
  return plan;
}

std::vector<uint32_t> streamOrder(const Entry &entry,
                                  const std::vector<uint32_t> &order,
                                  uint32_t stream) {
  std::vector<uint32_t> items;
  for (uint32_t item : order)
    if (entry.items[item].stream == stream)
      items.push_back(item);
  return items;
}

} // namespace

TEST(Schedule, IsAPermutationAndDeterministic) {
  Plan plan = tinyPlan();
  for (ScheduleMode mode : {ScheduleMode::interleave, ScheduleMode::shuffle})
    for (uint64_t seed = 0; seed < 20; ++seed) {
      std::vector<uint32_t> order = drawSchedule(plan, 0, seed, mode);
      EXPECT_EQ(order, drawSchedule(plan, 0, seed, mode));
      std::set<uint32_t> all(order.begin(), order.end());
      EXPECT_EQ(all.size(), plan.entries[0].items.size());
      EXPECT_EQ(order.size(), all.size());
    }
}

TEST(Schedule, EveryOrderStillVerifies) {
  // Also where x is reused, and where the wait decides.
  for (const Plan &plan : {tinyPlan(), widePlan()})
    for (ScheduleMode mode : {ScheduleMode::interleave, ScheduleMode::shuffle})
      for (uint64_t seed = 0; seed < 50; ++seed) {
        Plan moved = reordered(plan, 0, drawSchedule(plan, 0, seed, mode));
        Status status = verifyPlan(moved);
        EXPECT_TRUE(status.ok()) << "seed " << seed << ": " << status.message();
      }
}

TEST(Schedule, InterleavingKeepsEachStream) {
  Plan plan = widePlan();
  const Entry &entry = plan.entries[0];
  std::set<std::vector<uint32_t>> orders;
  for (uint64_t seed = 0; seed < 60; ++seed) {
    std::vector<uint32_t> order =
        drawSchedule(plan, 0, seed, ScheduleMode::interleave);
    orders.insert(order);
    for (uint32_t stream : {0u, 1u}) {
      std::vector<uint32_t> items = streamOrder(entry, order, stream);
      EXPECT_TRUE(std::is_sorted(items.begin(), items.end()));
    }
  }
  EXPECT_GT(orders.size(), 10u);
}

TEST(Schedule, ShufflingMovesLaunchesOfAStream) {
  Plan plan = widePlan();
  const Entry &entry = plan.entries[0];
  for (uint64_t seed = 0; seed < 10; ++seed) {
    std::vector<uint32_t> order =
        drawSchedule(plan, 0, seed, ScheduleMode::shuffle);
    std::vector<uint32_t> items = streamOrder(entry, order, 0);
    EXPECT_FALSE(std::is_sorted(items.begin(), items.end()));
    ScheduleReport report = compareSchedule(entry, order);
    EXPECT_EQ(report.launches, 24u);
    EXPECT_GE(report.moved * 4, report.launches);
  }
}

TEST(Schedule, FileOrderMovesNothing) {
  Plan plan = tinyPlan();
  std::vector<uint32_t> order(plan.entries[0].items.size());
  for (uint32_t i = 0; i < order.size(); ++i)
    order[i] = i;
  EXPECT_EQ(compareSchedule(plan.entries[0], order).moved, 0u);
}

TEST(Schedule, WithoutAWaitSomeOrderBreaksThePlan) {
  // What the verifier protects from: drop the waits, and orders appear in which
  // a reader runs before its writer.
  Plan plan = tinyPlan();
  std::erase_if(plan.entries[0].items, [](const Item &item) {
    return std::holds_alternative<Wait>(item.action);
  });
  size_t broken = 0;
  for (uint64_t seed = 0; seed < 20; ++seed) {
    std::vector<uint32_t> order =
        drawSchedule(plan, 0, seed, ScheduleMode::interleave);
    auto place = [&](const char *kernel) {
      for (size_t i = 0; i < order.size(); ++i)
        if (auto *launch =
                std::get_if<Launch>(&plan.entries[0].items[order[i]].action))
          if (launch->kernel == kernel)
            return i;
      return order.size();
    };
    broken += place("linear_dw") < place("linear_fwd");
  }
  EXPECT_GT(broken, 0u);
}
