//===- CudaDeviceTest.cpp - the CUDA device through its interface ---------===//
//
// Over the card made of host code. What it promises: see peft/Device.h.
//
//===----------------------------------------------------------------------===//
#include "TinyPlan.h"

#include "peft/CpuDevice.h"
#include "peft/DevicePlugin.h"
#include "peft/Executor.h"

#include <cmath>
#include <gtest/gtest.h>

using namespace peft;
using namespace peft::test;

namespace {

Expected<std::unique_ptr<Device>> openCard(const DeviceOptions &options = {}) {
  PEFT_ASSIGN(const DevicePlugin *plugin,
              openDevicePlugin("libpeft_card.so", "PEFT_CARD_PLUGIN"));
  return plugin->create(0, options);
}

BoundWeights tableWeights() {
  auto values = std::make_shared<std::vector<float>>();
  for (int i = 0; i < 80; ++i)
    values->push_back(std::sin(static_cast<float>(i)));
  return {{std::as_bytes(std::span(*values))}, values};
}

std::unique_ptr<Executor> makeExecutor(Expected<std::unique_ptr<Device>> device,
                                       const Plan &plan = tinyPlan()) {
  EXPECT_TRUE(device.ok()) << device.status().message();
  if (!device.ok())
    return nullptr;
  auto executor =
      Executor::create(plan, tableWeights(), std::move(*device), {.seed = 3});
  EXPECT_TRUE(executor.ok()) << executor.status().message();
  return executor.ok() ? std::move(*executor) : nullptr;
}

void check(const Status &status) {
  EXPECT_TRUE(status.ok()) << status.message();
}

void writeBatch(Executor &executor, std::vector<int32_t> ids) {
  check(executor.writeInput<int32_t>("input_ids", ids));
  check(executor.writeInput<int32_t>("labels",
                                     std::vector<int32_t>{1, -100, 0, 3}));
  for (auto [name, value] :
       {std::pair("learning_rate", 0.1), {"beta1", 0.9}, {"beta2", 0.999},
        {"epsilon", 1e-8}, {"weight_decay", 0.01}, {"max_grad_norm", 1.0}})
    check(executor.writeScalar(name, value));
}

/// Three steps; the parameter after each and the metrics.
std::vector<double> train(Executor &executor) {
  std::vector<double> numbers;
  for (int step = 0; step < 3; ++step) {
    // Written while the step before may still run.
    writeBatch(executor, {1, 9, step, 3});
    check(executor.run("micro_step"));
    writeBatch(executor, {step + 4, 2, 0, 7});
    check(executor.run("micro_step"));
    check(executor.run("update"));
  }
  std::vector<float> values(32);
  check(executor.readParameter(0, 0, values));
  numbers.assign(values.begin(), values.end());
  std::vector<double> metrics(4);
  check(executor.readOutput<double>("metrics", metrics));
  numbers.insert(numbers.end(), metrics.begin(), metrics.end());
  return numbers;
}

} // namespace

TEST(CudaDevice, trainsAsTheCpuDoes) {
  auto cpu = makeExecutor(createCpuDevice({}));
  auto card = makeExecutor(openCard());
  ASSERT_TRUE(cpu && card);
  std::vector<double> expected = train(*cpu), found = train(*card);
  for (size_t i = 0; i < expected.size(); ++i)
    EXPECT_NEAR(found[i], expected[i], 1e-5 * std::max(1.0, std::fabs(expected[i])))
        << i;
}

TEST(CudaDevice, aTokenOutsideTheTableIsNamedByALaterCall) {
  auto card = makeExecutor(openCard());
  ASSERT_TRUE(card);
  writeBatch(*card, {1, 9, 10, 3});
  check(card->run("micro_step")); // nobody has waited yet
  Status status = card->device().finish();
  EXPECT_EQ(status.code(), Code::badInput);
  for (const char *part : {"entry 'micro_step'", "item 0", "embed_fwd",
                           "tiny.embed_fwd", "found 10", "limit 10"})
    EXPECT_NE(status.message().find(part), std::string::npos)
        << status.message();
  // It stays.
  std::vector<float> out(16);
  EXPECT_EQ(card->readOutput<float>("out", out).code(), Code::badInput);
  EXPECT_EQ(card->run("micro_step").code(), Code::badInput);
}

TEST(CudaDevice, aPostedResultDoesNotWaitForWhatFollows) {
  auto card = makeExecutor(openCard());
  ASSERT_TRUE(card);
  for (unsigned slot : {0u, 1u}) {
    // The second batch has a token outside the table.
    writeBatch(*card, {1, 9, slot ? 10 : 2, 3});
    check(card->run("micro_step"));
    check(card->run("update"));
    check(card->postOutput("metrics", slot));
  }
  std::vector<double> metrics(4);
  check(card->collectOutput<double>("metrics", 0, metrics));
  EXPECT_EQ(metrics[2], 2);
  EXPECT_EQ(metrics[3], 1);
  EXPECT_EQ(card->collectOutput<double>("metrics", 1, metrics).code(),
            Code::badInput);
}

TEST(CudaDevice, slotsOfResultsAreChecked) {
  auto card = makeExecutor(openCard());
  ASSERT_TRUE(card);
  std::vector<double> metrics(4);
  EXPECT_EQ(card->collectOutput<double>("metrics", 0, metrics).code(),
            Code::internal); // nothing was posted
  EXPECT_EQ(card->postOutput("metrics", Device::returnSlots).code(),
            Code::internal);
  EXPECT_EQ(card->postOutput("input_ids", 0).code(), Code::ok);
  EXPECT_EQ(card->collectOutput<double>("metrics", 0, metrics).code(),
            Code::internal); // 16 bytes are posted there
}

TEST(CudaDevice, readsMappedWeightsAndWritesNone) {
  auto card = makeExecutor(openCard());
  ASSERT_TRUE(card);
  const Plan &plan = card->plan();
  uint32_t table = 0;
  while (plan.buffers[table].name != "table")
    ++table;
  float value = 0;
  check(card->device().read(table, 12, std::as_writable_bytes(std::span(&value, 1))));
  EXPECT_EQ(value, std::sin(3.0f));
  EXPECT_EQ(card->device().write(table, 0, std::as_bytes(std::span(&value, 1))).code(),
            Code::internal);
  EXPECT_EQ(card->device().read(table, 317, std::as_writable_bytes(std::span(&value, 1))).code(),
            Code::internal);
}

/// A persistent buffer larger than both halves of the staging memory.
TEST(CudaDevice, largeWritesGoThroughTheStagingMemoryInTurns) {
  PlanBuilder builder;
  addTinyState(builder);
  constexpr uint64_t elements = 20u << 20;
  builder.persistent("large", DType::f32, {elements}, BufferClass::activation);
  addTinyMicroStep(builder);
  addTinyUpdate(builder);
  auto card = makeExecutor(openCard(), builder.finish());
  ASSERT_TRUE(card);
  uint32_t large = builder.index("large");
  std::vector<uint32_t> values(elements), back(elements);
  for (uint64_t i = 0; i < elements; ++i)
    values[i] = static_cast<uint32_t>(i * 2654435761u);
  check(card->device().write(large, 0, std::as_bytes(std::span(values))));
  std::vector<uint32_t> copy = values;
  values.assign(elements, 0); // the device may not look at it any more
  check(card->device().read(large, 0, std::as_writable_bytes(std::span(back))));
  EXPECT_TRUE(back == copy);
}

TEST(CudaDevice, ledgerAndMemoryAreThePlans) {
  auto card = makeExecutor(openCard());
  ASSERT_TRUE(card);
  uint64_t arena = card->plan().arenas[0].size;
  EXPECT_EQ(card->device().memoryUse().arenaBytes, arena);
  bool found = false;
  for (const LedgerRow &row : card->device().ledger())
    if (row.name == "arena 0") {
      found = true;
      EXPECT_EQ(row.plannedBytes, arena);
      EXPECT_EQ(row.measuredBytes, arena);
    }
  EXPECT_TRUE(found);
  check(card->run("micro_step"));
  check(card->run("update"));
  EXPECT_LE(card->device().memoryUse().highWaterBytes, arena);
  EXPECT_GT(card->device().memoryUse().highWaterBytes, arena / 2);
}

TEST(CudaDevice, timesKernelsWhenAsked) {
  auto card = makeExecutor(openCard());
  ASSERT_TRUE(card);
  EXPECT_TRUE(card->device().kernelTimes().empty());
  check(card->device().timeKernels(0));
  uint64_t launches = 0;
  for (const KernelTime &time : card->device().kernelTimes())
    launches += time.launches;
  EXPECT_EQ(launches, card->device().schedule(0).launches);
}

TEST(CudaDevice, replayRunsOnlyWhatIsNamed) {
  auto card = makeExecutor(openCard());
  ASSERT_TRUE(card);
  writeBatch(*card, {1, 9, 10, 3}); // embed_fwd would find fault
  std::string_view some[] = {"linear_fwd", "linear_dw"};
  check(card->device().replay(0, some));
  check(card->device().finish());
}

/// Products of a library stand in conditional nodes; without graphs the host
/// looks at the predicate. Those that begin closed are of a shape of their own,
/// which has to run once before it is recorded.
static void expectConditionalProducts() {
  PlanBuilder builder;
  addTinyState(builder);
  for (const char *name : {"p", "q", "r"})
    builder.persistent(name, DType::f32, {4, 4}, BufferClass::activation);
  addTinyMicroStep(builder);
  builder.entry("update");
  auto product = [&](const char *init, const char *to,
                     const Predicate &predicate) {
    builder.launch(0, "linear_fwd", {"out", "out", "", init, "", to})
        .predicate = predicate;
  };
  product("", "p", {builder.index("apply"), 0});
  product("", "q", {builder.index("apply"), 1});
  product("out", "r", {});
  auto card = makeExecutor(openCard(), builder.finish());
  ASSERT_TRUE(card);
  Device &device = card->device();
  auto write = [&](const char *name, auto value, size_t count) {
    const std::vector values(count, value);
    check(device.write(builder.index(name), 0,
                       std::as_bytes(std::span(values))));
  };
  write("out", 1.0f, 16);
  for (int32_t apply : {0, 1, 2, 1, 0}) {
    for (const char *name : {"p", "q", "r"})
      write(name, -1.0f, 16);
    write("apply", apply, 1);
    check(card->run("update"));
    auto is = [&](const char *name) {
      float value = 0;
      check(device.read(builder.index(name), 0,
                        std::as_writable_bytes(std::span(&value, 1))));
      return value;
    };
    EXPECT_EQ(is("p"), apply > 0 ? 4.0f : -1.0f) << apply;
    EXPECT_EQ(is("q"), apply > 1 ? 4.0f : -1.0f) << apply;
    EXPECT_EQ(is("r"), 5.0f) << apply;
  }
}

TEST(CudaDevice, productsRunIffTheirPredicateIsOpen) {
  expectConditionalProducts();
  setenv("PEFT_CUDA", "direct", 1);
  expectConditionalProducts();
  unsetenv("PEFT_CUDA");
}

TEST(CudaDevice, refusesWhatIsForTheCpu) {
  EXPECT_EQ(openCard({.threads = 2, .scheduleSeed = {}}).status().code(), Code::usage);
  EXPECT_EQ(openCard({.scheduleSeed = 7}).status().code(), Code::usage);
}

TEST(CudaDevice, cardsThatCannotBeUsedSayWhy) {
  for (auto [name, value, reason] :
       {std::tuple("PEFT_CARD_BUSY", "1", "test card: "),
        {"PEFT_CARD_NO_CODE", "1", "no code for sm_90"},
        {"PEFT_CARD_CAPABILITY", "61", "older than sm_75"}}) {
    setenv(name, value, 1);
    const Status status = openCard().status();
    unsetenv(name);
    EXPECT_EQ(status.code(), Code::unsuitable) << name;
    EXPECT_NE(status.message().find(reason), std::string::npos)
        << status.message();
  }
}

TEST(CudaDevice, bf16IsRefusedWhereCardsHaveNone) {
  Plan plan = tinyPlan();
  plan.compute = DType::bf16;
  setenv("PEFT_CARD_CAPABILITY", "75", 1);
  auto device = openCard();
  unsetenv("PEFT_CARD_CAPABILITY");
  ASSERT_TRUE(device.ok()) << device.status().message();
  const Status status = (*device)->load(plan, {});
  EXPECT_EQ(status.code(), Code::unsuitable);
  EXPECT_NE(status.message().find("--compute f16 or f32"), std::string::npos)
      << status.message();
}

TEST(CudaDevice, severalRanksAreUnsuitable) {
  Plan plan = tinyPlan();
  plan.shard = 2;
  auto device = openCard();
  ASSERT_TRUE(device.ok());
  auto executor = Executor::create(plan, tableWeights(), std::move(*device));
  EXPECT_EQ(executor.status().code(), Code::unsuitable);
}
