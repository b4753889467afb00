//===- BindQuantizedTest.cpp - quantized weights of a plan ----------------===//
#include "QuantizedModel.h"
#include "peft/Executor.h"
#include "peft/FloatTypes.h"
#include "peft/QuantizedTensor.h"

#include <cstdlib>
#include <limits>
#include <thread>

using namespace peft;

namespace {

/// The weights of a plan that reads "a.weight" [30, 48] in `format`.
Plan planOf(const QuantFormat &format) {
  Plan plan;
  const bool rows = format.type == DType::i8;
  const uint64_t scales = rows ? 30 : blockCount(30 * 48, format.block);
  Weight codes;
  codes.name = "a.weight";
  codes.dtype = format.type;
  codes.shape = {30, 48};
  codes.part = WeightPart::codes;
  codes.block = format.block;
  codes.nested = format.nested;
  plan.weights.push_back(codes);
  const auto add = [&](const char *name, WeightPart part, DType type,
                       uint64_t count) {
    Weight weight;
    weight.name = name;
    weight.part = part;
    weight.dtype = type;
    weight.shape = {count};
    weight.of = 0;
    plan.weights.push_back(weight);
  };
  add(rows ? "a.SCB" : "a.weight.absmax", WeightPart::absmax,
      format.nested ? DType::u8 : DType::f32, scales);
  if (format.nested)
    add("a.weight.nested_absmax", WeightPart::nestedAbsmax, DType::f32,
        blockCount(scales, format.nested));
  if (!rows)
    add("a.weight.tables", WeightPart::tables, DType::f32,
        format.nested ? nestedTables : codeTable);
  return plan;
}

/// The weights that fourBitModel quantizes, as they were before.
StoredTensors floatModel(DType type) {
  StoredTensors model;
  std::vector<float> weights(30 * 48);
  for (size_t i = 0; i < weights.size(); ++i)
    weights[i] = static_cast<float>(static_cast<int>(i * 37 % 201) - 100) / 90;
  std::string bytes(weights.size() * byteSize(type), '\0');
  for (size_t i = 0; i < weights.size(); ++i)
    storeFloat(reinterpret_cast<std::byte *>(bytes.data()), type, i, weights[i]);
  model.tensors["a.weight"] = {type, {30, 48}, bytes};
  return model;
}

std::vector<std::string> textsOf(const BoundWeights &bound) {
  std::vector<std::string> texts;
  for (const ByteSpan bytes : bound.bytes)
    texts.emplace_back(reinterpret_cast<const char *>(bytes.data()),
                       bytes.size());
  return texts;
}

class BindQuantized : public ::testing::Test {
protected:
  void SetUp() override {
    setenv("XDG_CACHE_HOME", cache.path().c_str(), 1);
    options.note = [this](const std::string &name, const std::string &text) {
      notes += name + ": " + text + "\n";
    };
  }
  void TearDown() override { unsetenv("XDG_CACHE_HOME"); }

  Expected<BoundWeights> bind(const Plan &plan) {
    notes.clear();
    return bindWeights(plan, folder.path(), options);
  }
  std::vector<std::string> cached() const {
    const std::string place = cache.path("peftc/weights");
    return isDirectory(place) ? *listDirectory(place)
                              : std::vector<std::string>();
  }
  bool noted(const char *text) const {
    return notes.find(text) != std::string::npos;
  }

  TemporaryDirectory folder, cache;
  BindOptions options;
  std::string notes;
};

constexpr QuantFormat formats[] = {{DType::nf4, 64, 0},
                                   {DType::nf4, 64, 256},
                                   {DType::fp4, 32, 0},
                                   {DType::fp4, 4096, 256},
                                   {DType::i8, 0, 0}};

TEST_F(BindQuantized, WhatIsQuantizedOnLoadIsWhatAFileHolds) {
  fourBitModel(DType::nf4, true).write(folder);
  const Plan plan = planOf({DType::nf4, 64, 256});
  const auto file = bind(plan);
  ASSERT_TRUE(file.ok()) << file.status().message();
  EXPECT_TRUE(cached().empty() && notes.empty());
  const auto expected = textsOf(*file);
  floatModel(DType::f32).write(folder);
  const auto made = bind(plan);
  ASSERT_TRUE(made.ok()) << made.status().message();
  EXPECT_EQ(textsOf(*made), expected);
  EXPECT_TRUE(noted("quantized: 0.0 M weights to nf4 in blocks of 64, nested"));
  EXPECT_EQ(cached().size(), 1u);
}

TEST_F(BindQuantized, EveryFormatFromEveryTypeAndByAnyThreads) {
  for (const DType type : {DType::f32, DType::bf16, DType::f16})
    for (const QuantFormat &format : formats) {
      floatModel(type).write(folder);
      options.threads = 1;
      options.cache = false;
      const auto one = bind(planOf(format));
      ASSERT_TRUE(one.ok()) << one.status().message();
      EXPECT_TRUE(cached().empty());
      options.threads = 7;
      const auto many = bind(planOf(format));
      ASSERT_TRUE(many.ok()) << many.status().message();
      EXPECT_EQ(textsOf(*one), textsOf(*many)) << format.describe();
    }
}

TEST_F(BindQuantized, TheSecondStartTakesTheCache) {
  const Plan plan = planOf({DType::nf4, 64, 256});
  floatModel(DType::bf16).write(folder);
  const auto first = textsOf(*bind(plan));
  EXPECT_TRUE(noted("kept in"));
  const auto second = bind(plan);
  ASSERT_TRUE(second.ok());
  EXPECT_FALSE(noted("quantized:"));
  EXPECT_EQ(textsOf(*second), first);
  options.verify = true;
  EXPECT_TRUE(bind(plan).ok());
  EXPECT_TRUE(noted("is what its source gives"));

  // Another format, another type, other weights: other entries.
  options.verify = false;
  EXPECT_TRUE(bind(planOf({DType::fp4, 64, 256})).ok());
  EXPECT_EQ(cached().size(), 2u);
  StoredTensors other = floatModel(DType::bf16);
  other.tensors["a.weight"].bytes[0] ^= 1;
  other.write(folder);
  EXPECT_TRUE(bind(plan).ok());
  EXPECT_TRUE(noted("quantized:"));
  EXPECT_EQ(cached().size(), 3u);
}

TEST_F(BindQuantized, ADamagedCacheIsMadeAgain) {
  const Plan plan = planOf({DType::nf4, 64, 0});
  floatModel(DType::f32).write(folder);
  const auto good = textsOf(*bind(plan));
  ASSERT_EQ(cached().size(), 1u);
  const std::string path = cache.path("peftc/weights/" + cached()[0]);
  const std::string bytes = *readFile(path);
  const auto header = *readSafetensorsHeader(path);
  const auto put = [&](const char *tensor, const std::string &text) {
    std::string changed = bytes;
    changed.replace(header.dataOffset + header.find(tensor)->begin, text.size(),
                    text);
    EXPECT_TRUE(writeFileAtomically(path, changed).ok());
  };
  // Cut; no safetensors; a scale that is NaN.
  EXPECT_TRUE(writeFileAtomically(path, bytes.substr(0, 500)).ok());
  EXPECT_EQ(textsOf(*bind(plan)), good);
  EXPECT_TRUE(noted("it is made again"));
  EXPECT_TRUE(writeFileAtomically(path, "something else").ok());
  EXPECT_EQ(textsOf(*bind(plan)), good);
  EXPECT_TRUE(noted("it is made again"));
  put("a.weight.absmax", std::string("\0\0\xc0\x7f", 4));
  EXPECT_EQ(textsOf(*bind(plan)), good);
  EXPECT_TRUE(noted("element 0 is nan"));
  // Codes that are others: only --verify can tell.
  put("a.weight", "\x12");
  EXPECT_NE(textsOf(*bind(plan)), good);
  options.verify = true;
  EXPECT_EQ(textsOf(*bind(plan)), good);
  EXPECT_TRUE(noted("is not what its source gives; it is made again"));
  options.verify = false;
  EXPECT_EQ(textsOf(*bind(plan)), good);
  EXPECT_EQ(*readFile(path), bytes);
}

TEST_F(BindQuantized, WithoutAPlaceForTheCache) {
  const Plan plan = planOf({DType::nf4, 64, 256});
  floatModel(DType::f32).write(folder);
  const auto good = textsOf(*bind(plan));
  const std::string file = cache.write("a-file", "");
  setenv("XDG_CACHE_HOME", file.c_str(), 1);
  const auto bound = bind(plan);
  ASSERT_TRUE(bound.ok()) << bound.status().message();
  EXPECT_TRUE(noted("quantized in memory instead"));
  EXPECT_EQ(textsOf(*bound), good);
}

TEST_F(BindQuantized, ManyAtOnce) {
  const Plan plan = planOf({DType::nf4, 64, 256});
  floatModel(DType::bf16).write(folder);
  options.note = nullptr;
  std::vector<std::vector<std::string>> results(6);
  std::vector<std::thread> threads;
  for (auto &result : results)
    threads.emplace_back([&] {
      auto bound = bindWeights(plan, folder.path(), options);
      if (bound.ok())
        result = textsOf(*bound);
    });
  for (std::thread &thread : threads)
    thread.join();
  for (const auto &result : results) {
    ASSERT_EQ(result.size(), 4u);
    EXPECT_EQ(result, results[0]);
  }
  EXPECT_EQ(cached().size(), 1u);
}

TEST_F(BindQuantized, SaysWhatDoesNotFit) {
  StoredTensors stored = floatModel(DType::f32);
  stored.put("a.weight", 5 * 48 + 3, std::numeric_limits<float>::infinity());
  stored.write(folder);
  const auto refused = [&](const QuantFormat &format, const char *message) {
    return failsWith(bind(planOf(format)).status(), Code::badInput, message);
  };
  for (const QuantFormat &format : formats)
    EXPECT_TRUE(refused(format, "\"a.weight\": element [5, 3] is inf"));
  EXPECT_TRUE(cached().empty());
  stored.tensors["a.weight"].shape = {48, 30};
  stored.write(folder);
  EXPECT_TRUE(refused(formats[0], "it is f32[48, 30], the plan needs nf4[30, 48]"
                                  " in blocks of 64"));
  stored.tensors.erase("a.weight");
  stored.set<int32_t>("a.weight", DType::i32, {30, 48},
                      std::vector<int32_t>(30 * 48));
  stored.write(folder);
  EXPECT_TRUE(refused(formats[1], "it is i32[30, 48], the plan needs"));
  stored.tensors.clear();
  stored.set<float>("b.weight", DType::f32, {1}, {0});
  stored.write(folder);
  EXPECT_TRUE(refused(formats[0], "there is no tensor of this name"));
  fourBitModel(DType::nf4, true).write(folder);
  EXPECT_TRUE(refused(formats[0], "it is nf4[30, 48] in blocks of 64, nested 256,"
                                  " the plan needs nf4[30, 48] in blocks of 64;"));
  EXPECT_TRUE(refused(formats[2], "the plan needs fp4[30, 48] in blocks of 32"));
}

} // namespace
