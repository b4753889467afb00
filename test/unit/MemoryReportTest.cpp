//===- MemoryReportTest.cpp - what a plan's memory is for -----------------===//
#include "EveryKernelPlan.h"

#include "peft/MemoryReport.h"

#include <algorithm>
#include <gtest/gtest.h>

using namespace peft;
using namespace peft::test;

TEST(MemoryReport, TotalsAddUp) {
  Plan plan = tinyPlan();
  MemoryTotals totals = memoryTotals(plan);
  EXPECT_EQ(totals.arenaBytes, plan.arenas[0].size);
  EXPECT_EQ(totals.mappedBytes, 10u * 8 * 4);
  auto of = [&](BufferClass kind) {
    return totals.persistent[static_cast<size_t>(kind)];
  };
  EXPECT_EQ(of(BufferClass::adapter), 128u);
  EXPECT_EQ(of(BufferClass::gradient), 128u);
  EXPECT_EQ(of(BufferClass::optimizer), 2 * 128u + 4);
  EXPECT_EQ(of(BufferClass::base), 0u);
  ASSERT_EQ(totals.entries.size(), 2u);
  const EntryMemory &micro = totals.entries[0];
  EXPECT_EQ(micro.entry, "micro_step");
  uint64_t sum = 0;
  for (uint64_t bytes : micro.atPeak)
    sum += bytes;
  EXPECT_EQ(sum, micro.lowerBound);
  EXPECT_LE(micro.lowerBound, micro.localBytes);
}

TEST(MemoryReport, TheArenasOfACardsPlanAreCountedApart) {
  Plan plan = everyKernelPlan(DType::f32, DeviceKind::cuda);
  MemoryTotals totals = memoryTotals(plan);
  EXPECT_EQ(totals.hostBytes, plan.arenas[1].size);
  EXPECT_EQ(totals.deviceBytes(), plan.arenas[0].size);
  uint32_t entry = plan.findEntry("linear_fwd");
  // The card's workspace alone; the CPU's scratch lies elsewhere.
  EXPECT_EQ(memoryPeak(plan, entry).live.size(), 1u);
  EXPECT_EQ(totals.entries[entry].lowerBound, plan.entries[entry].localBytes);
}

TEST(MemoryReport, LiveRangesEndAtTheLastUse) {
  Plan plan = tinyPlan();
  auto rangeOf = [&](const char *name) {
    for (const LiveRange &range : liveRanges(plan, 0))
      if (plan.buffers[range.buffer].name == name)
        return std::pair(range.first, range.last);
    return std::pair(none, none);
  };
  EXPECT_EQ(rangeOf("x"), std::pair(0u, 4u)); // linear_dw
  EXPECT_EQ(rangeOf("zeros").first, rangeOf("zeros").second);
  EXPECT_EQ(rangeOf("a").first, none); // persistent
}

TEST(MemoryReport, PeakNamesTheLaunchThatDefines) {
  Plan plan = tinyPlan();
  MemoryPeak peak = memoryPeak(plan, 0);
  ASSERT_NE(peak.item, none);
  uint64_t sum = 0;
  for (const LiveBuffer &live : peak.live) {
    sum += plan.buffers[live.buffer].size;
    if (plan.buffers[live.buffer].name == "x")
      EXPECT_EQ(live.module, "tiny.embed_fwd");
  }
  EXPECT_EQ(sum, peak.bytes);
  for (size_t i = 1; i < peak.live.size(); ++i)
    EXPECT_GE(plan.buffers[peak.live[i - 1].buffer].size,
              plan.buffers[peak.live[i].buffer].size);
}

TEST(MemoryReport, UsesOfABuffer) {
  Plan plan = tinyPlan();
  std::vector<BufferUse> uses = usesOf(plan, "a");
  ASSERT_EQ(uses.size(), 2u);
  EXPECT_EQ(uses[0].kernel, "linear_fwd");
  EXPECT_EQ(uses[0].operand, "w");
  EXPECT_FALSE(uses[0].writes);
  EXPECT_EQ(uses[1].kernel, "adamw");
  EXPECT_TRUE(uses[1].writes);
  EXPECT_EQ(usesOf(plan, "apply")[1].operand, "predicate");
  EXPECT_TRUE(usesOf(plan, "nothing like it").empty());
  EXPECT_GE(usesOf(plan, ".gra").size(), 4u); // part of a name
}

TEST(MemoryReport, LedgerCountsEveryTensorAndLaunch) {
  Plan plan = tinyPlan();
  plan.weights[0].dtype = DType::bf16;
  Buffer &table = bufferOf(plan, "table");
  table.dtype = DType::bf16;
  table.size /= 2;
  plan.initializers[0].kind = Initializer::Kind::weight;
  plan.weights.push_back({"start", DType::bf16, {4, 8}, {}});
  plan.initializers[0].weight = 1;
  ASSERT_TRUE(verifyPlan(plan).ok()) << verifyPlan(plan).message();
  TypeLedger ledger = typeLedger(plan);
  uint64_t tensors = 0, launches = 0;
  for (const StorageTypes &row : ledger.storage)
    tensors += row.tensors;
  for (const ComputeTypes &row : ledger.compute) {
    launches += row.launches;
    bool sums = row.kernel == "loss_sum" || row.kernel == "norm_square" ||
                row.kernel == "finish_step";
    EXPECT_EQ(row.compute, sums ? DType::f64 : DType::f32) << row.kernel;
  }
  EXPECT_EQ(tensors, plan.buffers.size());
  EXPECT_EQ(launches, 8u); // four compute nothing: integers, zeros
  auto load = std::ranges::find(ledger.conversions, "load", &Conversion::where);
  ASSERT_NE(load, ledger.conversions.end());
  EXPECT_EQ(load->from, DType::bf16);
  EXPECT_EQ(load->example, "start");
  EXPECT_FALSE(load->rounds());
  ASSERT_EQ(ledger.tensors.size(), plan.buffers.size());
}

TEST(MemoryReport, LedgerKnowsEveryKernel) {
  for (const KernelSpec &spec : allKernels())
    EXPECT_TRUE(isInLedger(spec.name))
        << spec.name << ": say in TypeLedger.cpp what it does to types";
}

TEST(MemoryReport, LedgerCountsBytesThatTensorsShareOnce) {
  Plan plan = tinyPlan();
  auto bytesOf = [&](BufferClass kind, DType type) {
    for (const StorageTypes &row : typeLedger(plan).storage)
      if (row.kind == kind && row.dtype == type && !row.mapped)
        return row.bytes;
    return uint64_t(0);
  };
  // x, y and z; "zeros" has x's bytes again.
  const Buffer &x = bufferOf(plan, "x"), &zeros = bufferOf(plan, "zeros");
  ASSERT_EQ(x.offset, zeros.offset);
  EXPECT_EQ(bytesOf(BufferClass::activation, DType::f32),
            x.size + 2 * bufferOf(plan, "y").size);
  // Half of z in y's second half.
  bufferOf(plan, "z").offset = bufferOf(plan, "y").offset + 32;
  EXPECT_EQ(bytesOf(BufferClass::activation, DType::f32),
            x.size + bufferOf(plan, "y").size + 32);
  EXPECT_EQ(bytesOf(BufferClass::optimizer, DType::f32), 2u * 4 * 8 * 4);
}
