//===- PlanMutationTest.cpp - 10,000 damaged plans ------------------------===//
//
// Each is refused or executes cleanly. Built with sanitizers this also shows
// that what executes stays inside its buffers.
//
//===----------------------------------------------------------------------===//
#include "EveryKernelPlan.h"

#include "../fuzz/PlanMutations.h"
#include "../fuzz/PlanRun.h"

#include "peft/File.h"

#include <gtest/gtest.h>

using namespace peft;
using namespace peft::test;

namespace {

struct Tally {
  size_t refused = 0, executed = 0;

  void run(const std::string &bytes, uint64_t seed) {
    Expected<PlanOutcome> outcome = runIfValid(asBytes(bytes));
    ASSERT_TRUE(outcome.ok())
        << "seed " << seed << ": " << outcome.status().message();
    refused += *outcome == PlanOutcome::refused;
    executed += *outcome == PlanOutcome::executed;
  }
};

} // namespace

TEST(PlanMutation, ChangedBytes) {
  std::string bytes = serializePlan(tinyPlan());
  Tally tally;
  for (uint64_t seed = 0; seed < 5000; ++seed) {
    PlanMutator random(seed);
    std::string changed = bytes;
    for (uint64_t i = 0, count = 1 + random.below(3); i < count; ++i)
      changed[random.below(changed.size())] ^=
          static_cast<char>(1u << random.below(8));
    tally.run(changed, seed);
  }
  EXPECT_GT(tally.refused, 1000u);
  EXPECT_GT(tally.executed, 100u); // a text, a number that does not matter
}

TEST(PlanMutation, ChangedFields) {
  const Plan plans[] = {tinyPlan(), everyKernelPlan(DType::f32),
                        everyKernelPlan(DType::bf16),
                        everyKernelPlan(DType::f16),
                        everyKernelPlan(DType::bf16, DeviceKind::cuda)};
  Tally tally;
  for (uint64_t seed = 0; seed < 5000; ++seed) {
    PlanMutator mutator(seed);
    Plan changed = plans[seed % std::size(plans)];
    for (uint64_t i = 0, count = 1 + mutator.below(3); i < count; ++i)
      mutator.mutate(changed);
    tally.run(serializePlan(changed), seed);
  }
  EXPECT_GT(tally.refused, 2000u);
  EXPECT_GT(tally.executed, 100u);
}
