//===- OutputGuardTest.cpp - no output over an input ----------------------===//
#include "train/OutputGuard.h"

#include "TemporaryFiles.h"
#include "peft/File.h"

#include <filesystem>
#include <gtest/gtest.h>

using namespace peft;

namespace {

class OutputGuard : public testing::Test {
protected:
  void SetUp() override {
    model.directory = directory.path("model");
    std::filesystem::create_directory(model.directory);
    for (const char *name : {"step.plan", "data.safetensors", "p.jsonl"})
      write(directory.path(name));
    write(joinPath(model.directory, "model.safetensors"));
    options.plan = directory.path("step.plan");
    options.data = directory.path("data.safetensors");
    options.model = model.directory;
    options.output = directory.path("out");
    plan.adapterConfig = "{}";
  }
  static void write(const std::string &path) {
    ASSERT_TRUE(writeFileAtomically(path, "x").ok());
  }
  /// The message of the refusal; "" when the run may start.
  std::string refusal() {
    Status status = checkOutputs(options, plan, model);
    if (status.ok())
      return "";
    EXPECT_EQ(Code::usage, status.code());
    return status.message();
  }

  TemporaryDirectory directory;
  RunOptions options;
  Plan plan;
  ModelDirectory model;
};

TEST_F(OutputGuard, AnOrdinaryRunMayStart) {
  EXPECT_EQ("", refusal());
  options.dumpGradients = joinPath(options.output, "gradients.safetensors");
  options.generate.answerFile = directory.path("answers.jsonl");
  EXPECT_EQ("", refusal());
}

TEST_F(OutputGuard, TheGradientsDoNotReplaceAnInput) {
  for (const std::string &input : {options.plan, options.data}) {
    options.dumpGradients = input;
    EXPECT_NE(std::string::npos, refusal().find("is an input of this run"))
        << input;
  }
  // The same file by another name.
  std::filesystem::create_symlink(options.data, directory.path("link"));
  options.dumpGradients = directory.path("link");
  EXPECT_NE(std::string::npos, refusal().find("is an input of this run"));
  // A file of the model that exists, and one that does not.
  for (const char *name : {"model.safetensors", "deeper/new.safetensors"}) {
    options.dumpGradients = joinPath(model.directory, name);
    EXPECT_NE(std::string::npos, refusal().find("never written")) << name;
  }
}

TEST_F(OutputGuard, AnswersDoNotReplaceTheQuestions) {
  options.generate.promptFile = directory.path("p.jsonl");
  options.generate.answerFile = directory.path("./p.jsonl");
  EXPECT_NE(std::string::npos, refusal().find("--prompts"));
}

TEST_F(OutputGuard, TwoOutputsAreTwoFiles) {
  options.dumpGradients = options.generate.answerFile = directory.path("same");
  EXPECT_NE(std::string::npos, refusal().find("name two files"));
  options.generate.answerFile.clear();
  options.dumpGradients = joinPath(options.output, "adapter_config.json");
  EXPECT_NE(std::string::npos, refusal().find("the run itself writes"));
}

TEST_F(OutputGuard, AdaptersAndModelsDoNotShareADirectory) {
  std::filesystem::create_directory(options.output);
  write(joinPath(options.output, "model.safetensors"));
  EXPECT_NE(std::string::npos, refusal().find("holds a whole model"));
  plan.adapterConfig = "";
  EXPECT_EQ("", refusal());
  write(joinPath(options.output, "adapter_config.json"));
  EXPECT_NE(std::string::npos, refusal().find("holds an adapter"));
  options.output = model.directory;
  EXPECT_NE(std::string::npos, refusal().find("model's own directory"));
}

} // namespace
