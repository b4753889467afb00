//===- QuantizedPlanTest.cpp - quantized weights in a plan ----------------===//
#include "TinyPlan.h"

#include <functional>
#include <gtest/gtest.h>

using namespace peft;
using namespace peft::test;

namespace {

/// How many elements [4, 100] in blocks of 64 have scales, and nested ones.
constexpr uint64_t blocks = 7, nestedBlocks = 3;

struct Parts {
  DType type = DType::nf4;
  bool nested = true;
};

uint32_t addPart(PlanBuilder &builder, const std::string &name, DType type,
                 std::vector<uint64_t> shape, WeightPart part) {
  builder.mapped(name, type, std::move(shape));
  Weight &weight = builder.plan.weights.back();
  weight.part = part;
  weight.of = part == WeightPart::codes ? none : 0;
  return builder.index(name);
}

/// One product with a quantized weight [4, 100].
Plan quantizedPlan(const Parts &parts) {
  PlanBuilder builder;
  bool bytes = parts.type == DType::i8;
  addPart(builder, "w", parts.type, {4, 100}, WeightPart::codes);
  builder.plan.weights[0].block = bytes ? 0 : 64;
  builder.plan.weights[0].nested = parts.nested ? 3 : 0;
  addPart(builder, "w.absmax", parts.nested ? DType::u8 : DType::f32,
          {bytes ? 4 : blocks}, WeightPart::absmax);
  if (parts.nested)
    addPart(builder, "w.nested_absmax", DType::f32, {nestedBlocks},
            WeightPart::nestedAbsmax);
  if (!bytes)
    addPart(builder, "w.tables", DType::f32,
            {parts.nested ? nestedTables : codeTable}, WeightPart::tables);
  builder.persistent("x", DType::f32, {2, 100}, BufferClass::activation);
  builder.persistent("y", DType::f32, {2, 4}, BufferClass::activation);
  builder.entry("micro_step");
  std::vector<Attribute> attributes;
  if (!bytes)
    attributes.push_back({"block", int64_t(64)});
  if (parts.nested)
    attributes.push_back({"nested", int64_t(3)});
  builder.launch(0, "linear_fwd",
                 {"x", "w", "", "", "", "y", "w.absmax",
                  parts.nested ? "w.nested_absmax" : "",
                  bytes ? "" : "w.tables"},
                 attributes);
  return builder.finish();
}

} // namespace

TEST(QuantizedPlan, EveryFormatVerifiesAndIsReadBack) {
  for (const Parts &parts : {Parts{DType::nf4, true}, Parts{DType::nf4, false},
                             Parts{DType::fp4, true}, Parts{DType::i8, false}}) {
    Plan plan = quantizedPlan(parts);
    ASSERT_TRUE(verifyPlan(plan).ok()) << verifyPlan(plan).message();
    std::string bytes = serializePlan(plan);
    auto read = parsePlan(std::as_bytes(std::span(bytes)));
    ASSERT_TRUE(read.ok()) << read.status().message();
    for (size_t i = 0; i < plan.weights.size(); ++i) {
      const Weight &from = plan.weights[i], &to = read->weights[i];
      EXPECT_EQ(from.part, to.part);
      EXPECT_EQ(from.of, to.of);
      EXPECT_EQ(from.block, to.block);
      EXPECT_EQ(from.nested, to.nested);
      EXPECT_EQ(from.dtype, to.dtype);
    }
  }
}

TEST(QuantizedPlan, HalfAByteCountsAsOne) {
  EXPECT_EQ(byteCount(DType::nf4, 5), 3u);
  EXPECT_EQ(byteCount(DType::fp4, 4), 2u);
  EXPECT_EQ(byteCount(DType::i8, 5), 5u);
  EXPECT_EQ(byteCount(DType::nf4, UINT64_MAX), uint64_t(1) << 63);
}

TEST(QuantizedPlan, WhatDoesNotBelongTogetherIsRefused) {
  struct Rule {
    const char *name;
    std::function<void(Plan &)> breakIt;
    const char *message;
  };
  auto codes = [](Plan &plan) -> Weight & { return plan.weights[0]; };
  auto launch = [](Plan &plan) -> Launch & {
    return std::get<Launch>(plan.entries[0].items[0].action);
  };
  const Rule rules[] = {
      {"part of nothing", [](Plan &p) { p.weights[1].of = 77; },
       "is a part of weight 77, which is no codes"},
      {"part of a part", [](Plan &p) { p.weights[1].of = 2; }, "no codes"},
      {"codes that are whole",
       [&](Plan &p) { codes(p).part = WeightPart::whole; },
       "only codes are of type nf4"},
      {"scales with blocks", [](Plan &p) { p.weights[1].block = 64; },
       "only codes have blocks"},
      {"no block", [&](Plan &p) { codes(p).block = 0; }, "block size is 0"},
      {"other block", [&](Plan &p) { codes(p).block = 32; },
       "is not the 13 elements of u8"},
      {"no nested scales", [&](Plan &p) { codes(p).nested = 0; },
       "is not the 7 elements of f32"},
      {"other nested block", [&](Plan &p) { codes(p).nested = 2; },
       "is not the 4 elements of f32"},
      {"cut over ranks",
       [&](Plan &p) {
         p.shard = 1;
         codes(p).slices = {{0, 0, 2}};
       },
       "cannot be cut over ranks"},
      {"kernel without scales", [&](Plan &p) { launch(p).operands[6] = none; },
       "a quantized weight has its scales"},
      {"kernel with another block",
       [&](Plan &p) { launch(p).attributes[0].value = int64_t(128); },
       "a quantized weight has its scales"},
      {"kernel without nested scales",
       [&](Plan &p) { launch(p).attributes[1].value = int64_t(0); },
       "a quantized weight has its scales"},
  };
  for (const Rule &rule : rules) {
    Plan plan = quantizedPlan({});
    rule.breakIt(plan);
    Status status = verifyPlan(plan);
    ASSERT_FALSE(status.ok()) << rule.name << " passed";
    EXPECT_NE(status.message().find(rule.message), std::string::npos)
        << rule.name << " said: " << status.message();
  }
}
