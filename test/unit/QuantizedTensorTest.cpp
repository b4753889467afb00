//===- QuantizedTensorTest.cpp - finding quantized weights ----------------===//
#include "peft/QuantizedTensor.h"
#include "QuantizedModel.h"

#include <cmath>
#include <functional>
#include <limits>

using namespace peft;

namespace {

Expected<std::optional<QuantizedTensor>>
find(const StoredTensors &stored, TemporaryDirectory &folder,
     ModelDirectory &model, const std::string &name = "a.weight") {
  stored.write(folder);
  auto opened = openModel(folder.path(), "/nonexistent-hub-cache");
  if (!opened.ok())
    return opened.status();
  model = std::move(*opened);
  return findQuantized(model, name);
}

/// What finding the weight and then reading its parts says.
Status read(const StoredTensors &stored) {
  TemporaryDirectory folder;
  ModelDirectory model;
  PEFT_ASSIGN(const auto found, find(stored, folder, model));
  MappedModel files;
  return found ? files.parts(*found).status() : Status();
}

TEST(QuantizedTensor, FourBitsAndTheirParts) {
  for (const DType type : {DType::nf4, DType::fp4})
    for (const bool isNested : {false, true}) {
      TemporaryDirectory folder;
      ModelDirectory model;
      const auto found = find(fourBitModel(type, isNested), folder, model);
      ASSERT_TRUE(found.ok()) << found.status().message();
      ASSERT_TRUE(*found);
      const QuantizedTensor &tensor = **found;
      EXPECT_EQ(tensor.format.type, type);
      EXPECT_EQ(tensor.format.block, 64u);
      EXPECT_EQ(tensor.format.nested, isNested ? 256u : 0u);
      EXPECT_EQ(tensor.shape, (std::vector<int64_t>{30, 48}));
      EXPECT_EQ(tensor.scaleCount(), 23u);
      EXPECT_EQ(tensor.sourceType, DType::bf16);
      EXPECT_EQ(tensor.describe(),
                std::string(name(type)) + "[30, 48] in blocks of 64" +
                    (isNested ? ", nested 256" : ""));
      MappedModel files;
      const auto parts = files.parts(tensor);
      ASSERT_TRUE(parts.ok()) << parts.status().message();
      EXPECT_EQ(parts->codes.size(), 720u);
      EXPECT_EQ(parts->absmax.size(), isNested ? 23u : 92u);
      EXPECT_EQ(parts->nestedAbsmax.size(), isNested ? 4u : 0u);
      EXPECT_EQ(parts->tables.size(), isNested ? 273u : 16u);
      EXPECT_EQ(parts->tables.back(), isNested ? tensor.nestedOffset
                                               : codeMap(type).back());
      EXPECT_EQ(quantizedWeights(model), std::vector<std::string>{"a.weight"});
    }
}

TEST(QuantizedTensor, StoredAsAnyType) {
  for (const auto &[dtype, bytes] : {std::pair(DType::bf16, 2), {DType::f32, 4},
                                     {DType::f16, 2}, {DType::f64, 8},
                                     {DType::i8, 1}}) {
    StoredTensors stored = fourBitModel(DType::nf4, true);
    stored.tensors["a.weight"].dtype = dtype;
    stored.tensors["a.weight"].shape = {720 / bytes, 1};
    EXPECT_TRUE(read(stored).ok()) << name(dtype) << read(stored).message();
  }
}

TEST(QuantizedTensor, EightBits) {
  StoredTensors stored;
  stored.set<int8_t>("a.weight", DType::i8, {3, 4}, std::vector<int8_t>(12, 5));
  stored.set<float>("a.SCB", DType::f32, {3}, {1, 2, 3});
  stored.set<uint8_t>("a.weight_format", DType::u8, {}, {0});
  TemporaryDirectory folder;
  ModelDirectory model;
  const auto found = find(stored, folder, model);
  ASSERT_TRUE(found.ok() && *found) << found.status().message();
  EXPECT_EQ((*found)->format, (QuantFormat{DType::i8, 0, 0}));
  EXPECT_EQ((*found)->scaleCount(), 3u);
  EXPECT_EQ((*found)->describe(), "int8[3, 4]");
  EXPECT_FALSE((*found)->sourceType);
  MappedModel files;
  const auto parts = files.parts(**found);
  ASSERT_TRUE(parts.ok());
  EXPECT_EQ(parts->absmax.size(), 12u);
  EXPECT_TRUE(parts->tables.empty());

  StoredTensors other = stored;
  other.set<uint8_t>("a.weight_format", DType::u8, {}, {2});
  EXPECT_TRUE(failsWith(read(other), Code::badInput, "only 0 (rows)"));
  other = stored;
  other.tensors.erase("a.weight_format"); // older files have none
  EXPECT_TRUE(read(other).ok());
  other.tensors.erase("a.SCB");
  EXPECT_TRUE(failsWith(read(other), Code::badInput, "has no tensor \"a.SCB\""));
  other = stored;
  other.put("a.SCB", 2, -1);
  EXPECT_TRUE(failsWith(read(other), Code::badInput, "element 2 is -1"));
  other = stored;
  other.set<float>("a.SCB", DType::f32, {4}, {1, 2, 3, 4});
  EXPECT_TRUE(failsWith(read(other), Code::badInput, "3 elements"));
}

TEST(QuantizedTensor, OrdinaryWeightsAreNone) {
  StoredTensors stored;
  stored.set<float>("a.weight", DType::f32, {1, 2}, {1, 2});
  TemporaryDirectory folder;
  ModelDirectory model;
  for (const char *name : {"a.weight", "b.weight"}) {
    const auto found = find(stored, folder, model, name);
    ASSERT_TRUE(found.ok()) << found.status().message();
    EXPECT_FALSE(*found);
  }
}

struct Damage {
  const char *what, *message;
  std::function<void(StoredTensors &)> cause;
};

constexpr const char *nf4State = "a.weight.quant_state.bitsandbytes__nf4";

/// Replaces part of the quant_state's text.
std::function<void(StoredTensors &)> say(const std::string &from,
                                         const std::string &to) {
  return [=](StoredTensors &stored) {
    std::string text = stored.tensors.at(nf4State).bytes;
    const size_t at = text.find(from);
    ASSERT_NE(at, std::string::npos) << from;
    stored.setText(nf4State, text.replace(at, from.size(), to));
  };
}

std::function<void(StoredTensors &)> drop(const std::string &name) {
  return [=](StoredTensors &stored) {
    EXPECT_EQ(stored.tensors.erase(name), 1u);
  };
}

std::function<void(StoredTensors &)> put(const std::string &name, size_t at,
                                         float value) {
  return [=](StoredTensors &stored) { stored.put(name, at, value); };
}

std::function<void(StoredTensors &)> floats(const std::string &name, int64_t n) {
  return [=](StoredTensors &stored) {
    stored.set<float>(name, DType::f32, {n}, std::vector<float>(size_t(n), 1));
  };
}

TEST(QuantizedTensor, EveryDamageHasItsMessage) {
  const float nan = std::numeric_limits<float>::quiet_NaN();
  const float infinity = std::numeric_limits<float>::infinity();
  const Damage damages[] = {
      {"shape grew", "has 720 bytes, but nf4[30, 49]", say("30, 48", "30, 49")},
      {"shape is huge", "has more elements than 63 bits",
       say("30, 48", "1000000000000, 1000000000000")},
      {"shape is too large for a size", "shape: must be a whole number",
       say("30, 48", "99999999999999999999, 2")},
      {"shape is negative", "shape: must be between 1 and", say("30, 48", "-30, -48")},
      {"shape is zero", "shape: must be between 1 and", say("30, 48", "0, 48")},
      {"shape has one size", "a weight has two", say("30, 48", "1440")},
      {"shape has three sizes", "a weight has two", say("30, 48", "3, 10, 48")},
      {"shape is text", "shape: must be a whole number", say("[30, 48]", "\"30x48\"")},
      {"block is wrong", "\"a.weight.absmax\": is u8[23], but must be u8 with 12",
       say("\"blocksize\": 64", "\"blocksize\": 128")},
      {"block is no power", "blocksize: 48 is not supported",
       say("\"blocksize\": 64", "\"blocksize\": 48")},
      {"block is zero", "blocksize: 0 is not supported",
       say("\"blocksize\": 64", "\"blocksize\": 0")},
      {"block is negative", "blocksize: -64 is not",
       say("\"blocksize\": 64", "\"blocksize\": -64")},
      {"block is huge", "blocksize: must be between",
       say("\"blocksize\": 64", "\"blocksize\": 18446744073709551615")},
      {"block is no number", "blocksize: must be a whole number",
       say("\"blocksize\": 64", "\"blocksize\": 64.5")},
      {"block is missing", "blocksize: is missing",
       say("\"blocksize\": 64, ", "")},
      {"shape is missing", "shape: is missing",
       say("\"shape\": [30, 48], ", "")},
      {"type is missing", "quant_type: is missing",
       say("\"quant_type\": \"nf4\", ", "")},
      {"type is another", "quant_type: is \"fp4\", but the tensor's name",
       say("\"nf4\"", "\"fp4\"")},
      {"source is unknown", "dtype: \"float8\" is not supported",
       say("bfloat16", "float8")},
      {"a new field", "signed_absmax: is not a field that bitsandbytes writes",
       say("\"shape\"", "\"signed_absmax\": true, \"shape\"")},
      {"offset is missing", "nested_offset: is missing",
       [](StoredTensors &stored) {
         std::string &text = stored.tensors.at(nf4State).bytes;
         stored.setText(nf4State, text.substr(0, text.find(", \"nested_off")) + "}");
       }},
      {"offset is NaN", "not valid JSON",
       say("\"nested_offset\": ", "\"nested_offset\": NaN, \"x\": ")},
      {"offset is huge", "nested_offset: must be between",
       [](StoredTensors &stored) {
         std::string &text = stored.tensors.at(nf4State).bytes;
         stored.setText(nf4State, text.substr(0, text.rfind(' ')) + " 1e60}");
       }},
      {"nested block", "nested_blocksize: 7 is not supported",
       say("\"nested_blocksize\": 256", "\"nested_blocksize\": 7")},
      {"no JSON", "not valid JSON",
       [](StoredTensors &stored) { stored.setText(nf4State, "{\"quant"); }},
      {"no object", "must hold a JSON object",
       [](StoredTensors &stored) { stored.setText(nf4State, "[1]"); }},
      {"empty", "not valid JSON",
       [](StoredTensors &stored) { stored.setText(nf4State, ""); }},
      {"endless", "such a text may have at most",
       [](StoredTensors &stored) {
         stored.setText(nf4State, std::string(70000, ' '));
       }},
      {"state of another type", "must be u8, the bytes of a JSON text",
       floats(nf4State, 8)},
      {"two states", "there is also one of fp4",
       [](StoredTensors &stored) {
         stored.setText("a.weight.quant_state.bitsandbytes__fp4", "{}");
       }},
      {"no state", "looks like codes of 4 bits", drop(nf4State)},
      {"no codes", "describes a weight that is not in the model",
       drop("a.weight")},
      {"no absmax", "has no tensor \"a.weight.absmax\"",
       drop("a.weight.absmax")},
      {"no map", "has no tensor \"a.weight.quant_map\"",
       drop("a.weight.quant_map")},
      {"no nested absmax", "has no tensor \"a.weight.nested_absmax\"",
       drop("a.weight.nested_absmax")},
      {"no nested map", "has no tensor \"a.weight.nested_quant_map\"",
       drop("a.weight.nested_quant_map")},
      {"codes cut", "has 719 bytes, but nf4[30, 48]",
       [](StoredTensors &stored) {
         stored.set<uint8_t>("a.weight", DType::u8, {719, 1},
                             std::vector<uint8_t>(719));
       }},
      {"scales are f32", "is f32[23], but must be u8 with 23 elements",
       floats("a.weight.absmax", 23)},
      {"scales cut", "is u8[22], but must be u8 with 23",
       [](StoredTensors &stored) {
         stored.set<uint8_t>("a.weight.absmax", DType::u8, {22},
                             std::vector<uint8_t>(22));
       }},
      {"map is short", "but must be f32 with 16 elements",
       floats("a.weight.quant_map", 15)},
      // A code of 8 bits would reach past it.
      {"nested map is short", "but must be f32 with 256 elements",
       floats("a.weight.nested_quant_map", 255)},
      {"nested scales", "but must be f32 with 1 elements",
       floats("a.weight.nested_absmax", 2)},
      {"map is NaN", "\"a.weight.quant_map\": element 15 is nan",
       put("a.weight.quant_map", 15, nan)},
      {"nested map is infinite", "\"a.weight.nested_quant_map\": element 0 is inf",
       put("a.weight.nested_quant_map", 0, infinity)},
      {"nested absmax is NaN", "\"a.weight.nested_absmax\": element 0 is nan",
       put("a.weight.nested_absmax", 0, nan)},
      {"nested absmax is negative", "must be finite and not negative",
       put("a.weight.nested_absmax", 0, -1)},
  };
  for (const Damage &damage : damages) {
    StoredTensors stored = fourBitModel(DType::nf4, true);
    damage.cause(stored);
    EXPECT_TRUE(failsWith(read(stored), Code::badInput, damage.message))
        << damage.what;
  }
  const std::pair<float, const char *> scales[] = {
      {nan, "element 22 is nan"},
      {infinity, "element 22 is inf"},
      {-0.5f, "element 22 is -0.5"}};
  for (const auto &[value, message] : scales) {
    StoredTensors stored = fourBitModel(DType::nf4, false);
    stored.put("a.weight.absmax", 22, value);
    EXPECT_TRUE(failsWith(read(stored), Code::badInput, message));
  }
}

TEST(QuantState, IsWrittenAsBitsandbytesDoes) {
  QuantState state;
  state.format = {.type = DType::nf4, .block = 64, .nested = 256};
  state.shape = {64, 300};
  state.sourceType = DType::bf16;
  state.nestedOffset = 2.618828058242798f;
  const std::string text =
      R"({"quant_type": "nf4", "blocksize": 64, "dtype": "bfloat16", )"
      R"("shape": [64, 300], "nested_blocksize": 256, )"
      R"("nested_dtype": "float32", "nested_offset": 2.618828058242798})";
  EXPECT_EQ(writeQuantState(state), text);
  for (const float offset : {0.0f, 1e-5f, 2.618828058242798f, 1.0f, 3e30f}) {
    state.nestedOffset = offset;
    const auto again = parseQuantState(writeQuantState(state), DType::nf4, "x");
    ASSERT_TRUE(again.ok()) << again.status().message();
    EXPECT_EQ(again->nestedOffset, offset);
    EXPECT_EQ(again->format, state.format);
    EXPECT_EQ(again->shape, state.shape);
  }
}

} // namespace
