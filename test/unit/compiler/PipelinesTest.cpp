//===- PipelinesTest.cpp - the stages as one call -------------------------===//
#include "peftc/Pipelines.h"

#include "peftc/Analysis/AdapterReport.h"
#include "peftc/Import.h"
#include "peftc/RegisterAll.h"

#include "mlir/IR/DialectRegistry.h"
#include "mlir/IR/MLIRContext.h"

#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>

namespace {

class PipelinesTest : public testing::Test {
protected:
  PipelinesTest() {
    std::string path =
        (std::filesystem::temp_directory_path() / "peftc-XXXXXX").string();
    directory = mkdtemp(path.data());
    std::ofstream(directory / "config.json")
        << R"({"model_type": "llama", "vocab_size": 32, "hidden_size": 8,
               "intermediate_size": 12, "num_hidden_layers": 2,
               "num_attention_heads": 2})";
    mlir::DialectRegistry registry;
    peftc::registerAllDialects(registry);
    context.appendDialectRegistry(registry);
    context.loadAllAvailableDialects();
    options.seq = 8;
    options.adapterConfig =
        R"({"peft_type": "LORA", "r": 2, "target_modules": ["q_proj"]})";
  }
  ~PipelinesTest() override { std::filesystem::remove_all(directory); }

  mlir::OwningOpRef<mlir::ModuleOp> import() {
    auto module = peftc::importModel(context, directory / "config.json");
    EXPECT_TRUE(module.ok()) << module.status().message();
    return std::move(*module);
  }

  std::filesystem::path directory;
  mlir::MLIRContext context{mlir::MLIRContext::Threading::DISABLED};
  peftc::CompileOptions options;
};

TEST_F(PipelinesTest, StagesInOrderAndRemarksOfPasses) {
  std::vector<std::string> stages, remarks;
  peftc::AdapterReport report;
  options.afterStage = [&](llvm::StringRef stage, mlir::ModuleOp module) {
    stages.push_back(stage.str());
    if (stage == "adapted")
      report = peftc::reportAdapters(module);
  };
  options.onRemark = [&](llvm::StringRef, llvm::StringRef text) {
    remarks.push_back(text.str());
  };
  auto module = import();
  peft::Status status = peftc::compileModel(*module, options);
  ASSERT_TRUE(status.ok()) << status.message();
  ASSERT_GE(stages.size(), 4u);
  EXPECT_EQ(stages.front(), "adapted");
  EXPECT_EQ(stages.back(), "planned");
  ASSERT_FALSE(remarks.empty());
  EXPECT_NE(remarks.front().find("2 x q_proj [8 -> 8] rank 2"),
            std::string::npos)
      << remarks.front();
  EXPECT_EQ(report.adaptedModules, 2u);
  EXPECT_EQ(report.trainable, 2u * (2 * 8 + 8 * 2));
}

TEST_F(PipelinesTest, WrongRequestIsTheUsers) {
  options.adapterConfig =
      R"({"peft_type": "LORA", "target_modules": ["nothing"]})";
  auto module = import();
  peft::Status status = peftc::compileModel(*module, options);
  EXPECT_EQ(status.code(), peft::Code::badInput);
  EXPECT_NE(status.message().find(
                "target_modules: 'nothing' matches no module of the model"),
            std::string::npos)
      << status.message();
}

TEST_F(PipelinesTest, TrainAllNeedsNoConfig) {
  options.adapterConfig.clear();
  options.trainAll = true;
  peftc::AdapterReport report;
  options.afterStage = [&](llvm::StringRef stage, mlir::ModuleOp module) {
    if (stage == "adapted")
      report = peftc::reportAdapters(module);
  };
  auto module = import();
  peft::Status status = peftc::compileModel(*module, options);
  ASSERT_TRUE(status.ok()) << status.message();
  EXPECT_EQ(report.trainable, report.total);
  EXPECT_EQ(report.adaptedModules, 0u);
}

TEST_F(PipelinesTest, SameInputSamePlan) {
  std::string texts[2];
  for (std::string &text : texts) {
    auto module = import();
    ASSERT_TRUE(peftc::compileModel(*module, options).ok());
    llvm::raw_string_ostream stream(text);
    module->print(stream);
  }
  EXPECT_EQ(texts[0], texts[1]);
}

} // namespace
