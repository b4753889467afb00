//===- QuantizationConfig.cpp - a model that is quantized -----------------===//
#include "QuantizationConfig.h"

using namespace peft;
using Json = nlohmann::json;

namespace {

constexpr const char *supported =
    "weights that are not quantized, or quantized by bitsandbytes (nf4, fp4, "
    "int8); name the unquantized model (peftc compile --base nf4 quantizes it)";

/// Other libraries write their own fields; their names stand in the error.
std::string methodOf(const Json &config) {
  if (const auto method = config.find("quant_method");
      method != config.end() && method->is_string())
    return method->get<std::string>();
  // Old configs have no method; only bitsandbytes has these fields.
  for (const char *field : {"load_in_4bit", "load_in_8bit", "_load_in_4bit",
                            "_load_in_8bit"})
    if (config.contains(field))
      return "bitsandbytes";
  return "";
}

/// Whether bitsandbytes did it. Records an error where something else did.
bool byBitsandbytes(const Json &json, FieldReader &fields) {
  for (const char *field : {"quantization", "compression_config"})
    if (const auto at = json.find(field);
        at != json.end() && !at->is_null() && *at != Json::object())
      fields.unsupported(field, *at, supported);
  const auto found = json.find("quantization_config");
  if (found == json.end() || found->is_null() || *found == Json::object())
    return false;
  if (!found->is_object()) {
    fields.fail("quantization_config",
                "must be an object, not " + describe(*found));
    return false;
  }
  const std::string method = methodOf(*found);
  if (method == "bitsandbytes")
    return true;
  if (method.empty())
    fields.unsupported("quantization_config", *found, supported);
  else
    fields.fail("quantization_config",
                "quant_method " + quoteJson(method) +
                    " is not supported; supported: " + supported);
  return false;
}

} // namespace

Expected<bool> peft::isQuantized(const Json &config, const std::string &what) {
  FieldReader fields(config, what);
  const bool quantized = byBitsandbytes(config, fields);
  PEFT_TRY(fields.status());
  return quantized;
}

void peft::readQuantization(const Json &json, const std::string &what,
                            FieldReader &fields, ModelConfig &config) {
  if (!byBitsandbytes(json, fields))
    return;
  FieldReader inner(json["quantization_config"],
                    what + ": quantization_config");
  const bool four = inner.boolean("load_in_4bit",
                                  inner.boolean("_load_in_4bit", false));
  const bool eight = inner.boolean("load_in_8bit",
                                   inner.boolean("_load_in_8bit", false));
  QuantizationConfig read;
  if (four == eight)
    inner.fail("load_in_4bit", four ? "and load_in_8bit are both true"
                                    : "and load_in_8bit are both false");
  // In a model of 8 bits the fields of 4 bits stand at their defaults and mean
  // nothing: its bnb_4bit_quant_type is "fp4".
  if (eight) {
    read.format = {.type = DType::i8, .block = 0, .nested = 0};
    if (inner.boolean("llm_int8_has_fp16_weight", false))
      inner.unsupported("llm_int8_has_fp16_weight", true, "false");
  } else {
    const std::string type = inner.text("bnb_4bit_quant_type", "fp4");
    if (type != "nf4" && type != "fp4")
      inner.unsupported("bnb_4bit_quant_type", type, "nf4, fp4");
    read.format.type = type == "nf4" ? DType::nf4 : DType::fp4;
    if (inner.boolean("bnb_4bit_use_double_quant", false))
      read.format.nested = nestedBlock;
  }
  read.skipModules = inner.texts("llm_int8_skip_modules");
  fields.take(inner.status());
  config.quantization = std::move(read);
}
