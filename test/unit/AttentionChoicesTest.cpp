//===- AttentionChoicesTest.cpp - which engine runs each attention --------===//
#include "AttentionPlan.h"

#include "cuda/plan/AttentionChoices.h"
#include "cuda/plan/Extra.h"
#include "peft/AttentionEngine.h"

#include <gtest/gtest.h>

using namespace peft;
using namespace peft::cuda;
using namespace peft::test;

namespace {

struct FakeGraph final : AttentionGraph {
  explicit FakeGraph(uint64_t bytes) : bytes(bytes) {}
  uint64_t workspaceBytes() const override { return bytes; }
  std::string engine() const override { return "fake"; }
  Status run(const Call &, const AttentionMemory &,
             std::byte *) const override {
    return internalError("nothing runs here");
  }
  uint64_t bytes;
};

/// Asks for `forward` and `backward` bytes; UINT64_MAX: it has no engine.
struct FakeLibrary final : AttentionLibrary {
  std::string name() const override { return "fake 1"; }
  Expected<std::shared_ptr<AttentionGraph>>
  build(const AttentionProblem &problem) override {
    asked.push_back(problem);
    const uint64_t bytes = problem.backward ? backward : forward;
    if (bytes == UINT64_MAX)
      return Status::error(Code::unsuitable, "not today");
    return std::shared_ptr<AttentionGraph>(std::make_shared<FakeGraph>(bytes));
  }
  uint64_t forward = 256, backward = 256;
  std::vector<AttentionProblem> asked;
};

Expected<AttentionChoices> choose(const Plan &plan, AttentionLibrary *library,
                                  AttentionMode mode = AttentionMode::planned,
                                  const Tuning *tuning = nullptr) {
  return AttentionChoices::make(plan, library, "there is none", mode, tuning);
}

/// Whether forward and backward are the library's.
std::pair<bool, bool> taken(const AttentionChoices &choices) {
  auto of = [&](uint32_t entry) {
    const AttentionChoice *choice = choices.find(entry, 0);
    return choice && choice->graph;
  };
  return {of(0), of(1)};
}
constexpr std::pair<bool, bool> both{true, true}, neither{false, false};

} // namespace

TEST(AttentionChoices, theLibraryGetsWhatThePlanGivesIt) {
  FakeLibrary library;
  auto choices = choose(attentionPlan({}), &library);
  ASSERT_TRUE(choices.ok()) << choices.status().message();
  EXPECT_EQ(taken(*choices), both);
  ASSERT_EQ(library.asked.size(), 2u);
  const AttentionProblem &asked = library.asked[0];
  EXPECT_EQ(asked.batch, 2u);
  EXPECT_EQ(asked.seq, 70u);
  EXPECT_EQ(asked.heads, 4u);
  EXPECT_EQ(asked.kvHeads, 2u);
  EXPECT_EQ(asked.headDim, 16u);
  EXPECT_EQ(asked.window, 0u);
  EXPECT_EQ(asked.scale, 0.3);
  EXPECT_TRUE(library.asked[1].backward && library.asked[1].deterministic);
  // Nothing is asked where the plan names our own.
  auto none = choose(attentionPlan({.engine = 0}), &library);
  ASSERT_TRUE(none.ok());
  EXPECT_EQ(taken(*none), neither);
  EXPECT_TRUE(none->describe().empty());
  auto own = choose(attentionPlan({}), &library, AttentionMode::own);
  ASSERT_TRUE(own.ok());
  EXPECT_EQ(taken(*own), neither);
}

/// Own areas, gates, numbers of each query, library: what kernels.def reserves.
TEST(AttentionChoices, theAreasEndWhereTheFormulaDoes) {
  for (bool segments : {false, true})
    for (uint64_t batch : {1, 3}) {
      Plan plan = attentionPlan({.batch = batch, .segments = segments});
      const auto &launch = std::get<Launch>(plan.entries[0].items[0].action);
      auto choice = describeAttention(plan, launch);
      auto bytes = workspaceBytes(plan, launch);
      ASSERT_TRUE(choice.ok() && bytes.ok());
      EXPECT_EQ(choice->areas.library + 256, *bytes);
      EXPECT_EQ(choice->areas.hasGates, segments);
      EXPECT_EQ(choice->areas.hasNumbers, batch > 1);
      EXPECT_EQ(choice->areas.numbers - choice->areas.gates,
                segments ? 256u : 0u);
      EXPECT_EQ(choice->areas.gates, segments ? 256u : 0u) << "the ranges";
    }
}

TEST(AttentionChoices, whatIsNotReservedIsNotTaken) {
  FakeLibrary library;
  library.forward = 257;
  auto choices = choose(attentionPlan({}), &library);
  ASSERT_TRUE(choices.ok());
  EXPECT_EQ(taken(*choices), std::pair(false, true));
  const AttentionChoice *forward = choices->find(0, 0);
  for (const char *part : {"fake 1 asks for", "the plan reserves"})
    EXPECT_NE(forward->reason.find(part), std::string::npos) << forward->reason;
  auto scratch = scratchBytes(attentionPlan({}), &*choices);
  ASSERT_TRUE(scratch.ok());
  EXPECT_EQ(*scratch, std::vector<uint64_t>({0, 0})) << "nothing beside a plan";
  library.forward = UINT64_MAX;
  choices = choose(attentionPlan({}), &library);
  ASSERT_TRUE(choices.ok());
  EXPECT_EQ(choices->find(0, 0)->reason, "fake 1 has no engine: not today");
  auto missing = choose(attentionPlan({}), nullptr);
  ASSERT_TRUE(missing.ok());
  EXPECT_EQ(taken(*missing), neither);
  EXPECT_EQ(missing->describe().front(),
            "1 x attention_fwd by our own kernel: there is none");
}

TEST(AttentionChoices, fastTakesMemoryBesideThePlanAndNoDeterminism) {
  FakeLibrary library;
  library.backward = 1 << 20;
  Plan plan = attentionPlan({.engine = 0});
  auto choices = choose(plan, &library, AttentionMode::fast);
  ASSERT_TRUE(choices.ok()) << choices.status().message();
  EXPECT_EQ(taken(*choices), both);
  EXPECT_TRUE(library.asked[0].deterministic);
  EXPECT_FALSE(library.asked[1].deterministic);
  auto scratch = scratchBytes(plan, &*choices);
  ASSERT_TRUE(scratch.ok());
  EXPECT_GE((*scratch)[0], 1u << 20);
  EXPECT_NE(choices->describe().back().find("may differ from run to run"),
            std::string::npos);
}

TEST(AttentionChoices, fastThatChangesNothingIsRefused) {
  FakeLibrary library;
  library.backward = UINT64_MAX;
  Plan plan = attentionPlan({});
  for (AttentionLibrary *given : {static_cast<AttentionLibrary *>(&library),
                                  static_cast<AttentionLibrary *>(nullptr)}) {
    auto choices = choose(plan, given, AttentionMode::fast);
    ASSERT_FALSE(choices.ok());
    EXPECT_EQ(choices.status().code(), Code::unsuitable);
    EXPECT_NE(choices.status().message().find(given ? "not today"
                                                    : "there is none"),
              std::string::npos)
        << choices.status().message();
  }
}

TEST(AttentionChoices, aTuningLeavesToOurOwnWhatWasFaster) {
  FakeLibrary library;
  Tuning tuning;
  tuning.attentions.push_back({.type = DType::bf16, .batch = 2, .seq = 70,
                               .heads = 4, .kvHeads = 2, .headDim = 16});
  auto choices = choose(attentionPlan({}), &library, AttentionMode::planned,
                        &tuning);
  ASSERT_TRUE(choices.ok());
  EXPECT_EQ(taken(*choices), std::pair(false, true));
  tuning.attentions[0].byLibrary = true;
  choices = choose(attentionPlan({}), &library, AttentionMode::planned, &tuning);
  ASSERT_TRUE(choices.ok());
  EXPECT_EQ(taken(*choices), both);
}

TEST(AttentionEngine, isTheLibraryOnlyWhereItIsLinearAndExact) {
  using enum AttentionEngine;
  AttentionLaunch launch{.capability = 90, .type = DType::bf16, .rows = 8192,
                         .heads = 32, .headDim = 128};
  EXPECT_EQ(chooseAttentionEngine(launch), library);
  auto with = [&](auto change) {
    AttentionLaunch other = launch;
    change(other);
    return chooseAttentionEngine(other);
  };
  using L = AttentionLaunch;
  EXPECT_EQ(with([](L &l) { l.type = DType::f16; }), library);
  EXPECT_EQ(with([](L &l) { l.type = DType::f32; }), own);
  EXPECT_EQ(with([](L &l) { l.capability = 0; }), own);
  EXPECT_EQ(with([](L &l) { l.capability = 75; }), own);
  EXPECT_EQ(with([](L &l) { l.headDim = 100; }), own);
  EXPECT_EQ(with([](L &l) { l.headDim = 264; }), own);
  EXPECT_EQ(with([](L &l) { l.softcap = true; }), own);
  EXPECT_EQ(with([](L &l) { l.rows = INT32_MAX / 32 / 128 + 1; }), own);
  EXPECT_EQ(with([](L &l) { l.rows = INT32_MAX / 32 / 128; }), library);
  EXPECT_EQ(with([](L &l) { l.backward = true; }), own);
  EXPECT_EQ(with([](L &l) { l.backward = true, l.capability = 100; }), library);
  EXPECT_EQ(with([](L &l) {
              l.backward = true, l.capability = 100, l.headDim = 256;
            }),
            own);
  EXPECT_EQ(with([](L &l) { l.backward = true, l.capability = 120; }), own);
}
