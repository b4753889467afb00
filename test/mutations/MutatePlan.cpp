//===- MutatePlan.cpp - many small damages to a valid plan ----------------===//
//
//   peft-plan-mutations PLAN [COUNT]
//
// Changes bytes of the file, and fields of the decoded plan, COUNT times
// (10000) in all; each result must be refused or execute cleanly. Small plans
// only: those that run in milliseconds.
//
//===----------------------------------------------------------------------===//
#include "../fuzz/PlanMutations.h"
#include "../fuzz/PlanRun.h"

#include "peft/File.h"

#include <cstdio>
#include <cstdlib>

using namespace peft;
using namespace peft::test;

static int fail(const Status &status) {
  std::fprintf(stderr, "peft-plan-mutations: %s\n", status.message().c_str());
  return static_cast<int>(status.code());
}

static std::string damage(const std::string &bytes, const Plan &plan,
                          uint64_t seed) {
  PlanMutator mutator(seed);
  uint64_t count = 1 + mutator.below(3);
  if (seed % 4 == 0) {
    std::string changed = bytes;
    for (uint64_t i = 0; i < count; ++i)
      changed[mutator.below(changed.size())] ^=
          static_cast<char>(1u << mutator.below(8));
    return changed;
  }
  Plan changed = plan;
  for (uint64_t i = 0; i < count; ++i)
    mutator.mutate(changed);
  return serializePlan(changed);
}

int main(int argc, char **argv) {
  if (argc < 2)
    return fail(usageError("usage: peft-plan-mutations PLAN [COUNT]"));
  Expected<std::string> bytes = readFile(argv[1]);
  if (!bytes.ok())
    return fail(bytes.status());
  Expected<Plan> plan = parsePlan(asBytes(*bytes));
  if (!plan.ok())
    return fail(plan.status().in(argv[1]));
  if (!isSmall(*plan))
    return fail(usageError("the plan is too large to be run so often"));
  uint64_t count = argc > 2 ? std::strtoull(argv[2], nullptr, 10) : 10000;
  uint64_t tally[3] = {};
  for (uint64_t seed = 0; seed < count; ++seed) {
    std::string changed = damage(*bytes, *plan, seed);
    Expected<PlanOutcome> outcome = runIfValid(asBytes(changed));
    if (!outcome.ok())
      return fail(outcome.status().in("mutation " + std::to_string(seed)));
    ++tally[static_cast<size_t>(*outcome)];
  }
  std::printf("%llu mutations: %llu refused, %llu executed, %llu too large\n",
              static_cast<unsigned long long>(count),
              static_cast<unsigned long long>(tally[0]),
              static_cast<unsigned long long>(tally[2]),
              static_cast<unsigned long long>(tally[1]));
  return 0;
}
