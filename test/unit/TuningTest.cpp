//===- TuningTest.cpp - measured choices as a file ------------------------===//
#include "peft/Tuning.h"

#include <gtest/gtest.h>

using namespace peft;

namespace {

Tuning example() {
  Tuning tuning{"NVIDIA \"X\"", "cuBLASLt 13.1.0", "cuDNN 9.19.0", {}, {}};
  tuning.products.push_back({.rows = 8192, .columns = 4096, .depth = 12288,
                             .in = DType::bf16, .out = DType::f32,
                             .rightTransposed = true, .addend = true,
                             .workspaceBytes = 32 << 20, .candidate = 5,
                             .algorithm = {66, 20, 35, 1, 0, 0, 0, 0, 3},
                             .seconds = 1.0 / 3, .firstSeconds = 0.5});
  tuning.products.push_back({.rows = 1, .columns = 1, .depth = 1});
  tuning.attentions.push_back({.backward = true, .deterministic = false,
                               .batch = 2, .seq = 4096, .heads = 32,
                               .kvHeads = 8, .headDim = 128, .window = 100,
                               .byLibrary = true, .ownSeconds = 2e-3,
                               .librarySeconds = 1e-3});
  return tuning;
}

std::string replaced(std::string text, const std::string &from,
                     const std::string &to) {
  const size_t at = text.find(from);
  EXPECT_NE(at, std::string::npos) << from;
  return at == std::string::npos ? text : text.replace(at, from.size(), to);
}

} // namespace

TEST(Tuning, comesBackAsItWasWritten) {
  for (const Tuning &tuning : {example(), Tuning{"c", "p", "", {}, {}}}) {
    auto back = parseTuning(formatTuning(tuning), "t.json");
    ASSERT_TRUE(back.ok()) << back.status().message();
    EXPECT_EQ(*back, tuning);
  }
}

TEST(Tuning, anErrorNamesTheEntryAndTheField) {
  const std::string text = formatTuning(example());
  struct Damage {
    const char *from, *to, *part;
  };
  for (const Damage &damage : std::initializer_list<Damage>{
           {"\"peft_tuning\": 1", "\"peft_tuning\": 2", "peft_tuning"},
           {"\"peft_tuning\": 1", "\"other\": 1", "peft-run --tune"},
           {"\"card\"", "\"crad\"", "card: is missing"},
           {"\"candidate\": 5", "\"candidate\": 32",
            "t.json: products[0]: candidate: must be between 0 and 31"},
           {"\"candidate\": 5", "\"candidate\": -1", "candidate"},
           {"\"candidate\": 5", "\"candidate\": 1e3", "candidate"},
           {"\"candidate\": 0", "\"candidate\": null", "products[1]: candidate"},
           {"\"rows\": 8192", "\"rows\": 0", "products[0]: rows"},
           {"\"rows\": 8192", "\"rows\": 99999999999999999999", "rows"},
           {"\"rows\": 8192, ", "", "products[0]: rows: is missing"},
           {"\"rows\": 8192", "\"rows\": 8192, \"more\": 1", "more: is no field"},
           {"\"in\": \"bf16\"", "\"in\": \"i32\"", "must be f32, bf16 or f16"},
           {"[66, 20,", "[66,", "algorithm: must be 9 numbers, not 8"},
           {"[66, 20,", "[66, 99999999999,", "algorithm"},
           {"\"addend\": true", "\"addend\": 1", "addend"},
           {"\"head_dim\": 128", "\"head_dim\": 0", "attentions[0]: head_dim"},
           {"\"attentions\": [", "\"attentions\": [1, ",
            "attentions[0] must be an object, not 1"},
           {"\"products\": [", "\"products\": {}, \"attentions\": [],\"x\": [",
            "products"},
           {"{", "[{", "t.json"}}) {
    auto parsed = parseTuning(replaced(text, damage.from, damage.to), "t.json");
    ASSERT_FALSE(parsed.ok()) << damage.from << " -> " << damage.to;
    EXPECT_EQ(parsed.status().code(), Code::badInput);
    EXPECT_NE(parsed.status().message().find(damage.part), std::string::npos)
        << parsed.status().message();
  }
}
