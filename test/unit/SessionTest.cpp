//===- SessionTest.cpp - a run from flags to files ------------------------===//
#include "peft/Session.h"

#include "TemporaryFiles.h"
#include "TrainPlan.h"
#include "peft/AdapterConfig.h"
#include "peft/CpuDevice.h"
#include "peft/Json.h"
#include "peft/Safetensors.h"

#include <cmath>
#include <gtest/gtest.h>
#include <limits>
#include <nlohmann/json.hpp>
#include <sstream>

using namespace peft;
using namespace peft::test;

namespace {

Expected<std::unique_ptr<Device>> noCard(unsigned, const DeviceOptions &) {
  return Status::error(Code::unsuitable, "there is no card in tests");
}
constexpr const char *moduleKey =
    "base_model.model.model.layers.0.mlp.up_proj.";

/// A model, a plan and data in a directory of their own.
class SessionTest : public testing::Test {
protected:
  void SetUp() override {
    files.write("model/config.json", modelConfigText);
    fill(table, 96, 0.5f);
    fill(weight, 64, 0.25f);
    writeModelWeights();
    writePlan(TrainPlan().finish());
    // After token k comes k + 1: what the layer has to learn.
    writeRows("rows.safetensors",
              {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 0, 3, 4, 5, 6, 2, 3, 4, 5});
    options.plan = files.path("step.plan");
    options.model = files.path("model");
    options.data = files.path("rows.safetensors");
    options.output = files.path("out");
    options.quiet = true;
    options.threads = 2;
    options.train.steps = 30;
    options.train.learningRate = 0.05;
  }

  static void fill(std::vector<float> &values, size_t count, float size) {
    for (size_t i = 0; i < count; ++i)
      values.push_back(size * std::sin(static_cast<float>(7 * i + 1)));
  }
  void writeModelWeights() {
    ASSERT_TRUE(writeSafetensors(files.path("model/model.safetensors"),
                                 {tensor(tableName, {12, 8}, table),
                                  tensor(weightName, {8, 8}, weight)})
                    .ok());
  }
  template <typename T>
  static TensorToWrite tensor(const std::string &name,
                              std::vector<int64_t> shape,
                              const std::vector<T> &values) {
    return {name,
            std::is_same_v<T, float> ? DType::f32 : DType::i32,
            std::move(shape),
            std::as_bytes(std::span(values)),
            {}};
  }
  void writePlan(const Plan &plan) {
    Status status = verifyPlan(plan);
    ASSERT_TRUE(status.ok()) << status.message();
    files.write("step.plan", serializePlan(plan));
  }
  void writeRows(const std::string &name, std::vector<int32_t> ids,
                 int32_t label = 0) {
    std::vector<int32_t> labels(ids.size(), label);
    if (label == 0)
      labels = ids;
    auto rows = static_cast<int64_t>(ids.size() / 4);
    ASSERT_TRUE(writeSafetensors(files.path(name),
                                 {tensor("input_ids", {rows, 4}, ids),
                                  tensor("labels", {rows, 4}, labels)})
                    .ok());
  }

  Status run() {
    return runSession(options,
                      [](const std::string &name, const Plan &plan,
                         const DeviceOptions &wanted) {
                        return chooseDevice({createCpuDevice, noCard}, name,
                                            plan, wanted);
                      });
  }
  void expectOk() {
    Status status = run();
    ASSERT_TRUE(status.ok()) << status.message();
  }
  std::vector<nlohmann::json> metrics() {
    auto text = readFile(files.path("out/metrics.jsonl"));
    std::vector<nlohmann::json> lines;
    if (!text.ok())
      return lines;
    std::istringstream stream(*text);
    for (std::string line; std::getline(stream, line);)
      lines.push_back(*parseJson(line, "metrics.jsonl"));
    return lines;
  }
  std::vector<float> readTensor(const std::string &file,
                                const std::string &name) {
    auto opened = SafetensorsFile::open(files.path(file));
    if (!opened.ok() || !opened->find(name))
      return {};
    ByteSpan bytes = opened->bytes(*opened->find(name));
    std::vector<float> values(bytes.size() / sizeof(float));
    std::memcpy(values.data(), bytes.data(), bytes.size());
    return values;
  }

  TemporaryDirectory files;
  std::vector<float> table, weight;
  RunOptions options;
};
} // namespace

TEST_F(SessionTest, trainingLowersTheLossAndWritesAnAdapter) {
  expectOk();
  std::vector<nlohmann::json> lines = metrics();
  ASSERT_EQ(lines.size(), 30u);
  EXPECT_EQ(lines[0]["step"], 1);
  EXPECT_EQ(lines[0]["tokens"], 6) << "two rows of four tokens, three trained";
  EXPECT_EQ(lines[0]["lr"], 0.05);
  EXPECT_LT(lines[29]["loss"].get<double>(),
            0.8 * lines[0]["loss"].get<double>());
  auto adapter = openAdapter(files.path("out"));
  ASSERT_TRUE(adapter.ok()) << adapter.status().message();
  EXPECT_EQ(adapter->config.rank, 2);
  EXPECT_EQ(adapter->config.baseModelName, options.model);
  EXPECT_EQ(adapter->tensors.header().tensors.size(), 2u);
  EXPECT_TRUE(adapter->tensors.find(std::string(moduleKey) + "lora_A.weight"));
}

TEST_F(SessionTest, aSavedAdapterIsWhereTheNextRunStarts) {
  options.train.schedule = Schedule::constant;
  options.evalData = options.data;
  expectOk();
  double loss = metrics().back()["eval_loss"];
  options.initAdapter = options.output;
  options.train.steps = 1;
  options.train.learningRate = 0;
  expectOk();
  EXPECT_EQ(metrics().back()["eval_loss"].get<double>(), loss);
}

TEST_F(SessionTest, theSplitIntoMicroBatchesChangesNoBit) {
  options.train.gradAccum = 2;
  expectOk();
  std::vector<float> once =
      readTensor("out/adapter_model.safetensors",
                 std::string(moduleKey) + "lora_B.weight");
  options.scheduleSeed = 4;
  options.threads = 1;
  expectOk();
  EXPECT_EQ(readTensor("out/adapter_model.safetensors",
                       std::string(moduleKey) + "lora_B.weight"),
            once);
  EXPECT_EQ(metrics()[0]["tokens"], 12);
}

TEST_F(SessionTest, dumpedGradientsAreMeansAndHavePeftNames) {
  options.train.steps = 1;
  options.dumpGradients = files.path("gradients.safetensors");
  expectOk();
  std::vector<float> a = readTensor("gradients.safetensors",
                                    std::string(moduleKey) + "lora_A.weight");
  std::vector<float> b = readTensor("gradients.safetensors",
                                    std::string(moduleKey) + "lora_B.weight");
  ASSERT_EQ(a.size(), 16u);
  ASSERT_EQ(b.size(), 16u);
  for (float value : a)
    EXPECT_EQ(value, 0) << "B is zero at the start";
  double norm = 0;
  for (float value : b)
    norm += static_cast<double>(value) * value;
  EXPECT_NEAR(std::sqrt(norm), metrics()[0]["grad_norm"].get<double>(),
              1e-6 * std::sqrt(norm))
      << "divided by the tokens, before clipping";
}

TEST_F(SessionTest, aTensorWithoutGradientIsNamed) {
  TrainPlan builder;
  Plan plan = builder.finish();
  std::erase_if(plan.entries[0].items, [&](const Item &item) {
    auto *launch = std::get_if<Launch>(&item.action);
    return launch && launch->kernel == "linear_dw";
  });
  writePlan(plan);
  EXPECT_TRUE(failsWith(run(), Code::badInput,
                        "lora_B.weight is all zero after the first step"));
  EXPECT_FALSE(isDirectory(options.output)) << "nothing is left behind";
}

TEST_F(SessionTest, aNotANumberInAWeightIsNamedWithItsPlace) {
  weight[8 * 3 + 5] = std::numeric_limits<float>::quiet_NaN();
  writeModelWeights();
  Status status = run();
  EXPECT_TRUE(failsWith(status, Code::nonFinite, "step 1"));
  EXPECT_TRUE(failsWith(status, Code::nonFinite,
                        std::string(weightName) + " [3, 5] is NaN in " +
                            files.path("model/model.safetensors")));
  EXPECT_TRUE(failsWith(status, Code::nonFinite, "rows "));
  EXPECT_FALSE(isDirectory(options.output));
}

TEST_F(SessionTest, theMicroBatchWhoseLossBreaksIsNamed) {
  table[11 * 8] = std::numeric_limits<float>::infinity();
  writeModelWeights();
  writeRows("rows.safetensors",
            {0, 1, 2, 3, 4, 5, 6, 7, 1, 11, 2, 3, 4, 5, 6, 7});
  options.train.shuffle = false;
  options.train.gradAccum = 2;
  Status status = run();
  // The head uses the table, too: the loss breaks in the first micro-batch.
  EXPECT_TRUE(failsWith(status, Code::nonFinite,
                        "the loss is not finite in micro-batch 0, rows 0, 1;"));
  EXPECT_TRUE(failsWith(status, Code::nonFinite, "is infinite in"));
}

TEST_F(SessionTest, aStepWithoutTrainedTokensIsSkippedAndCounted) {
  std::vector<int32_t> ids(16, 1), labels(16, -100);
  labels[13] = 2;
  ASSERT_TRUE(writeSafetensors(options.data, {tensor("input_ids", {4, 4}, ids),
                                              tensor("labels", {4, 4}, labels)})
                  .ok());
  options.train.shuffle = false;
  options.train.steps = 2;
  expectOk();
  std::vector<nlohmann::json> lines = metrics();
  ASSERT_EQ(lines.size(), 2u);
  EXPECT_EQ(lines[0]["skipped"], true);
  EXPECT_EQ(lines[0]["tokens"], 0);
  EXPECT_FALSE(lines[1].contains("skipped"));
  EXPECT_EQ(lines[1]["tokens"], 1);
}

TEST_F(SessionTest, aPlanThatIsSafeButTrainsNothingIsRefused) {
  files.write("step.plan", serializePlan(tinyPlan()));
  EXPECT_TRUE(failsWith(run(), Code::badInput, "no entry 'eval'"));
  Plan plan = TrainPlan().finish();
  plan.seq = INT32_MAX;
  writePlan(plan);
  EXPECT_TRUE(failsWith(run(), Code::badInput, "port 'input_ids' has 8"));
  plan = TrainPlan().finish();
  std::erase_if(plan.ports, [](const Port &p) { return p.name == "metrics"; });
  writePlan(plan);
  EXPECT_TRUE(failsWith(run(), Code::badInput, "'metrics' is missing"));
}

TEST_F(SessionTest, aProfileLeavesTheAdapterAlone) {
  expectOk();
  std::vector<float> plain =
      readTensor("out/adapter_model.safetensors",
                 std::string(moduleKey) + "lora_B.weight");
  options.profile = true;
  options.evalData = options.data;
  expectOk();
  EXPECT_EQ(readTensor("out/adapter_model.safetensors",
                       std::string(moduleKey) + "lora_B.weight"),
            plain);
}

TEST_F(SessionTest, aTraceShowsEveryLaunchAndLeavesTheAdapterAlone) {
  expectOk();
  std::string key = std::string(moduleKey) + "lora_B.weight";
  std::vector<float> plain = readTensor("out/adapter_model.safetensors", key);
  options.trace = files.path("trace.json");
  expectOk();
  EXPECT_EQ(readTensor("out/adapter_model.safetensors", key), plain);
  auto trace = readJsonObject(options.trace);
  ASSERT_TRUE(trace.ok()) << trace.status().message();
  auto plan = loadPlan(options.plan);
  ASSERT_TRUE(plan.ok());
  std::map<std::string, int> seen; // by process, entry and item
  std::map<std::string, double> ends;
  for (const nlohmann::json &event : (*trace)["traceEvents"]) {
    if (event["ph"] != "X")
      continue;
    const nlohmann::json &about = event["args"];
    ++seen[event["pid"].dump() + about["entry"].dump() + about["item"].dump()];
    const Entry &entry =
        plan->entries[plan->findEntry(about["entry"].get<std::string>())];
    const Item &item = entry.items[about["item"].get<size_t>()];
    if (const auto *launch = std::get_if<Launch>(&item.action)) {
      EXPECT_EQ(event["name"], launch->kernel);
      EXPECT_EQ(about["module"], launch->module);
    }
    double &end = ends[event["pid"].dump() + event["tid"].dump()];
    EXPECT_GE(event["ts"].get<double>(), end - 0.01) << event.dump();
    end = event["ts"].get<double>() + event["dur"].get<double>();
  }
  size_t expected = 0;
  for (const char *name : {"micro_step", "update"})
    for (const Item &item : plan->entries[plan->findEntry(name)].items)
      if (std::holds_alternative<Launch>(item.action) ||
          std::holds_alternative<Copy>(item.action))
        expected += 2;
  EXPECT_EQ(seen.size(), expected);
  for (const auto &[what, times] : seen)
    EXPECT_EQ(times, 1) << what;
}

TEST_F(SessionTest, checkTouchesExactlyThePlannedMemory) {
  options.data = options.output = "";
  options.check = true;
  expectOk();
}

TEST_F(SessionTest, greedyAnswersFollowTheTrainedRule) {
  options.train.steps = 300;
  options.train.schedule = Schedule::constant;
  expectOk();
  files.write("prompts.jsonl", "{\"ids\": [0]}\n{\"ids\": [4, 5]}\n\n"
                               "{\"ids\": [2]}\n");
  options.data = options.output = "";
  options.generate.promptFile = files.path("prompts.jsonl");
  options.generate.answerFile = files.path("answers.jsonl");
  options.generate.adapter = "mine=" + files.path("out");
  expectOk();
  auto text = readFile(files.path("answers.jsonl"));
  ASSERT_TRUE(text.ok());
  EXPECT_EQ(*text, "{\"ids\": [1,2,3]}\n{\"ids\": [6,7]}\n{\"ids\": [3,4,5]}\n")
      << "up to the end of the plan's row";
  options.generate.maxNewTokens = 1;
  options.generate.adapter = "";
  options.generate.noAdapter = true;
  expectOk();
  EXPECT_NE(*readFile(files.path("answers.jsonl")), *text);
}

TEST_F(SessionTest, anAnswerNeedsToKnowWhose) {
  options.data = options.output = "";
  options.generate.prompts = {"hello"};
  EXPECT_TRUE(failsWith(run(), Code::usage, "--no-adapter"));
}

TEST_F(SessionTest, anAdapterOfOtherModulesIsRefusedByKey) {
  expectOk();
  std::string path = files.path("out/adapter_model.safetensors");
  std::vector<float> values(16);
  ASSERT_TRUE(
      writeSafetensors(
          path,
          {tensor("base_model.model.q_proj.lora_A.weight", {2, 8}, values),
           tensor(std::string(moduleKey) + "lora_A.weight", {2, 8}, values)})
          .ok());
  options.initAdapter = options.output;
  Status status = run();
  EXPECT_TRUE(failsWith(status, Code::badInput, "1 missing keys"));
  EXPECT_TRUE(failsWith(status, Code::badInput, "1 unexpected keys"));
  EXPECT_TRUE(failsWith(status, Code::badInput, "lora_B.weight"));
  ASSERT_TRUE(
      writeSafetensors(
          path,
          {tensor(std::string(moduleKey) + "lora_A.weight", {8, 2}, values),
           tensor(std::string(moduleKey) + "lora_B.weight", {8, 2}, values)})
          .ok());
  EXPECT_TRUE(failsWith(run(), Code::badInput, "the plan needs [2, 8]"));
}

TEST_F(SessionTest, theOrderOfPatternsInASavedAdapterSaysNothing) {
  TrainPlan builder;
  builder.build.plan.adapterConfig =
      R"({"peft_type": "LORA", "r": 8, "lora_alpha": 4,
          "rank_pattern": {"up_proj": 2, "down_proj": 4},
          "target_modules": ["up_proj"]})";
  writePlan(builder.finish());
  expectOk();
  options.initAdapter = options.output;
  expectOk();
}

TEST_F(SessionTest, anAdapterWithAnotherScaleIsRefused) {
  expectOk();
  files.write("out/adapter_config.json",
              R"({"peft_type": "LORA", "r": 2, "lora_alpha": 8,
                  "target_modules": ["up_proj"]})");
  options.initAdapter = options.output;
  EXPECT_TRUE(failsWith(run(), Code::badInput, "lora_alpha"));
}

TEST_F(SessionTest, aWholeModelIsSavedInItsOwnTypeOrAnother) {
  writePlan(TrainPlan(TrainPlan::Kind::model).finish());
  options.train.steps = 3;
  expectOk();
  std::vector<float> saved = readTensor("out/model.safetensors", weightName);
  ASSERT_EQ(saved.size(), 64u);
  EXPECT_NE(saved, weight);
  EXPECT_EQ(readTensor("out/model.safetensors", tableName), table)
      << "what is not trained is copied";
  EXPECT_EQ(*readFile(files.path("out/config.json")), modelConfigText);
  options.saveDType = DType::bf16;
  expectOk();
  auto file = SafetensorsFile::open(files.path("out/model.safetensors"));
  ASSERT_TRUE(file.ok());
  EXPECT_EQ(file->find(weightName)->type, "BF16");
  EXPECT_EQ(file->find(tableName)->type, "BF16");
  auto config = readJsonObject(files.path("out/config.json"));
  ASSERT_TRUE(config.ok());
  EXPECT_EQ((*config)["torch_dtype"], "bfloat16");
  // The result is a model: it trains on.
  options.model = files.path("out");
  options.output = files.path("again");
  EXPECT_TRUE(failsWith(run(), Code::badInput, "made for another model"))
      << "the plan was compiled for f32 weights";
}

namespace {
/// Runs of a plan in f16, whose scale starts at 2^13: 2^16 / 6 tokens.
class HalfSessionTest : public SessionTest {
protected:
  void SetUp() override {
    SessionTest::SetUp();
    options.train.steps = 12;
    options.train.learningRate = 1e-4;
    writePlan(TrainPlan(TrainPlan::Kind::half).finish());
  }
  /// The head's weights, by which the gradient of the logits is multiplied.
  void scaleTable(float factor) {
    for (float &value : table)
      value *= factor;
    writeModelWeights();
  }
};
} // namespace

TEST_F(HalfSessionTest, anOverflowIsSkippedTheScaleIsHalvedAndTheRunRecovers) {
  scaleTable(200);
  expectOk();
  std::vector<nlohmann::json> lines = metrics();
  ASSERT_EQ(lines.size(), 12u);
  EXPECT_EQ(lines[0]["loss_scale"], 8192);
  EXPECT_EQ(lines[0]["skipped"], true);
  EXPECT_TRUE(lines[0]["grad_norm"].is_null());
  EXPECT_EQ(lines[11]["skipped"], false);
  double scale = 8192;
  int applied = 0;
  for (const nlohmann::json &line : lines) {
    EXPECT_EQ(line["loss_scale"], scale) << line;
    EXPECT_TRUE(line["loss"].is_number());
    EXPECT_EQ(line["tokens"], 6);
    EXPECT_NEAR(line["lr"].get<double>(), 1e-4 * (12 - applied) / 12, 1e-12)
        << "a skipped step does not move the schedule on";
    if (line["skipped"])
      scale /= 2;
    else
      ++applied;
  }
  EXPECT_GT(applied, 4);
  EXPECT_LT(applied, 12);
}

TEST_F(HalfSessionTest, aSkippedStepChangesNothing) {
  scaleTable(200);
  writeRows("rows.safetensors", {0, 1, 2, 3, 4, 5, 6, 7});
  options.train.schedule = Schedule::constant;
  options.dumpGradients = files.path("gradients.safetensors");
  expectOk();
  uint64_t skipped = 0;
  for (const nlohmann::json &line : metrics())
    skipped += line["skipped"].get<bool>();
  ASSERT_GT(skipped, 0u);
  options.train.steps = skipped + 1;
  expectOk();
  std::string name = std::string(moduleKey) + "lora_B.weight";
  std::vector<float> one = readTensor("out/adapter_model.safetensors", name);
  // AdamW's first step moves every element by the rate, whatever the gradient:
  // had a skipped step advanced its count or its moments, it would not.
  for (float value : one)
    EXPECT_NEAR(std::fabs(value), 1e-4, 1e-7);
  std::vector<float> gradient = readTensor("gradients.safetensors", name);
  ASSERT_EQ(gradient.size(), one.size());
  for (float value : gradient)
    EXPECT_TRUE(std::isfinite(value))
        << "dumped are those of the first step that was not skipped";
}

TEST_F(HalfSessionTest, theScaleDoublesAfterGoodStepsInARow) {
  Plan plan = TrainPlan(TrainPlan::Kind::half).finish();
  launchOf(plan, "update", "adjust_loss_scale").attributes = {
      {"growth_interval", int64_t(5)}};
  writePlan(plan);
  expectOk();
  std::vector<nlohmann::json> lines = metrics();
  const double expected[] = {8192,  8192,  8192,  8192,  8192,  16384,
                             16384, 16384, 16384, 16384, 32768, 32768};
  for (size_t i = 0; i < std::size(expected); ++i)
    EXPECT_EQ(lines[i]["loss_scale"], expected[i]) << i;
}

TEST_F(HalfSessionTest, theScaleIsThatOfTheFirstStepWithTokens) {
  std::vector<int32_t> ids(24, 1), labels(24, -100);
  labels[13] = labels[14] = labels[21] = 2;
  ASSERT_TRUE(writeSafetensors(options.data, {tensor("input_ids", {6, 4}, ids),
                                              tensor("labels", {6, 4}, labels)})
                  .ok());
  options.train.shuffle = false;
  options.train.steps = 3;
  expectOk();
  std::vector<nlohmann::json> lines = metrics();
  EXPECT_FALSE(lines[0].contains("loss_scale")) << "nothing to scale";
  EXPECT_EQ(lines[0]["skipped"], true);
  EXPECT_EQ(lines[1]["loss_scale"], 32768) << "two tokens";
  EXPECT_EQ(lines[2]["loss_scale"], 32768);
  options.train.gradAccum = 3;
  options.train.steps = 1;
  expectOk();
  EXPECT_EQ(metrics()[0]["loss_scale"], 16384) << "2^16 / 3, rounded";
}

TEST_F(HalfSessionTest, gradientsAreDumpedWithoutTheScale) {
  options.train.steps = 1;
  options.dumpGradients = files.path("half.safetensors");
  expectOk();
  double norm = metrics()[0]["grad_norm"];
  writePlan(TrainPlan().finish());
  options.dumpGradients = files.path("single.safetensors");
  expectOk();
  EXPECT_NEAR(norm, metrics()[0]["grad_norm"].get<double>(), 1e-3 * norm);
  std::string name = std::string(moduleKey) + "lora_B.weight";
  std::vector<float> half = readTensor("half.safetensors", name),
                     single = readTensor("single.safetensors", name);
  ASSERT_EQ(half.size(), single.size());
  for (size_t i = 0; i < half.size(); ++i)
    EXPECT_NEAR(half[i], single[i], 2e-3 * norm);
}

TEST_F(HalfSessionTest, gradientsThatNoScaleMakesFiniteEndTheRun) {
  scaleTable(1e10f);
  options.train.steps = 5;
  EXPECT_TRUE(failsWith(run(), Code::nonFinite, "every step overflowed"));
  options.train.steps = 100;
  Status status = run();
  EXPECT_TRUE(failsWith(status, Code::nonFinite,
                        "step 28: the gradient norm at the smallest loss "
                        "scale is not finite, rows "));
  EXPECT_TRUE(failsWith(status, Code::nonFinite, "more than f16 can hold"));
  EXPECT_EQ(metrics().size(), 27u) << "2^13 is halved 27 times";
}

TEST_F(HalfSessionTest, aLossThatIsNotFiniteIsNoOverflow) {
  weight[8 * 3 + 5] = std::numeric_limits<float>::quiet_NaN();
  writeModelWeights();
  EXPECT_TRUE(
      failsWith(run(), Code::nonFinite, "step 1: the loss is not finite"));
}

TEST_F(HalfSessionTest, aPlanInHalfWithoutAScaleIsRefused) {
  Plan plan = TrainPlan(TrainPlan::Kind::half).finish();
  std::erase_if(plan.ports,
                [](const Port &p) { return p.name == "loss_scale"; });
  writePlan(plan);
  EXPECT_TRUE(failsWith(run(), Code::badInput, "'loss_scale' is missing"));
}

TEST_F(HalfSessionTest, checkRunsAPlanInHalf) {
  options.data = options.output = "";
  options.check = true;
  expectOk();
}
