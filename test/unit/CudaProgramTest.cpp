//===- CudaProgramTest.cpp - an entry as a card runs it -------------------===//
#include "TinyPlan.h"

#include "cuda/plan/Extra.h"
#include "cuda/plan/Program.h"

#include <gtest/gtest.h>

using namespace peft;
using namespace peft::cuda;
using namespace peft::test;

namespace {

Program programOf(const Plan &plan, const char *entry) {
  Status status = verifyPlan(plan);
  EXPECT_TRUE(status.ok()) << status.message();
  auto program = buildProgram(plan, plan.findEntry(entry));
  EXPECT_TRUE(program.ok()) << program.status().message();
  return program.ok() ? *program : Program();
}

/// Kernels of the steps of a block, merged launches as "adamw x3".
std::string text(const ProgramBlock &block) {
  std::string words;
  for (const ProgramStep &step : block.steps) {
    words += words.empty() ? "" : ", ";
    if (step.kind == ProgramStep::Kind::launch)
      words += allKernels()[step.kernel].name;
    else if (step.kind == ProgramStep::Kind::copy)
      words += "copy";
    else
      words += step.kind == ProgramStep::Kind::record ? "record" : "wait";
    if (step.items.size() > 1)
      words += " x" + std::to_string(step.items.size());
  }
  return words;
}

std::vector<std::string> texts(const Program &program) {
  std::vector<std::string> list;
  for (const ProgramBlock &block : program.blocks)
    list.push_back(std::to_string(block.stream) + ": " + text(block));
  return list;
}

using Texts = std::vector<std::string>;

/// A plan whose update has `count` parameters: adamw and fill_zero in turn, as
/// the compiler writes them.
PlanBuilder manyParameters(int count, bool shareGradient = false) {
  PlanBuilder builder;
  addTinyState(builder);
  addTinyMicroStep(builder);
  builder.entry("update");
  Predicate applied{builder.index("apply"), 0};
  for (int i = 0; i < count; ++i) {
    std::string p = "p" + std::to_string(i);
    for (const char *part : {"", ".m", ".v"})
      builder.persistent(p + part, DType::f32, {4, 8}, BufferClass::adapter);
    std::string gradient = shareGradient ? "a.grad" : p + ".g";
    if (!shareGradient)
      builder.persistent(gradient, DType::f32, {4, 8}, BufferClass::gradient);
    builder.launch(0, "adamw", {p, gradient, p + ".m", p + ".v", "adam"})
        .predicate = applied;
    builder.launch(0, "fill_zero", {gradient}).predicate = applied;
  }
  return builder;
}

} // namespace

TEST(CudaProgram, streamsAndEventsStayAsThePlanSays) {
  Program program = programOf(tinyPlan(), "micro_step");
  EXPECT_EQ(texts(program),
            (Texts{"0: embed_fwd, linear_fwd", "0: record", "1: wait",
                   "1: linear_dw", "1: record",
                   "0: compact_rows, add_fwd, norm_square, count_tokens, copy",
                   "0: wait", "0: fill_zero"}));
  EXPECT_EQ(program.events, 2u);
  EXPECT_EQ(program.streams, (std::vector<bool>{true, true}));
  EXPECT_EQ(program.count().conditional, 0u);
}

TEST(CudaProgram, launchesOfAllParametersBecomeOne) {
  PlanBuilder builder = manyParameters(5);
  Program program = programOf(builder.finish(), "update");
  EXPECT_EQ(texts(program), (Texts{"0: adamw x5, fill_zero x5"}));
  EXPECT_EQ(program.count().launches, 10u);
  EXPECT_EQ(program.count().steps, 2u);
  // Our own kernels look at the predicate themselves.
  EXPECT_FALSE(program.blocks[0].conditional);
}

TEST(CudaProgram, launchesWithCodedMomentsBecomeOne) {
  PlanBuilder builder;
  addTinyState(builder);
  addTinyMicroStep(builder);
  builder.entry("update");
  for (std::string p : {"p0", "p1"}) {
    for (const char *part : {"", ".g"})
      builder.persistent(p + part, DType::f32, {4, 8}, BufferClass::adapter);
    for (const char *part : {".m", ".v"}) {
      builder.persistent(p + part, DType::u8, {4, 8}, BufferClass::optimizer);
      builder.persistent(p + part + "s", DType::f32, {1},
                         BufferClass::optimizer);
    }
    builder.launch(0, "adamw8bit", {p, p + ".g", p + ".m", p + ".v", p + ".ms",
                                    p + ".vs", "adam"});
  }
  EXPECT_EQ(texts(programOf(builder.finish(), "update")),
            (Texts{"0: adamw8bit x2"}));
}

TEST(CudaProgram, aGradientThatIsUsedAgainKeepsItsPlace) {
  PlanBuilder builder = manyParameters(2, true);
  Program program = programOf(builder.finish(), "update");
  // The second adamw reads what the first fill_zero wrote.
  EXPECT_EQ(texts(program), (Texts{"0: adamw, fill_zero, adamw, fill_zero"}));
}

TEST(CudaProgram, mergingCanBeLeftOut) {
  PlanBuilder builder = manyParameters(2);
  auto program = buildProgram(builder.finish(), 1, {.merges = false});
  ASSERT_TRUE(program.ok());
  EXPECT_EQ(program->count().steps, 4u);
}

TEST(CudaProgram, normsOfOneSumBecomeOneAndOthersDoNot) {
  PlanBuilder builder;
  addTinyState(builder);
  addTinyMicroStep(builder);
  builder.persistent("other", DType::f64, {1}, BufferClass::scalar);
  builder.entry("update");
  builder.launch(0, "norm_square", {"a.m", "norm_square"});
  builder.launch(0, "norm_square", {"a.v", "norm_square"});
  builder.launch(0, "norm_square", {"a.grad", "other"});
  Program program = programOf(builder.finish(), "update");
  EXPECT_EQ(texts(program), (Texts{"0: norm_square x2, norm_square"}));
}

/// A chunk of a head: own kernels and products under one predicate.
static PlanBuilder predicatedProducts() {
  PlanBuilder builder;
  addTinyState(builder);
  addTinyMicroStep(builder);
  builder.entry("update");
  for (const char *name : {"p", "q", "r"})
    builder.persistent(name, DType::f32, {4, 4}, BufferClass::activation);
  Predicate applied{builder.index("apply"), 0};
  auto product = [&](const char *to, const Predicate &predicate) {
    builder.launch(0, "linear_fwd", {"out", "out", "", "", "", to}).predicate =
        predicate;
  };
  product("p", applied);
  product("q", applied);
  product("r", {builder.index("apply"), 1});
  product("p", {});
  return builder;
}

TEST(CudaProgram, productsUnderOnePredicateAreOneConditionalBlock) {
  PlanBuilder builder = predicatedProducts();
  Program program = programOf(builder.finish(), "update");
  ASSERT_EQ(texts(program), (Texts{"0: linear_fwd, linear_fwd", "0: linear_fwd",
                                   "0: linear_fwd"}));
  EXPECT_TRUE(program.blocks[0].conditional);
  EXPECT_TRUE(program.blocks[1].conditional);
  EXPECT_FALSE(program.blocks[2].conditional);
  EXPECT_EQ(program.blocks[1].predicate.above, 1);
}

TEST(CudaProgram, predicatesOfTwoValuesAreTwoBlocks) {
  PlanBuilder builder;
  addTinyState(builder);
  addTinyMicroStep(builder);
  builder.persistent("other", DType::i32, {1}, BufferClass::scalar);
  builder.entry("update");
  for (const char *value : {"apply", "other"}) {
    const std::string to = std::string("y of ") + value;
    builder.persistent(to, DType::f32, {4, 4}, BufferClass::activation);
    builder.launch(0, "linear_fwd", {"out", "out", "", "", "", to}).predicate =
        {builder.index(value), 0};
  }
  EXPECT_EQ(texts(programOf(builder.finish(), "update")),
            (Texts{"0: linear_fwd", "0: linear_fwd"}));
}

//===----------------------------------------------------------------------===//
// Memory beside the arenas
//===----------------------------------------------------------------------===//

TEST(CudaExtra, aPlanForTheCpuGetsItsWeightsAndScratch) {
  Plan plan = tinyPlan();
  WeightLayout layout = layOutWeights(plan);
  EXPECT_EQ(layout.bytes, 512u); // 10 x 8 x 4 bytes, to 256
  auto scratch = scratchBytes(plan);
  ASSERT_TRUE(scratch.ok());
  // Both streams have products; the plan has no workspace for a library.
  ASSERT_EQ(scratch->size(), 2u);
  EXPECT_GE((*scratch)[0], 32u << 20);
  EXPECT_GE((*scratch)[1], 32u << 20);
  auto totals = deviceTotals(plan);
  ASSERT_TRUE(totals.ok());
  EXPECT_EQ(totals->all(), plan.arenas[0].size + 512 + (*scratch)[0] +
                               (*scratch)[1]);
}

TEST(CudaExtra, launchesThatIndexHaveFaultSlots) {
  Plan plan = tinyPlan();
  std::vector<FaultOwner> owners = faultOwners(plan);
  ASSERT_GE(owners.size(), 3u);
  EXPECT_EQ(owners[0].entry, none);
  EXPECT_EQ(owners[1].entry, 0u);
  EXPECT_EQ(owners[1].item, 0u); // embed_fwd
  EXPECT_FALSE(hasFaultSlot(launchOf(plan, "micro_step", "add_fwd")));
  EXPECT_TRUE(hasFaultSlot(launchOf(plan, "micro_step", "compact_rows")));
}

TEST(CudaExtra, aCardThatIsTooSmallIsToldWhatTakesMost) {
  Plan plan = tinyPlan();
  auto totals = deviceTotals(plan);
  ASSERT_TRUE(totals.ok());
  EXPECT_TRUE(checkFits(plan, *totals, totals->all()).ok());
  Status status = checkFits(plan, *totals, totals->all() - 1);
  EXPECT_EQ(status.code(), Code::doesNotFit);
  for (const char *part : {"the plan needs", "free are", "the most is for",
                           "the largest buffers are", "table"})
    EXPECT_NE(status.message().find(part), std::string::npos)
        << status.message();
}
