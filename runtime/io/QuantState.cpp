//===- QuantState.cpp - the JSON text beside a quantized weight -----------===//
#include "FieldReader.h"
#include "peft/FloatTypes.h"
#include "peft/QuantizedTensor.h"

#include <algorithm>
#include <limits>

using namespace peft;
using Json = nlohmann::json;

namespace {

constexpr int64_t maximumExtent = 1ll << 40;

constexpr std::pair<const char *, DType> sourceTypes[] = {
    {"float32", DType::f32}, {"bfloat16", DType::bf16}, {"float16", DType::f16}};

const char *const knownFields[] = {
    "quant_type",       "blocksize",    "dtype",        "shape",
    "nested_blocksize", "nested_dtype", "nested_offset"};

/// Whoever adds a field may mean other values by the same codes.
void checkFields(const Json &json, FieldReader &fields) {
  for (const auto &[field, value] : json.items())
    if (std::find(std::begin(knownFields), std::end(knownFields), field) ==
        std::end(knownFields))
      fields.fail(field, "is not a field that bitsandbytes writes; the weight "
                         "is of a kind that is not supported");
  for (const char *field : {"quant_type", "blocksize", "dtype", "shape"})
    if (fields.isNull(field))
      fields.fail(field, "is missing");
}

uint32_t readBlock(const char *field, FieldReader &fields) {
  const int64_t block = fields.integer(field, 0, INT64_MIN, INT64_MAX);
  if (block < 0 || !isBlockSize(static_cast<uint64_t>(block)))
    fields.fail(field, std::to_string(block) +
                           " is not supported; supported: powers of two from "
                           "32 to 4096");
  return static_cast<uint32_t>(block);
}

void readShape(FieldReader &fields, QuantState &state) {
  state.shape = fields.integers("shape", 1, maximumExtent);
  uint64_t elements = 1;
  for (const int64_t extent : state.shape)
    if (__builtin_mul_overflow(elements, static_cast<uint64_t>(extent),
                               &elements) ||
        elements > INT64_MAX)
      return fields.fail("shape", "has more elements than 63 bits can count");
  if (state.shape.size() != 2)
    fields.fail("shape", "has " + std::to_string(state.shape.size()) +
                             " dimensions; a weight has two");
}

void readNested(FieldReader &fields, QuantState &state) {
  const bool isNested = !fields.isNull("nested_blocksize") ||
                        !fields.isNull("nested_dtype") ||
                        !fields.isNull("nested_offset");
  if (!isNested)
    return;
  for (const char *field :
       {"nested_blocksize", "nested_dtype", "nested_offset"})
    if (fields.isNull(field))
      fields.fail(field, "is missing, but the scales are nested");
  state.format.nested = readBlock("nested_blocksize", fields);
  if (const std::string type = fields.text("nested_dtype", "float32");
      type != "float32")
    fields.unsupported("nested_dtype", type, "float32");
  constexpr double most = std::numeric_limits<float>::max();
  state.nestedOffset =
      static_cast<float>(fields.number("nested_offset", 0, -most, most));
}

} // namespace

Expected<QuantState> peft::parseQuantState(std::string_view text, DType type,
                                           const std::string &what) {
  PEFT_ASSIGN(const Json json, parseJson(text, what));
  if (!json.is_object())
    return badInput(what + ": must hold a JSON object, not " + describe(json));
  FieldReader fields(json, what);
  checkFields(json, fields);
  QuantState state;
  state.format.type = type;
  if (const std::string named = fields.text("quant_type", "");
      named != name(type))
    fields.fail("quant_type", "is " + quoteJson(named) +
                                  ", but the tensor's name ends with " +
                                  std::string(name(type)));
  state.format.block = readBlock("blocksize", fields);
  const std::string source = fields.text("dtype", "");
  const auto *known = std::find_if(
      std::begin(sourceTypes), std::end(sourceTypes),
      [&](const auto &candidate) { return candidate.first == source; });
  if (known == std::end(sourceTypes))
    fields.unsupported("dtype", source, "float32, bfloat16, float16");
  else
    state.sourceType = known->second;
  readShape(fields, state);
  readNested(fields, state);
  if (!fields.status().ok())
    return fields.status();
  return state;
}

std::string peft::writeQuantState(const QuantState &state) {
  // As Python's json writes it: a blank after each comma and colon.
  std::string source;
  for (const auto &[word, type] : sourceTypes)
    if (type == state.sourceType)
      source = word;
  std::string text = "{\"quant_type\": \"" +
                     std::string(name(state.format.type)) +
                     "\", \"blocksize\": " + std::to_string(state.format.block) +
                     ", \"dtype\": \"" + source + "\", \"shape\": [";
  for (const int64_t extent : state.shape)
    text += (text.back() == '[' ? "" : ", ") + std::to_string(extent);
  text += "]";
  if (state.format.nested)
    text += ", \"nested_blocksize\": " + std::to_string(state.format.nested) +
            ", \"nested_dtype\": \"float32\", \"nested_offset\": " +
            Json(static_cast<double>(state.nestedOffset)).dump();
  return text + "}";
}
