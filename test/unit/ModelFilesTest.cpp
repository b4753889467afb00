//===- ModelFilesTest.cpp - a trained model is a model again --------------===//
#include "train/ModelFiles.h"

#include "TemporaryFiles.h"
#include "TrainPlan.h"
#include "peft/CpuDevice.h"
#include "peft/Json.h"
#include "peft/Safetensors.h"

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

using namespace peft;
using namespace peft::test;

namespace {
class ModelFilesTest : public testing::Test {
protected:
  void SetUp() override {
    files.write("model/config.json", modelConfigText);
    files.write("model/tokenizer.json", "{\"kept\": true}");
    files.write("model/generation_config.json", "{\"eos_token_id\": 11}");
    table.assign(96, 0.5f);
    weight.assign(64, 0.25f);
    // A tied model whose file has the head all the same, and a tensor that no
    // plan knows.
    ASSERT_TRUE(writeSafetensors(files.path("model/model.safetensors"),
                                 {tensor(tableName, {12, 8}, table),
                                  tensor("lm_head.weight", {12, 8}, table),
                                  tensor("model.extra", {64}, weight),
                                  tensor(weightName, {8, 8}, weight)})
                    .ok());
    auto opened = openModel(files.path("model"));
    ASSERT_TRUE(opened.ok()) << opened.status().message();
    model = std::move(*opened);
    Plan plan = TrainPlan(TrainPlan::Kind::model).finish();
    auto bound = bindWeights(plan, files.path("model"));
    ASSERT_TRUE(bound.ok()) << bound.status().message();
    auto device = createCpuDevice({});
    ASSERT_TRUE(device.ok());
    auto created =
        Executor::create(std::move(plan), *bound, std::move(*device));
    ASSERT_TRUE(created.ok()) << created.status().message();
    executor = std::move(*created);
    std::vector<float> trained(64, 1.5f);
    ASSERT_TRUE(executor->writeParameter(0, 0, trained).ok());
  }
  static TensorToWrite tensor(const char *name, std::vector<int64_t> shape,
                              const std::vector<float> &values) {
    return {name,
            DType::f32,
            std::move(shape),
            std::as_bytes(std::span(values)),
            {}};
  }
  void write(const SaveOptions &options) {
    Status status = writeModel(*executor, model, files.path("out"), options);
    ASSERT_TRUE(status.ok()) << status.message();
  }
  float firstValue(const ModelDirectory &written, const char *name) {
    ModelDirectory::Tensor found = written.find(name);
    if (!found)
      return -1;
    auto file = SafetensorsFile::open(found.shard->path);
    float value = 0;
    std::memcpy(&value, file->bytes(*file->find(name)).data(), sizeof value);
    return value;
  }

  TemporaryDirectory files;
  std::vector<float> table, weight;
  ModelDirectory model;
  std::unique_ptr<Executor> executor;
};
} // namespace

TEST_F(ModelFilesTest, oneFileWithTrainedAndCopiedTensors) {
  write({});
  auto written = openModel(files.path("out"));
  ASSERT_TRUE(written.ok()) << written.status().message();
  EXPECT_EQ(firstValue(*written, weightName), 1.5f);
  EXPECT_EQ(firstValue(*written, tableName), 0.5f);
  EXPECT_EQ(firstValue(*written, "model.extra"), 0.25f);
  EXPECT_FALSE(written->find("lm_head.weight")) << "stored once";
  EXPECT_EQ(*readFile(files.path("out/config.json")), modelConfigText);
  EXPECT_EQ(*readFile(files.path("out/tokenizer.json")), "{\"kept\": true}");
  EXPECT_TRUE(isFile(files.path("out/generation_config.json")));
}

TEST_F(ModelFilesTest, aTiedHeadIsLeftOutUnderItsOlderName) {
  ASSERT_TRUE(
      writeSafetensors(files.path("model/model.safetensors"),
                       {tensor("language_model.lm_head.weight", {12, 8}, table),
                        tensor(tableName, {12, 8}, table)})
          .ok());
  model = *openModel(files.path("model"));
  write({});
  auto written = openModel(files.path("out"));
  ASSERT_TRUE(written.ok()) << written.status().message();
  EXPECT_FALSE(written->find("language_model.lm_head.weight"));
  EXPECT_TRUE(written->find(tableName));
}

TEST_F(ModelFilesTest, aLargeModelIsCutAndIndexed) {
  write({.dtype = {}, .shardBytes = 520});
  EXPECT_FALSE(isFile(files.path("out/model.safetensors")));
  auto index = readJsonObject(files.path("out/model.safetensors.index.json"));
  ASSERT_TRUE(index.ok()) << index.status().message();
  EXPECT_EQ((*index)["metadata"]["total_size"], 4 * (96 + 64 + 64));
  EXPECT_EQ((*index)["weight_map"][tableName],
            "model-00001-of-00002.safetensors");
  EXPECT_EQ((*index)["weight_map"]["model.extra"],
            "model-00002-of-00002.safetensors");
  auto written = openModel(files.path("out"));
  ASSERT_TRUE(written.ok()) << written.status().message();
  EXPECT_EQ(written->shards.size(), 2u);
  EXPECT_EQ(firstValue(*written, weightName), 1.5f);
}

TEST_F(ModelFilesTest, theFileOfAnEarlierModelDoesNotHideTheNewShards) {
  write({});
  write({.dtype = DType::f16, .shardBytes = 260});
  auto written = openModel(files.path("out"));
  ASSERT_TRUE(written.ok()) << written.status().message();
  EXPECT_EQ(written->shards.size(), 2u);
  EXPECT_EQ(written->find(tableName).header->type, "F16");
}

TEST_F(ModelFilesTest, anIndexOfAnEarlierModelDoesNotHideTheNewFile) {
  write({.dtype = {}, .shardBytes = 520});
  write({.dtype = DType::f16});
  EXPECT_FALSE(isFile(files.path("out/model.safetensors.index.json")));
  auto written = openModel(files.path("out"));
  ASSERT_TRUE(written.ok()) << written.status().message();
  EXPECT_EQ(written->find(tableName).header->type, "F16");
  auto config = readJsonObject(files.path("out/config.json"));
  ASSERT_TRUE(config.ok());
  EXPECT_EQ((*config)["torch_dtype"], "float16");
  EXPECT_EQ((*config)["hidden_size"], 8);
}
