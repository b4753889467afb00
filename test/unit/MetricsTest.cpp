//===- MetricsTest.cpp - metrics.jsonl and the status line ----------------===//
#include "train/Metrics.h"

#include "peft/File.h"
#include "peft/Json.h"
#include "train/Console.h"

#include <cmath>
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>
#include <sstream>

using namespace peft;

TEST(Metrics, aStepIsOneJsonObjectWithThePublishedKeys) {
  StepMetrics metrics;
  metrics.step = 7;
  metrics.loss = 1.25;
  metrics.gradNorm = 0.1;
  metrics.rate = 2e-4;
  metrics.tokens = 96;
  metrics.present = 128;
  metrics.seconds = 0.5;
  Line line;
  format(line, metrics);
  ASSERT_EQ(line.view().back(), '\n');
  auto json = parseJson(line.view(), "line");
  ASSERT_TRUE(json.ok()) << json.status().message();
  EXPECT_EQ((*json)["step"], 7);
  EXPECT_EQ((*json)["loss"], 1.25);
  EXPECT_EQ((*json)["grad_norm"], 0.1) << "the shortest text that reads back";
  EXPECT_EQ((*json)["lr"], 2e-4);
  EXPECT_EQ((*json)["tokens"], 96);
  EXPECT_EQ((*json)["tokens_per_second"], 256);
  EXPECT_EQ((*json)["step_seconds"], 0.5);
  EXPECT_FALSE(json->contains("skipped"));
}

TEST(Metrics, aStepWithoutTokensSaysSoAndStaysJson) {
  StepMetrics metrics;
  metrics.skipped = true;
  metrics.loss = std::nan("");
  Line line;
  format(line, metrics);
  auto json = parseJson(line.view(), "line");
  ASSERT_TRUE(json.ok()) << json.status().message();
  EXPECT_EQ((*json)["skipped"], true);
  EXPECT_TRUE((*json)["loss"].is_null());
}

TEST(Metrics, inHalfTheScaleAndTheSkippedStepsAreSaid) {
  StepMetrics metrics;
  metrics.step = 3;
  metrics.loss = 1.5;
  metrics.gradNorm = INFINITY;
  metrics.tokens = 6;
  metrics.lossScale = 512.0f;
  metrics.skipped = metrics.overflowed = true;
  Line line;
  format(line, metrics);
  auto json = parseJson(line.view(), "line");
  ASSERT_TRUE(json.ok()) << json.status().message();
  EXPECT_EQ((*json)["loss_scale"], 512);
  EXPECT_EQ((*json)["skipped"], true);
  EXPECT_TRUE((*json)["grad_norm"].is_null());
  StatusView view{&metrics, 40, 1 << 20, 1 << 20, 1};
  line.clear();
  format(line, view);
  EXPECT_TRUE(line.view().starts_with(
      "step 3/40  loss 1.5000, skipped: overflow  lr 0.00e+00  norm inf  "
      "scale 512  "))
      << line.view();
  metrics.skipped = metrics.overflowed = false;
  format(line, metrics);
  json = parseJson(line.view(), "line");
  ASSERT_TRUE(json.ok());
  EXPECT_EQ((*json)["skipped"], false);
}

TEST(Metrics, theFileHoldsEveryLineAsSoonAsItIsWritten) {
  std::string path = joinPath(testing::TempDir(), "metrics.jsonl");
  ASSERT_TRUE(writeFileAtomically(path, "left from before\n").ok());
  MetricsFile file;
  ASSERT_TRUE(file.open(path).ok());
  StepMetrics metrics;
  for (metrics.step = 1; metrics.step <= 3; ++metrics.step)
    ASSERT_TRUE(file.write(metrics).ok());
  ASSERT_TRUE(file.writeEvaluation(3, 0.75, 40).ok());
  auto text = readFile(path);
  ASSERT_TRUE(text.ok());
  std::istringstream stream(*text);
  std::vector<nlohmann::json> lines;
  for (std::string line; std::getline(stream, line);) {
    auto json = parseJson(line, "line");
    ASSERT_TRUE(json.ok()) << line;
    lines.push_back(*json);
  }
  ASSERT_EQ(lines.size(), 4u);
  EXPECT_EQ(lines[2]["step"], 3);
  EXPECT_EQ(lines[3]["eval_loss"], 0.75);
  EXPECT_EQ(lines[3]["eval_tokens"], 40);
}

TEST(Metrics, whatWasChosenStandsBeforeTheFirstStep) {
  std::string path = joinPath(testing::TempDir(), "choices.jsonl");
  for (auto [attention, tuned, expected] :
       {std::tuple("", "", ""), {"fast", "", "{\"attention\": \"fast\"}\n"},
        {"", "0a", "{\"tuned_sha256\": \"0a\"}\n"},
        {"own", "0a",
         "{\"attention\": \"own\", \"tuned_sha256\": \"0a\"}\n"}}) {
    MetricsFile file;
    ASSERT_TRUE(file.open(path).ok());
    ASSERT_TRUE(file.writeChoices(attention, tuned).ok());
    auto text = readFile(path);
    ASSERT_TRUE(text.ok());
    EXPECT_EQ(*text, expected);
  }
}

TEST(Metrics, aDirectoryThatIsNotThereIsAnIoError) {
  MetricsFile file;
  Status status = file.open("/nonexistent/metrics.jsonl");
  EXPECT_EQ(status.code(), Code::io);
  EXPECT_NE(status.message().find("/nonexistent/metrics.jsonl"),
            std::string::npos);
}

TEST(Metrics, theStatusLineHasEverythingOnOneLine) {
  StepMetrics metrics;
  metrics.step = 12;
  metrics.loss = 1.5;
  metrics.rate = 4.5e-4;
  metrics.gradNorm = 0.25;
  metrics.present = 1000;
  metrics.seconds = 2;
  StatusView view{&metrics, 40, 256 << 20, 512 << 20, 95};
  Line line;
  format(line, view);
  EXPECT_EQ(line.view(), "step 12/40  loss 1.5000  lr 4.50e-04  norm 0.2500  "
                         "500 tokens/s  memory 256.0 of 512.0 MiB  left 1:35");
}

TEST(Metrics, bytesArePrintedInPowersOfTwo) {
  EXPECT_EQ(formatBytes(512), "0.5 KiB");
  EXPECT_EQ(formatBytes(1536 << 10), "1.5 MiB");
  EXPECT_EQ(formatBytes(5ull << 29), "2.50 GiB");
}

TEST(Line, whatDoesNotFitIsCutOff) {
  Line line;
  line << std::string(600, 'x') << uint64_t(12);
  EXPECT_EQ(line.size(), 512u);
}
