//===- Tuning.cpp - measured choices as a file ----------------------------===//
#include "peft/Tuning.h"

#include "FieldReader.h"
#include "peft/Json.h"

#include <cstdio>
#include <limits>
#include <set>

using namespace peft;

static constexpr int64_t formatVersion = 1;

//===----------------------------------------------------------------------===//
// Writing
//===----------------------------------------------------------------------===//

namespace {

/// One object on one line.
class ObjectText {
public:
  ObjectText &add(const char *field, const std::string &value) {
    text += (text.empty() ? "{\"" : ", \"") + std::string(field) + "\": " + value;
    return *this;
  }
  ObjectText &add(const char *field, uint64_t value) {
    return add(field, std::to_string(value));
  }
  ObjectText &add(const char *field, bool value) {
    return add(field, std::string(value ? "true" : "false"));
  }
  ObjectText &add(const char *field, DType type) {
    return add(field, quoteJson(name(type)));
  }
  ObjectText &add(const char *field, double value) {
    // As many digits as give the same number again.
    char digits[40];
    std::snprintf(digits, sizeof digits, "%.17g", value);
    return add(field, std::string(digits));
  }
  std::string finish() { return std::move(text) + "}"; }

private:
  std::string text;
};

std::string productText(const TunedProduct &product) {
  std::string words;
  for (uint32_t word : product.algorithm)
    words += (words.empty() ? "[" : ", ") + std::to_string(word);
  return ObjectText()
      .add("rows", product.rows)
      .add("columns", product.columns)
      .add("depth", product.depth)
      .add("in", product.in)
      .add("out", product.out)
      .add("left_transposed", product.leftTransposed)
      .add("right_transposed", product.rightTransposed)
      .add("addend", product.addend)
      .add("bias", product.bias)
      .add("workspace_bytes", product.workspaceBytes)
      .add("candidate", uint64_t(product.candidate))
      .add("algorithm", words + "]")
      .add("seconds", product.seconds)
      .add("first_seconds", product.firstSeconds)
      .finish();
}

std::string attentionText(const TunedAttention &attention) {
  return ObjectText()
      .add("backward", attention.backward)
      .add("deterministic", attention.deterministic)
      .add("type", attention.type)
      .add("batch", attention.batch)
      .add("seq", attention.seq)
      .add("heads", attention.heads)
      .add("kv_heads", attention.kvHeads)
      .add("head_dim", attention.headDim)
      .add("window", attention.window)
      .add("by_library", attention.byLibrary)
      .add("own_seconds", attention.ownSeconds)
      .add("library_seconds", attention.librarySeconds)
      .finish();
}

template <typename Entry, typename Text>
std::string listText(const std::vector<Entry> &entries, Text entryText) {
  std::string text = "[";
  for (const Entry &entry : entries)
    text += (&entry == entries.data() ? "\n    " : ",\n    ") + entryText(entry);
  return text + (entries.empty() ? "]" : "\n  ]");
}

} // namespace

std::string peft::formatTuning(const Tuning &tuning) {
  return "{\n  \"peft_tuning\": " + std::to_string(formatVersion) +
         ",\n  \"card\": " + quoteJson(tuning.card) +
         ",\n  \"product_library\": " + quoteJson(tuning.productLibrary) +
         ",\n  \"attention_library\": " + quoteJson(tuning.attentionLibrary) +
         ",\n  \"products\": " + listText(tuning.products, productText) +
         ",\n  \"attentions\": " + listText(tuning.attentions, attentionText) +
         "\n}\n";
}

//===----------------------------------------------------------------------===//
// Reading
//===----------------------------------------------------------------------===//

namespace {

constexpr int64_t mostBytes = int64_t(1) << 48;

/// The fields of an object, each of which has to be there, and no other.
class StrictFields {
public:
  StrictFields(const nlohmann::json &object, std::string what)
      : object(object), reader(object, std::move(what)) {}

  uint64_t integer(const char *field, int64_t least, int64_t most) {
    need(field);
    return static_cast<uint64_t>(reader.integer(field, least, least, most));
  }
  bool boolean(const char *field) {
    need(field);
    return reader.boolean(field, false);
  }
  double seconds(const char *field) {
    need(field);
    return reader.number(field, 0, 0, 1e9);
  }
  std::string text(const char *field) {
    need(field);
    return reader.text(field, "");
  }
  DType type(const char *field) {
    const std::string word = text(field);
    for (DType type : {DType::f32, DType::bf16, DType::f16})
      if (word == name(type))
        return type;
    if (reader.status().ok())
      reader.fail(field, "must be f32, bf16 or f16, not " + quoteJson(word));
    return DType::f32;
  }
  std::vector<int64_t> integers(const char *field, size_t count) {
    need(field);
    std::vector<int64_t> values =
        reader.integers(field, 0, std::numeric_limits<uint32_t>::max());
    if (reader.status().ok() && values.size() != count)
      reader.fail(field, "must be " + std::to_string(count) + " numbers, not " +
                             std::to_string(values.size()));
    values.resize(count);
    return values;
  }
  const nlohmann::json *list(const char *field) {
    need(field);
    const nlohmann::json *value = reader.get(field);
    if (reader.status().ok() && !value->is_array())
      reader.fail(field, "must be a list");
    return reader.status().ok() ? value : nullptr;
  }

  /// Ok if every field was there and there is no other.
  Status finish() {
    for (const auto &field : object.items())
      if (!seen.contains(field.key()))
        reader.fail(field.key(), "is no field of this object");
    return reader.status();
  }

private:
  void need(const char *field) {
    seen.emplace(field);
    if (!reader.get(field))
      reader.fail(field, "is missing");
  }

  const nlohmann::json &object;
  FieldReader reader;
  std::set<std::string, std::less<>> seen;
};

Expected<TunedProduct> parseProduct(const nlohmann::json &object,
                                    const std::string &what) {
  StrictFields fields(object, what);
  TunedProduct product;
  for (auto [field, value] : {std::pair("rows", &product.rows),
                              {"columns", &product.columns},
                              {"depth", &product.depth}})
    *value = fields.integer(field, 1, mostBytes);
  product.in = fields.type("in");
  product.out = fields.type("out");
  product.leftTransposed = fields.boolean("left_transposed");
  product.rightTransposed = fields.boolean("right_transposed");
  product.addend = fields.boolean("addend");
  product.bias = fields.boolean("bias");
  product.workspaceBytes = fields.integer("workspace_bytes", 0, mostBytes);
  product.candidate = static_cast<uint32_t>(
      fields.integer("candidate", 0, mostCandidates - 1));
  std::vector<int64_t> words =
      fields.integers("algorithm", product.algorithm.size());
  for (size_t i = 0; i < words.size(); ++i)
    product.algorithm[i] = static_cast<uint32_t>(words[i]);
  product.seconds = fields.seconds("seconds");
  product.firstSeconds = fields.seconds("first_seconds");
  PEFT_TRY(fields.finish());
  return product;
}

Expected<TunedAttention> parseAttention(const nlohmann::json &object,
                                        const std::string &what) {
  StrictFields fields(object, what);
  TunedAttention attention;
  attention.backward = fields.boolean("backward");
  attention.deterministic = fields.boolean("deterministic");
  attention.type = fields.type("type");
  for (auto [field, value] : {std::pair("batch", &attention.batch),
                              {"seq", &attention.seq},
                              {"heads", &attention.heads},
                              {"kv_heads", &attention.kvHeads},
                              {"head_dim", &attention.headDim}})
    *value = fields.integer(field, 1, INT32_MAX);
  attention.window = fields.integer("window", 0, INT32_MAX);
  attention.byLibrary = fields.boolean("by_library");
  attention.ownSeconds = fields.seconds("own_seconds");
  attention.librarySeconds = fields.seconds("library_seconds");
  PEFT_TRY(fields.finish());
  return attention;
}

/// Every element of a list must be an object.
template <typename Entry, typename Parse>
Status parseList(const nlohmann::json *list, const std::string &what,
                 Parse parse, std::vector<Entry> &entries) {
  for (size_t i = 0; list && i < list->size(); ++i) {
    const nlohmann::json &element = (*list)[i];
    const std::string where = what + "[" + std::to_string(i) + "]";
    if (!element.is_object())
      return badInput(where + " must be an object, not " + describe(element));
    PEFT_ASSIGN(Entry entry, parse(element, where));
    entries.push_back(std::move(entry));
  }
  return {};
}

} // namespace

Expected<Tuning> peft::parseTuning(std::string_view text,
                                   const std::string &what) {
  PEFT_ASSIGN(nlohmann::json object, parseJson(text, what));
  if (!object.is_object() || !object.contains("peft_tuning"))
    return badInput(what + " is not what peft-run --tune writes: an object "
                           "with the field peft_tuning");
  StrictFields fields(object, what);
  fields.integer("peft_tuning", formatVersion, formatVersion);
  Tuning tuning;
  tuning.card = fields.text("card");
  tuning.productLibrary = fields.text("product_library");
  tuning.attentionLibrary = fields.text("attention_library");
  const nlohmann::json *products = fields.list("products");
  const nlohmann::json *attentions = fields.list("attentions");
  PEFT_TRY(fields.finish());
  PEFT_TRY(parseList(products, what + ": products", parseProduct,
                     tuning.products));
  PEFT_TRY(parseList(attentions, what + ": attentions", parseAttention,
                     tuning.attentions));
  return tuning;
}
