//===- PlanVerifierTest.cpp - every rule is broken once -------------------===//
#include "EveryKernelPlan.h"

#include <chrono>
#include <functional>
#include <gtest/gtest.h>
#include <limits>

using namespace peft;
using namespace peft::test;

namespace {

/// One rule: what breaks it, and a part of the message that says so.
struct Rule {
  const char *name;
  std::function<void(Plan &)> breakIt;
  const char *message;
};

Entry &micro(Plan &plan) { return plan.entries[0]; }
Launch &embed(Plan &plan) { return launchOf(plan, "micro_step", "embed_fwd"); }
Launch &linear(Plan &plan) {
  return launchOf(plan, "micro_step", "linear_fwd");
}
template <typename Action> Action &first(Plan &plan) {
  for (Item &item : micro(plan).items)
    if (auto *action = std::get_if<Action>(&item.action))
      return *action;
  throw std::out_of_range("no such action");
}
uint32_t indexOf(Plan &plan, const char *name) {
  return static_cast<uint32_t>(&bufferOf(plan, name) - plan.buffers.data());
}

void expectRefused(const std::vector<Rule> &rules) {
  for (const Rule &rule : rules) {
    Plan plan = tinyPlan();
    ASSERT_TRUE(verifyPlan(plan).ok()) << verifyPlan(plan).message();
    rule.breakIt(plan);
    Status status = verifyPlan(plan);
    EXPECT_FALSE(status.ok()) << rule.name << " passed";
    EXPECT_EQ(status.code(), Code::badInput) << rule.name;
    EXPECT_NE(status.message().find(rule.message), std::string::npos)
        << rule.name << " said: " << status.message();
  }
}

} // namespace

TEST(PlanVerifier, Header) {
  expectRefused({
      {"control character", [](Plan &p) { p.modelName = "a\nb"; },
       "no printable text"},
      {"not UTF-8", [](Plan &p) { p.producer = "\xff\xfe"; },
       "no printable text"},
      {"surrogate", [](Plan &p) { p.producer = "\xed\xa0\x80"; },
       "no printable text"},
      {"long name", [](Plan &p) { p.producer.assign(5000, 'x'); }, "too long"},
      {"compute", [](Plan &p) { p.compute = DType::i32; }, "compute is i32"},
      {"a CPU's plan for a card",
       [](Plan &p) { p.deviceKind = DeviceKind::cuda; },
       "is not a multiple of 256"},
      {"batch", [](Plan &p) { p.batch = 0; }, "batch is 0"},
      {"seq", [](Plan &p) { p.seq = uint64_t(1) << 40; }, "seq is"},
      {"vocab", [](Plan &p) { p.vocab = 0; }, "vocab is 0"},
      {"no threads", [](Plan &p) { p.maxThreads = 0; }, "maxThreads is 0"},
      {"many threads", [](Plan &p) { p.maxThreads = 1025; },
       "maxThreads is 1025"},
      {"grid", [](Plan &p) { p.shard = 0; }, "shard is 0"},
      {"no stream", [](Plan &p) { p.streams.clear(); }, "number of streams"},
      {"many arenas", [](Plan &p) { p.arenas.resize(17); },
       "number of arenas"},
      {"many streams", [](Plan &p) { p.streams.resize(9); },
       "number of streams"},
      {"remark", [](Plan &p) { p.remarks[0].module = "\1"; }, "remarks[0]"},
      {"entry without name", [](Plan &p) { p.entries[0].name.clear(); },
       "no name"},
      {"entry twice", [](Plan &p) { p.entries[1].name = "micro_step"; },
       "stands twice"},
      {"local bytes", [](Plan &p) { p.entries[1].localBytes = 1 << 30; },
       "local bytes"},
  });
}

TEST(PlanVerifier, Memory) {
  expectRefused({
      {"mapping arena", [](Plan &p) { p.arenas[0].space = Space::mapping; },
       "file mapping"},
      {"huge arena", [](Plan &p) { p.arenas[0].size = UINT64_MAX; }, "beyond"},
      {"persistent", [](Plan &p) { p.arenas[0].persistentBytes = 1 << 30; },
       "persistent part"},
      {"persistent alignment",
       [](Plan &p) { p.arenas[0].persistentBytes -= 32; }, "multiple of 64"},
      {"arena", [](Plan &p) { bufferOf(p, "x").arena = 3; }, "arena 3 of 1"},
      {"alignment", [](Plan &p) { bufferOf(p, "x").offset += 32; },
       "not a multiple of 64"},
      {"beyond the arena", [](Plan &p) { bufferOf(p, "x").offset = 1 << 30; },
       "local part"},
      {"offset overflow",
       [](Plan &p) { bufferOf(p, "x").offset = UINT64_MAX - 63; },
       "local part"},
      {"local in persistent", [](Plan &p) { bufferOf(p, "x").offset = 0; },
       "local part"},
      {"beyond the entry's bytes", [](Plan &p) { micro(p).localBytes -= 64; },
       "local part"},
      {"persistent in local",
       [](Plan &p) { bufferOf(p, "a").offset = p.arenas[0].persistentBytes; },
       "persistent part"},
      {"persistent shifted", [](Plan &p) { bufferOf(p, "a").offset += 64; },
       "before buffers["},
      {"size", [](Plan &p) { bufferOf(p, "x").size -= 1; }, "need 128"},
      {"type", [](Plan &p) { bufferOf(p, "x").dtype = DType::bf16; },
       "need 64"},
      {"no shape", [](Plan &p) { bufferOf(p, "x").shape.clear(); },
       "0 dimensions"},
      {"many dimensions", [](Plan &p) { bufferOf(p, "x").shape = {4, 4, 2}; },
       "3 dimensions"},
      {"zero", [](Plan &p) { bufferOf(p, "x").shape = {0, 8}; }, "extent 0"},
      {"overflow",
       [](Plan &p) {
         bufferOf(p, "x").shape = {uint64_t(1) << 32, uint64_t(1) << 32};
       },
       "extent 4294967296"},
      {"elements",
       [](Plan &p) { bufferOf(p, "x").shape = {0x7fffffff, 0x7fffffff}; },
       "more than"},
      {"entry", [](Plan &p) { bufferOf(p, "x").entry = 7; }, "entry 7 of 2"},
      {"name", [](Plan &p) { bufferOf(p, "x").name.clear(); }, "no name"},
      {"arena and weight", [](Plan &p) { bufferOf(p, "x").weight = 0; },
       "an arena and a weight"},
      {"neither", [](Plan &p) { bufferOf(p, "x").arena = none; },
       "neither an arena nor a weight"},
      {"mapped offset", [](Plan &p) { bufferOf(p, "table").offset = 64; },
       "has no offset"},
      {"mapped local", [](Plan &p) { bufferOf(p, "table").entry = 0; },
       "local to an entry"},
      {"mapped shape", [](Plan &p) { p.weights[0].shape = {10, 9}; },
       "has 90 of f32"},
      {"mapped type", [](Plan &p) { p.weights[0].dtype = DType::i32; },
       "of i32"},
  });
}

TEST(PlanVerifier, Weights) {
  auto slice = [](uint32_t axis, uint64_t start, uint64_t extent) {
    return [=](Plan &p) { p.weights[0].slices = {{axis, start, extent}}; };
  };
  expectRefused({
      {"name", [](Plan &p) { p.weights[0].name.clear(); }, "no name"},
      {"twice", [](Plan &p) { p.weights.push_back(p.weights[0]); },
       "stands twice"},
      {"shape", [](Plan &p) { p.weights[0].shape = {}; }, "0 dimensions"},
      {"slices", [](Plan &p) { p.weights[0].slices.resize(2); }, "2 slices"},
      {"axis", slice(2, 0, 1), "axis 2 of 2"},
      {"slice", slice(0, 8, 3), "not inside the extent 10"},
      {"slice overflow", slice(0, UINT64_MAX, 2), "not inside"},
      {"slice of a mapping", slice(0, 0, 5), "has 40 of f32"},
      {"cut along columns", slice(1, 0, 8), "not one range"},
  });
  Plan whole = tinyPlan();
  slice(0, 0, 10)(whole);
  EXPECT_TRUE(verifyPlan(whole).ok()) << verifyPlan(whole).message();
}

TEST(PlanVerifier, Roles) {
  auto withPort = [](const char *buffer, Port::Kind kind) {
    return
        [=](Plan &p) { p.ports.push_back({kind, "new", indexOf(p, buffer)}); };
  };
  expectRefused({
      {"initializer target", [](Plan &p) { p.initializers[0].buffer = 999; },
       "buffer 999 of"},
      {"initializer of a local",
       [](Plan &p) { p.initializers[0].buffer = indexOf(p, "x"); },
       "not a persistent buffer"},
      {"initializer type",
       [](Plan &p) { p.initializers[0].buffer = indexOf(p, "labels"); },
       "random numbers are f32"},
      {"initializer twice",
       [](Plan &p) { p.initializers.push_back(p.initializers[0]); },
       "another initializer"},
      {"initial weight",
       [](Plan &p) { p.initializers[0].kind = Initializer::Kind::weight; },
       "copies weight"},
      {"initial weight's size",
       [](Plan &p) {
         p.initializers[0].kind = Initializer::Kind::weight;
         p.initializers[0].weight = 0;
       },
       "has 80"},
      {"deviation",
       [](Plan &p) {
         p.initializers[0].standardDeviation =
             std::numeric_limits<double>::quiet_NaN();
       },
       "standard deviation"},
      {"group sums", [](Plan &p) { p.groups[0].tokens = 0; }, "tokens"},
      {"group type",
       [](Plan &p) { p.groups[0].tokens = indexOf(p, "loss_sum"); },
       "needed are 1 of i64"},
      {"rate factor", [](Plan &p) { p.groups[0].rateFactor = -1; },
       "rate factor"},
      {"group twice", [](Plan &p) { p.groups.push_back(p.groups[0]); },
       "stands twice"},
      {"parameter's group", [](Plan &p) { p.parameters[0].group = 4; },
       "group 4 of 1"},
      {"parameter's name", [](Plan &p) { p.parameters[0].name.clear(); },
       "no name"},
      {"gradients", [](Plan &p) { p.parameters[0].gradients.clear(); },
       "no gradient"},
      {"a frozen one's moment",
       [](Plan &p) {
         p.parameters[0].gradients.clear();
         p.parameters[0].firstMoment = none;
       },
       "it has moments, but no gradient"},
      {"gradient's size",
       [](Plan &p) { p.parameters[0].gradients[0] = indexOf(p, "out"); },
       "needed are 32 of f32"},
      {"moment",
       [](Plan &p) { p.parameters[0].secondMoment = indexOf(p, "x"); },
       "not a persistent buffer"},
      {"scale without codes",
       [](Plan &p) { p.parameters[0].firstScale = indexOf(p, "a.v"); },
       "needed are 32 of u8"},
      {"parameter twice",
       [](Plan &p) { p.parameters.push_back(p.parameters[0]); },
       "stands twice"},
      {"port twice", [](Plan &p) { p.ports.push_back(p.ports[0]); },
       "stands twice"},
      {"port of a local", withPort("x", Port::Kind::output),
       "not a persistent buffer"},
      {"port of a mapping", withPort("table", Port::Kind::output),
       "not a persistent buffer"},
      {"scalar port", withPort("out", Port::Kind::scalar),
       "a scalar has one element"},
  });
}

TEST(PlanVerifier, Launches) {
  expectRefused({
      {"stream", [](Plan &p) { micro(p).items[0].stream = 2; },
       "stream 2 of 2"},
      {"kernel", [](Plan &p) { embed(p).kernel = "embed"; },
       "no kernel 'embed'"},
      {"operand count", [](Plan &p) { embed(p).operands.pop_back(); },
       "5 operands, needed are 6"},
      {"operand index", [](Plan &p) { embed(p).operands[0] = 12345; },
       "buffer 12345 of"},
      {"absent operand", [](Plan &p) { embed(p).operands[0] = none; },
       "'ids' is absent"},
      {"other entry's local",
       [](Plan &p) {
         launchOf(p, "update", "fill_zero").operands[0] = indexOf(p, "x");
       },
       "local to entry 'micro_step'"},
      {"write to a mapped weight",
       [](Plan &p) {
         launchOf(p, "micro_step", "fill_zero").operands[0] =
             indexOf(p, "table");
       },
       "read only"},
      {"type", [](Plan &p) { bufferOf(p, "input_ids").dtype = DType::f32; },
       "operand 'ids' has type f32, needed is i32"},
      {"shape", [](Plan &p) { bufferOf(p, "y").shape = {2, 8}; },
       "operand 'y' has shape [2, 8]"},
      {"unknown attribute",
       [](Plan &p) { embed(p).attributes = {{"speed", int64_t(1)}}; },
       "no attribute 'speed'"},
      {"attribute twice",
       [](Plan &p) { linear(p).attributes.assign(2, {"scale", 1.0}); },
       "stands twice"},
      {"attribute kind",
       [](Plan &p) { linear(p).attributes = {{"scale", int64_t(1)}}; },
       "not a real number"},
      {"attribute range",
       [](Plan &p) { linear(p).attributes = {{"row_start", int64_t(-1)}}; },
       "is -1, allowed is 0"},
      {"not a number",
       [](Plan &p) {
         linear(p).attributes = {
             {"scale", std::numeric_limits<double>::quiet_NaN()}};
       },
       "allowed is"},
      {"requirement",
       [](Plan &p) {
         launchOf(p, "micro_step", "compact_rows").attributes = {
             {"seq", int64_t(3)}, {"vocab", int64_t(10)}};
       },
       "rows are whole sequences"},
      {"predicate type",
       [](Plan &p) { embed(p).predicate = {indexOf(p, "a"), 0}; },
       "is not an i32"},
      {"predicate index", [](Plan &p) { embed(p).predicate = {4444, 0}; },
       "buffer 4444"},
      {"in and out overlap",
       [](Plan &p) {
         launchOf(p, "micro_step", "add_fwd").operands[2] = indexOf(p, "y");
       },
       "overlap, and one of them is written"},
      {"module", [](Plan &p) { embed(p).module = "\x1b[31m"; },
       "no printable text"},
  });
}

TEST(PlanVerifier, Workspaces) {
  // The formulas belong to the kernels; some launch has to need one.
  Plan plan = tinyPlan();
  Launch &launch = linear(plan);
  ASSERT_TRUE(launch.sharedWorkspace != none || launch.threadWorkspace != none);
  for (uint32_t Launch::*workspace :
       {&Launch::sharedWorkspace, &Launch::threadWorkspace}) {
    if (launch.*workspace == none)
      continue;
    Plan absent = plan;
    linear(absent).*workspace = none;
    EXPECT_NE(verifyPlan(absent).message().find("workspace is absent"),
              std::string::npos);
    Plan small = plan;
    Buffer &buffer = small.buffers[launch.*workspace];
    buffer.shape[0] = --buffer.size;
    EXPECT_NE(verifyPlan(small).message().find("needed are"),
              std::string::npos);
    Plan typed = plan;
    typed.buffers[launch.*workspace].dtype = DType::i8;
    EXPECT_NE(verifyPlan(typed).message().find("needed is u8"),
              std::string::npos);
  }
  if (launch.threadWorkspace != none) {
    Plan threads = plan;
    threads.maxThreads = 64;
    EXPECT_NE(verifyPlan(threads).message().find("thread workspace"),
              std::string::npos);
  }
}

TEST(PlanVerifier, CopiesAndCollectives) {
  auto collective = [](uint32_t shard, const char *to) {
    return [=](Plan &p) {
      p.shard = shard;
      Collective exchange{Collective::Kind::allGather, indexOf(p, "a"),
                          indexOf(p, to), "tiny"};
      p.entries[1].items.push_back({0, exchange});
    };
  };
  expectRefused({
      {"copy out of range", [](Plan &p) { first<Copy>(p).size = 128; },
       "not inside buffer"},
      {"copy overflow",
       [](Plan &p) { first<Copy>(p).sourceOffset = UINT64_MAX; },
       "not inside buffer"},
      {"copy destination",
       [](Plan &p) { first<Copy>(p).destinationOffset = 1; },
       "not inside buffer 'out'"},
      {"copy of nothing", [](Plan &p) { first<Copy>(p).size = 0; },
       "copies nothing"},
      {"copy into a weight",
       [](Plan &p) { first<Copy>(p).destination = indexOf(p, "table"); },
       "read only"},
      {"copy onto itself",
       [](Plan &p) { first<Copy>(p).destination = first<Copy>(p).source; },
       "overlap"},
      {"collective alone", collective(1, "a.m"), "more than one rank"},
      {"collective's size", collective(2, "a.m"), "do not fit for 2 ranks"},
  });
}

TEST(PlanVerifier, Events) {
  expectRefused({
      {"event number", [](Plan &p) { first<Record>(p).event = 1000; },
       "beyond the number of items"},
      {"recorded twice",
       [](Plan &p) { micro(p).items.push_back({0, Record{0}}); },
       "recorded twice"},
      {"never recorded",
       [](Plan &p) {
         micro(p).items.insert(micro(p).items.begin(), {1, Wait{5}});
       },
       "has not been recorded"},
      {"waits before the record",
       [](Plan &p) {
         micro(p).items.insert(micro(p).items.begin(), {1, Wait{0}});
       },
       "has not been recorded"},
  });
}

TEST(PlanVerifier, DeletingAnyWaitIsARace) {
  Plan plan = tinyPlan();
  size_t waits = 0;
  for (size_t entry = 0; entry < plan.entries.size(); ++entry)
    for (size_t i = 0; i < plan.entries[entry].items.size(); ++i) {
      if (!std::holds_alternative<Wait>(plan.entries[entry].items[i].action))
        continue;
      ++waits;
      Plan broken = plan;
      auto &items = broken.entries[entry].items;
      items.erase(items.begin() + static_cast<ptrdiff_t>(i));
      Status status = verifyPlan(broken);
      EXPECT_NE(status.message().find("without order after item"),
                std::string::npos)
          << "wait " << i << " of entry " << entry << ": " << status.message();
    }
  EXPECT_EQ(waits, 3u);
}

TEST(PlanVerifier, RaceNamesBothLaunches) {
  Plan plan = tinyPlan();
  auto &items = micro(plan).items;
  std::erase_if(items, [](const Item &item) {
    return std::holds_alternative<Wait>(item.action) && item.stream == 0;
  });
  std::string message = verifyPlan(plan).message();
  EXPECT_NE(message.find("launch fill_zero of tiny.fill_zero"),
            std::string::npos)
      << message;
  EXPECT_NE(message.find("launch linear_dw of tiny.linear_dw"),
            std::string::npos)
      << message;
}

TEST(PlanVerifier, ReadsOfUndefinedBytes) {
  expectRefused({
      {"never written",
       [](Plan &p) { micro(p).items.erase(micro(p).items.begin()); },
       "which nothing in this entry has written"},
      {"overwritten through another buffer",
       [](Plan &p) {
         // A second reader of x, after its bytes became `zeros`.
         Launch late = launchOf(p, "micro_step", "norm_square");
         late.operands[0] = indexOf(p, "x");
         micro(p).items.push_back({0, late});
       },
       "has overwritten through buffer 'zeros'"},
  });
}

TEST(PlanVerifier, ShiftingAnOffsetIsRefused) {
  Plan plan = tinyPlan();
  for (size_t i = 0; i < plan.buffers.size(); ++i) {
    const Buffer &buffer = plan.buffers[i];
    // Other local buffers would move to bytes that are dead: no harm.
    bool matters =
        buffer.entry == none || buffer.name == "x" || buffer.name == "y";
    if (!matters)
      continue;
    Plan shifted = plan;
    shifted.buffers[i].offset += 64;
    EXPECT_FALSE(verifyPlan(shifted).ok()) << buffer.name;
  }
}

/// A chain of launches on two streams with a wait after each, as large as the
/// step of an 80-layer model.
static Plan longPlan(size_t launches) {
  PlanBuilder builder;
  builder.entry("micro_step");
  constexpr size_t width = 50;
  for (size_t i = 0; i < width; ++i)
    builder.local("b" + std::to_string(i), DType::f32, {256, 256});
  builder.launch(0, "fill_zero", {"b0"});
  builder.item(0, Record{0});
  builder.item(1, Wait{0});
  uint32_t event = 1;
  for (size_t i = 1; i < launches; ++i) {
    std::string from = "b" + std::to_string((i - 1) % width);
    builder.launch(i % 2, "cast", {from, "b" + std::to_string(i % width)});
    builder.item(i % 2, Record{event});
    builder.item((i + 1) % 2, Wait{event++});
  }
  return builder.finish();
}

TEST(PlanVerifier, TenThousandLaunchesAreQuick) {
  Plan plan = longPlan(10000);
  auto start = std::chrono::steady_clock::now();
  Status status = verifyPlan(plan);
  double seconds =
      std::chrono::duration<double>(std::chrono::steady_clock::now() - start)
          .count();
  EXPECT_TRUE(status.ok()) << status.message();
  EXPECT_LT(seconds, 0.3);
}

TEST(PlanVerifier, PlansForACard) {
  const Plan good = everyKernelPlan(DType::bf16, DeviceKind::cuda);
  ASSERT_TRUE(verifyPlan(good).ok()) << verifyPlan(good).message();
  auto linear = [](Plan &p) -> Launch & {
    return launchOf(p, "linear_fwd", "linear_fwd");
  };
  auto move = [](Plan &p, uint32_t index, uint64_t bytes) {
    p.arenas[1].persistentBytes = 0;
    Buffer &buffer = p.buffers[index];
    buffer.arena = 1;
    buffer.offset = p.arenas[1].size;
    p.arenas[1].size += (bytes + 63) / 64 * 64;
  };
  const Rule rules[] = {
      {"no workspace of the card's",
       [&](Plan &p) { linear(p).sharedWorkspace = none; },
       "shared workspace is absent"},
      {"no scratch of the CPU's",
       [&](Plan &p) { linear(p).threadWorkspace = none; },
       "thread workspace is absent"},
      {"the card's workspace in pageable memory",
       [&](Plan &p) {
         uint32_t index = linear(p).sharedWorkspace;
         move(p, index, p.buffers[index].size);
       },
       "'shared workspace' is buffer"},
      {"a predicate in pageable memory",
       [&](Plan &p) {
         Buffer flag = p.buffers[linear(p).sharedWorkspace];
         flag.dtype = DType::i32;
         flag.shape = {1};
         flag.size = 4;
         p.buffers.push_back(flag);
         uint32_t index = static_cast<uint32_t>(p.buffers.size() - 1);
         move(p, index, 4);
         linear(p).predicate.buffer = index;
       },
       "'predicate' is buffer"},
      {"scratch one byte short",
       [&](Plan &p) {
         Launch &launch = launchOf(p, "attention_fwd", "attention_fwd");
         Buffer &scratch = p.buffers[launch.threadWorkspace];
         scratch.shape = {--scratch.size};
       },
       "thread workspace"},
  };
  for (const Rule &rule : rules) {
    Plan plan = good;
    rule.breakIt(plan);
    Status status = verifyPlan(plan);
    EXPECT_FALSE(status.ok()) << rule.name << " passed";
    EXPECT_NE(status.message().find(rule.message), std::string::npos)
        << rule.name << " said: " << status.message();
  }
}
