//===- RopeConfig.cpp - reading RoPE's fields -----------------------------===//
#include "RopeConfig.h"

#include <algorithm>
#include <cmath>
#include <numbers>

using namespace peft;
using Json = nlohmann::json;

namespace {

constexpr double largest = 1e9;
constexpr const char *supportedTypes = "default, linear, llama3";

/// The parameters of the layer types that the model has. They may be nested
/// by layer type, but must then agree: one table of frequencies serves all.
const Json *unnest(const Json &parameters, const std::string &field,
                   FieldReader &fields, const ModelConfig &config) {
  const auto slides = [](int64_t window) { return window != 0; };
  const auto &windows = config.slidingWindow;
  const bool anySliding = std::any_of(windows.begin(), windows.end(), slides);
  const bool anyFull = !std::all_of(windows.begin(), windows.end(), slides);
  const Json *found = nullptr;
  for (const auto &[key, used] : {std::pair("full_attention", anyFull),
                                  std::pair("sliding_attention", anySliding)}) {
    const auto at = parameters.find(key);
    if (at == parameters.end() || at->is_null() || !used)
      continue;
    if (!at->is_object())
      fields.fail(field, std::string(key) + " must be an object, not " +
                             describe(*at));
    else if (found && *found != *at)
      fields.fail(field, "full_attention and sliding_attention differ; one "
                         "RoPE for all layers is supported");
    found = &*at;
  }
  if (found)
    return found;
  if (parameters.contains("full_attention") ||
      parameters.contains("sliding_attention"))
    fields.fail(field, "says nothing about the layers of this model");
  return &parameters;
}

/// rope_scaling when it says something, else rope_parameters: the order of
/// transformers 5; 4 knows only the first.
const Json *findParameters(const Json &json, FieldReader &fields,
                           const ModelConfig &config, std::string &field) {
  for (const char *name : {"rope_scaling", "rope_parameters"}) {
    const auto at = json.find(name);
    if (at == json.end() || at->is_null())
      continue;
    if (!at->is_object()) {
      fields.fail(name, "must be an object, not " + describe(*at));
      return nullptr;
    }
    if (at->empty())
      continue;
    field = name;
    return unnest(*at, field, fields, config);
  }
  return nullptr;
}

std::string readType(const Json &parameters, FieldReader &inner) {
  const std::string type =
      inner.text("rope_type", inner.text("type", std::string()));
  if (type.empty() && parameters.contains("factor"))
    inner.fail("rope_type", "is missing although there is a factor");
  return type.empty() ? "default" : type;
}

void readLlama3(FieldReader &top, FieldReader &inner, ModelConfig &config) {
  RopeConfig &rope = config.rope;
  for (const char *name : {"factor", "low_freq_factor", "high_freq_factor"})
    if (!inner.get(name))
      inner.fail(name, "is missing; RoPE of type llama3 needs it");
  rope.lowFrequencyFactor = inner.number("low_freq_factor", 1, 1e-6, largest);
  rope.highFrequencyFactor = inner.number("high_freq_factor", 4, 1e-6, largest);
  if (!(rope.highFrequencyFactor > rope.lowFrequencyFactor))
    inner.fail("high_freq_factor", "must be larger than low_freq_factor");
  const char *original = "original_max_position_embeddings";
  const int64_t positions =
      inner.integer(original, config.maxPositions, 1, 1ll << 32);
  // transformers 5 lets the outer field win.
  rope.originalMaxPositions =
      static_cast<double>(top.integer(original, positions, 1, 1ll << 32));
}

void readParameters(const Json &parameters, FieldReader &top,
                    FieldReader &inner, ModelConfig &config) {
  RopeConfig &rope = config.rope;
  if (!inner.isNull("rope_theta")) {
    const double outer = rope.theta;
    rope.theta = inner.number("rope_theta", outer, 1e-6, 1e15);
    if (!top.isNull("rope_theta") && rope.theta != outer)
      inner.fail("rope_theta",
                 "differs from the rope_theta outside; which one is meant "
                 "depends on the version of transformers");
  }
  if (!inner.isNull("partial_rotary_factor") &&
      inner.number("partial_rotary_factor", 1, -largest, largest) != 1)
    inner.unsupported("partial_rotary_factor",
                      parameters["partial_rotary_factor"], "1");
  const std::string type = readType(parameters, inner);
  if (type == "default")
    return;
  if (type != "linear" && type != "llama3")
    return inner.unsupported("rope_type", type, supportedTypes);
  rope.factor = inner.number("factor", 1, 1e-6, largest);
  if (!inner.get("factor"))
    inner.fail("factor", "is missing; RoPE of type " + type + " needs it");
  rope.type = type == "linear" ? RopeType::linear : RopeType::llama3;
  if (rope.type == RopeType::llama3)
    readLlama3(top, inner, config);
}

/// Llama 3.1: long wavelengths are divided by the factor, short ones stay,
/// those between are blended. Every operation in f32 and in torch's order
/// (number / tensor is reciprocal, then product).
float scaleLlama3(const RopeConfig &rope, float frequency) {
  const float factor = static_cast<float>(rope.factor);
  const float low = static_cast<float>(rope.lowFrequencyFactor);
  const float positions = static_cast<float>(rope.originalMaxPositions);
  const float longest =
      static_cast<float>(rope.originalMaxPositions / rope.lowFrequencyFactor);
  const float shortest =
      static_cast<float>(rope.originalMaxPositions / rope.highFrequencyFactor);
  const float width =
      static_cast<float>(rope.highFrequencyFactor - rope.lowFrequencyFactor);
  const float wavelength =
      1.0f / frequency * static_cast<float>(2 * std::numbers::pi);
  if (wavelength > longest)
    return frequency / factor;
  if (wavelength < shortest)
    return frequency;
  const float smooth = (1.0f / wavelength * positions - low) / width;
  return (1.0f - smooth) * frequency / factor + smooth * frequency;
}

std::vector<float> frequencies(const RopeConfig &rope, int64_t headDim) {
  std::vector<float> result;
  const float theta = static_cast<float>(rope.theta);
  for (int64_t i = 0; i < headDim; i += 2) {
    const float exponent = static_cast<float>(i) / static_cast<float>(headDim);
    // torch's powf is good to one ulp: through double we round like it nearly
    // always.
    const float power = static_cast<float>(
        std::pow(static_cast<double>(theta), static_cast<double>(exponent)));
    float frequency = 1.0f / power;
    if (rope.type == RopeType::linear)
      frequency /= static_cast<float>(rope.factor);
    else if (rope.type == RopeType::llama3)
      frequency = scaleLlama3(rope, frequency);
    result.push_back(frequency);
  }
  return result;
}

} // namespace

std::string_view peft::name(RopeType type) {
  switch (type) {
  case RopeType::standard:
    return "default";
  case RopeType::linear:
    return "linear";
  case RopeType::llama3:
    return "llama3";
  }
  return "?";
}

void peft::readRope(const Json &json, const std::string &what,
                    FieldReader &fields, ModelConfig &config) {
  if (!fields.isNull("rope_theta"))
    config.rope.theta = fields.number("rope_theta", 10000, 1e-6, 1e15);
  std::string field;
  const Json *parameters = findParameters(json, fields, config, field);
  if (!fields.status().ok())
    return;
  if (parameters) {
    FieldReader inner(*parameters, what + ": " + field);
    readParameters(*parameters, fields, inner, config);
    fields.take(inner.status());
  }
  if (fields.status().ok())
    config.rope.invFreq = frequencies(config.rope, config.headDim);
}
