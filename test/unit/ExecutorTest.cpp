//===- ExecutorTest.cpp - the tiny plan, executed -------------------------===//
#include "EveryKernelPlan.h"

#include "peft/CpuDevice.h"
#include "peft/Executor.h"
#include "peft/Safetensors.h"

#include <cmath>
#include <filesystem>
#include <gtest/gtest.h>
#include <unistd.h>

using namespace peft;
using namespace peft::test;

namespace {

/// The table: row i, column j holds (i + 1) / (j + 1).
std::vector<float> tableValues() {
  std::vector<float> values;
  for (int i = 0; i < 10; ++i)
    for (int j = 0; j < 8; ++j)
      values.push_back(float(i + 1) / float(j + 1));
  return values;
}

BoundWeights tableWeights() {
  auto values = std::make_shared<std::vector<float>>(tableValues());
  return {{std::as_bytes(std::span(*values))}, values};
}

Expected<std::unique_ptr<Executor>>
tryExecutor(const Plan &plan, DeviceOptions options = {}, uint64_t seed = 0) {
  if (options.threads == 0)
    options.threads = 2;
  auto device = createCpuDevice(options);
  if (!device.ok())
    return device.status();
  return Executor::create(plan, tableWeights(), std::move(*device), {seed});
}

std::unique_ptr<Executor> makeExecutor(DeviceOptions options = {},
                                       uint64_t seed = 0) {
  auto executor = tryExecutor(tinyPlan(), options, seed);
  EXPECT_TRUE(executor.ok()) << executor.status().message();
  return executor.ok() ? std::move(*executor) : nullptr;
}

void check(const Status &status) {
  EXPECT_TRUE(status.ok()) << status.message();
}

void writeBatch(Executor &executor) {
  check(executor.writeInput<int32_t>("input_ids",
                                     std::vector<int32_t>{1, 9, 0, 3}));
  check(executor.writeInput<int32_t>("labels",
                                     std::vector<int32_t>{1, -100, 0, 3}));
  check(executor.writeScalar("learning_rate", 0.1));
  check(executor.writeScalar("beta1", 0.9));
  check(executor.writeScalar("beta2", 0.999));
  check(executor.writeScalar("epsilon", 1e-8));
  check(executor.writeScalar("weight_decay", 0));
  check(executor.writeScalar("max_grad_norm", 0.0));
}

std::vector<float> parameter(const Executor &executor) {
  std::vector<float> values(32);
  check(executor.readParameter(0, 0, values));
  return values;
}

} // namespace

TEST(Executor, ComputesWhatThePlanSays) {
  auto executor = makeExecutor();
  ASSERT_TRUE(executor);
  writeBatch(*executor);
  std::vector<float> a = parameter(*executor), table = tableValues();
  check(executor->run("micro_step"));
  std::vector<float> out(16);
  check(executor->readOutput<float>("out", out));
  const int ids[] = {1, 9, 0, 3};
  double sum = 0;
  for (int i = 0; i < 4; ++i)
    for (int n = 0; n < 4; ++n) {
      double y = 0;
      for (int k = 0; k < 8; ++k)
        y += double(table[ids[i] * 8 + k]) * a[n * 8 + k];
      EXPECT_NEAR(out[i * 4 + n], 2 * y, 1e-5 * (1 + std::abs(y)));
      sum += 4 * y * y;
    }
  double loss = 0;
  int64_t tokens = 0;
  check(executor->readOutput<double>("loss_sum", std::span(&loss, 1)));
  check(executor->readOutput<int64_t>("tokens", std::span(&tokens, 1)));
  EXPECT_NEAR(loss, sum, 1e-5 * sum);
  EXPECT_EQ(tokens, 2);
  std::vector<float> gradient(32);
  check(executor->readGradient(0, 0, 0, gradient));
  EXPECT_NE(gradient[0], 0);
  check(executor->run("update"));
  double metrics[4];
  check(executor->readOutput<double>("metrics", metrics));
  EXPECT_DOUBLE_EQ(metrics[0], loss / 2);
  EXPECT_EQ(metrics[2], 2);
  EXPECT_EQ(metrics[3], 1);
  // AdamW's first step moves every element by the rate, against the gradient.
  std::vector<float> after = parameter(*executor);
  for (size_t i = 0; i < 32; ++i)
    if (std::abs(gradient[i]) > 1e-3)
      EXPECT_NEAR(after[i] - a[i], gradient[i] > 0 ? -0.1 : 0.1, 1e-4);
  check(executor->readGradient(0, 0, 0, gradient));
  EXPECT_EQ(gradient, std::vector<float>(32, 0.0f));
}

TEST(Executor, PredicateSkipsAStepWithoutTokens) {
  auto executor = makeExecutor();
  ASSERT_TRUE(executor);
  writeBatch(*executor);
  check(executor->writeInput<int32_t>("labels", std::vector<int32_t>(4, -100)));
  std::vector<float> before = parameter(*executor);
  check(executor->run("micro_step"));
  check(executor->run("update"));
  EXPECT_EQ(parameter(*executor), before);
  double metrics[4];
  check(executor->readOutput<double>("metrics", metrics));
  EXPECT_EQ(metrics[3], 0);
}

TEST(Executor, AnIdOutsideTheTableNamesItsPlace) {
  for (int32_t id : {10, -1, INT32_MAX, INT32_MIN}) {
    auto executor = makeExecutor();
    ASSERT_TRUE(executor);
    writeBatch(*executor);
    check(executor->writeInput<int32_t>("input_ids",
                                        std::vector<int32_t>{1, id, 0, 3}));
    Status status = executor->run("micro_step");
    EXPECT_EQ(status.code(), Code::badInput);
    for (const char *part :
         {"entry 'micro_step'", "item 0", "embed_fwd", "tiny.embed_fwd"})
      EXPECT_NE(status.message().find(part), std::string::npos)
          << status.message();
    EXPECT_NE(status.message().find(std::to_string(id)), std::string::npos)
        << status.message();
  }
}

TEST(Executor, SameBitsForThreadsAndSchedules) {
  auto result = [](DeviceOptions options) {
    auto executor = makeExecutor(options, 3);
    writeBatch(*executor);
    for (int step = 0; step < 3; ++step) {
      check(executor->run("micro_step"));
      check(executor->run("micro_step"));
      check(executor->run("update"));
    }
    return parameter(*executor);
  };
  DeviceOptions options;
  options.threads = 1;
  std::vector<float> expected = result(options);
  for (unsigned threads : {2u, 3u, 4u}) {
    options.threads = threads;
    EXPECT_EQ(result(options), expected) << threads << " threads";
  }
  for (uint64_t seed = 0; seed < 10; ++seed)
    for (ScheduleMode mode :
         {ScheduleMode::interleave, ScheduleMode::shuffle}) {
      options.threads = 2;
      options.scheduleSeed = seed;
      options.scheduleMode = mode;
      EXPECT_EQ(result(options), expected) << "schedule seed " << seed;
    }
}

TEST(Executor, InitialValuesComeFromTheSeed) {
  std::vector<float> zero = parameter(*makeExecutor({}, 0));
  EXPECT_EQ(zero, parameter(*makeExecutor({}, 0)));
  EXPECT_NE(zero, parameter(*makeExecutor({}, 1)));
  double bound = 1 / std::sqrt(8.0), largest = 0, sum = 0;
  for (float value : zero) {
    largest = std::max<double>(largest, std::abs(value));
    sum += value;
  }
  EXPECT_LT(largest, bound);
  EXPECT_GT(largest, 0.7 * bound);
  EXPECT_LT(std::abs(sum / 32), 0.3 * bound);
}

TEST(Executor, GaussianInitialValues) {
  Plan plan = tinyPlan();
  plan.initializers[0].kind = Initializer::Kind::gaussian;
  plan.initializers[0].standardDeviation = 0.5;
  auto executor = tryExecutor(plan);
  ASSERT_TRUE(executor.ok()) << executor.status().message();
  double square = 0;
  for (float value : parameter(**executor))
    square += double(value) * value;
  EXPECT_NEAR(std::sqrt(square / 32), 0.5, 0.2);
}

TEST(Executor, InitialWeightsAreWidened) {
  Plan plan = tinyPlan();
  plan.weights.push_back({"start", DType::f16, {4, 8}, {}});
  plan.initializers[0].kind = Initializer::Kind::weight;
  plan.initializers[0].weight = 1;
  // 1, -2, the smallest denormal, infinity
  std::vector<uint16_t> half(32, 0x3c00);
  half[1] = 0xc000;
  half[2] = 0x0001;
  half[3] = 0x7c00;
  BoundWeights weights = tableWeights();
  weights.bytes.push_back(std::as_bytes(std::span(half)));
  auto device = createCpuDevice({});
  ASSERT_TRUE(device.ok());
  auto executor = Executor::create(plan, weights, std::move(*device));
  ASSERT_TRUE(executor.ok()) << executor.status().message();
  std::vector<float> a = parameter(**executor);
  EXPECT_EQ(a[0], 1.0f);
  EXPECT_EQ(a[1], -2.0f);
  EXPECT_EQ(a[2], std::ldexp(1.0f, -24));
  EXPECT_TRUE(std::isinf(a[3]));
}

TEST(Executor, ThreadsAboveThePlansAreRefused) {
  DeviceOptions options;
  options.threads = 5;
  auto executor = tryExecutor(tinyPlan(), options);
  ASSERT_FALSE(executor.ok());
  EXPECT_EQ(executor.status().code(), Code::usage);
  EXPECT_NE(executor.status().message().find("4"), std::string::npos);
}

TEST(Executor, SeveralRanksAreRefused) {
  Plan plan = tinyPlan();
  plan.shard = 2;
  auto executor = tryExecutor(plan);
  ASSERT_FALSE(executor.ok());
  EXPECT_EQ(executor.status().code(), Code::unsuitable);
}

TEST(Executor, PortsCheckNameTypeAndSize) {
  auto executor = makeExecutor();
  ASSERT_TRUE(executor);
  std::vector<int32_t> three(3);
  std::vector<float> four(4);
  EXPECT_EQ(executor->writeInput<int32_t>("nothing", three).code(),
            Code::usage);
  EXPECT_NE(executor->writeInput<int32_t>("labels", three)
                .message()
                .find("holds 4 elements of i32, given are 3 of i32"),
            std::string::npos);
  EXPECT_FALSE(executor->writeInput<float>("labels", four).ok());
  EXPECT_EQ(executor->run("no_entry").code(), Code::badInput);
  EXPECT_TRUE(executor->hasEntry("update"));
  EXPECT_FALSE(executor->hasPort("seed"));
}

TEST(Executor, APostedResultStaysAsItWas) {
  auto executor = makeExecutor();
  ASSERT_TRUE(executor);
  writeBatch(*executor);
  check(executor->run("micro_step"));
  std::vector<int64_t> before(1), posted(1), now(1);
  check(executor->readOutput<int64_t>("tokens", before));
  check(executor->postOutput("tokens", 1));
  check(executor->run("micro_step"));
  check(executor->readOutput<int64_t>("tokens", now));
  check(executor->collectOutput<int64_t>("tokens", 1, posted));
  EXPECT_EQ(posted, before);
  EXPECT_NE(now, before);
  std::vector<double> sum(1), metrics(4);
  EXPECT_EQ(executor->collectOutput<double>("metrics", 1, metrics).code(),
            Code::internal); // 8 bytes are posted there
  EXPECT_EQ(executor->collectOutput<double>("tokens", 1, sum).code(),
            Code::usage);
  EXPECT_EQ(executor->postOutput("nothing", 0).code(), Code::usage);
  EXPECT_EQ(executor->postOutput("tokens", Device::returnSlots).code(),
            Code::internal);
}

TEST(Executor, HighWaterMarkIsThePlan) {
  auto executor = makeExecutor();
  ASSERT_TRUE(executor);
  writeBatch(*executor);
  MemoryUse before = executor->device().memoryUse();
  EXPECT_LT(before.highWaterBytes, before.arenaBytes);
  check(executor->run("micro_step"));
  MemoryUse after = executor->device().memoryUse();
  // The end of the plan's arena is rounded up to the alignment.
  EXPECT_LE(after.highWaterBytes, after.arenaBytes);
  EXPECT_GT(after.highWaterBytes + bufferAlignment, after.arenaBytes);
  EXPECT_GT(after.residentBytes, 0u);
}

TEST(Executor, KernelTimesCountExecutedLaunches) {
  auto executor = makeExecutor();
  ASSERT_TRUE(executor);
  writeBatch(*executor);
  check(executor->run("micro_step"));
  uint64_t launches = 0;
  for (const KernelTime &row : executor->device().kernelTimes())
    launches += row.launches;
  EXPECT_EQ(launches, 8u);
  std::string_view only[] = {"linear_fwd"};
  check(executor->device().replay(0, only));
}

TEST(Executor, EveryKernelRunsOnZeros) {
  // In sanitizer builds this shows that none leaves its operands.
  const Plan plans[] = {everyKernelPlan(DType::f32),
                        everyKernelPlan(DType::bf16),
                        everyKernelPlan(DType::f16),
                        everyKernelPlan(DType::bf16, DeviceKind::cuda)};
  for (const Plan &plan : plans) {
    ASSERT_TRUE(verifyPlan(plan).ok()) << verifyPlan(plan).message();
    auto device = createCpuDevice({});
    ASSERT_TRUE(device.ok());
    auto executor = Executor::create(plan, {}, std::move(*device));
    ASSERT_TRUE(executor.ok()) << executor.status().message();
    for (const KernelSpec &spec : allKernels())
      check((*executor)->run(spec.name));
    EXPECT_EQ((*executor)->device().kernelTimes().size(), allKernels().size());
  }
}

TEST(Executor, TheScratchOfTheCpuEndsWithItsArena) {
  // Behind an arena lies a page that cannot be touched.
  for (const char *kernel : {"attention_fwd", "attention_bwd", "linear_fwd"}) {
    Plan plan = everyKernelPlan(DType::bf16, DeviceKind::cuda, kernel);
    ASSERT_TRUE(verifyPlan(plan).ok()) << verifyPlan(plan).message();
    const Launch &launch = launchOf(plan, kernel, kernel);
    ASSERT_EQ(plan.arenas[1].size, plan.buffers[launch.threadWorkspace].size);
    auto device = createCpuDevice({.threads = plan.maxThreads});
    ASSERT_TRUE(device.ok());
    auto executor = Executor::create(plan, {}, std::move(*device));
    ASSERT_TRUE(executor.ok()) << executor.status().message();
    check((*executor)->run(kernel));
  }
}

TEST(Executor, WildIndicesAreFaultsAndNothingElse) {
  // Whatever the i32 buffers hold (ids, indices, counts, labels), a kernel
  // reports it or copes; it never leaves its operands.
  for (int32_t wild : {-1, 5, 10, 1000000, INT32_MAX, INT32_MIN}) {
    Plan plan = everyKernelPlan(DType::f32);
    auto device = createCpuDevice({});
    ASSERT_TRUE(device.ok());
    auto executor = Executor::create(plan, {}, std::move(*device));
    ASSERT_TRUE(executor.ok()) << executor.status().message();
    for (uint32_t i = 0; i < plan.buffers.size(); ++i) {
      const Buffer &buffer = plan.buffers[i];
      if (buffer.dtype != DType::i32)
        continue;
      std::vector<int32_t> values(buffer.size / sizeof(int32_t), wild);
      check(
          (*executor)->device().write(i, 0, std::as_bytes(std::span(values))));
    }
    for (const KernelSpec &spec : allKernels()) {
      Status status = (*executor)->run(spec.name);
      EXPECT_TRUE(status.ok() || status.code() == Code::badInput)
          << status.message();
    }
    EXPECT_FALSE((*executor)->run("embed_fwd").ok() && wild != 5);
  }
}

TEST(Executor, BindsWeightsByNameShapeAndType) {
  namespace fs = std::filesystem;
  fs::path directory =
      fs::temp_directory_path() / ("peft-bind-" + std::to_string(::getpid()));
  fs::create_directories(directory);
  check(writeFileAtomically((directory / "config.json").string(), "{}"));
  std::vector<float> values = tableValues();
  TensorToWrite tensor;
  tensor.name = "table";
  tensor.shape = {10, 8};
  tensor.bytes = std::as_bytes(std::span(values));
  check(writeSafetensors((directory / "model.safetensors").string(), {tensor}));
  Plan plan = tinyPlan();
  auto bound = bindWeights(plan, directory.string());
  ASSERT_TRUE(bound.ok()) << bound.status().message();
  EXPECT_EQ(std::memcmp(bound->bytes[0].data(), values.data(),
                        values.size() * sizeof(float)),
            0);
  auto refused = [&](const char *part) {
    auto other = bindWeights(plan, directory.string());
    EXPECT_FALSE(other.ok());
    EXPECT_EQ(other.status().code(), Code::badInput);
    EXPECT_NE(other.status().message().find(part), std::string::npos)
        << other.status().message();
    EXPECT_NE(other.status().message().find("another model"),
              std::string::npos);
  };
  plan.weights[0].shape = {8, 10};
  refused("the plan needs f32[8, 10]");
  plan.weights[0].shape = {10, 8};
  plan.weights[0].dtype = DType::bf16;
  refused("the plan needs bf16[10, 8]");
  plan.weights[0].name = "lm_head.weight";
  refused("there is no tensor of this name");
  fs::remove_all(directory);
}
