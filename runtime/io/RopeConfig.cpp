//===- RopeConfig.cpp - reading RoPE's fields -----------------------------===//
#include "RopeConfig.h"

#include <algorithm>
#include <cmath>
#include <numbers>

using namespace peft;
using Json = nlohmann::json;

namespace {

constexpr double largest = 1e9;

/// One RoPE while it is read: the fields outside and those of its parameters.
struct Source {
  const RopeRules &rules;
  FieldReader &top, &inner;
  const ModelConfig &config;
  const char *thetaField; ///< outside
  double theta;           ///< where neither says it
};

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

void readLlama3(const Source &from, RopeConfig &rope) {
  FieldReader &top = from.top, &inner = from.inner;
  for (const char *name : {"factor", "low_freq_factor", "high_freq_factor"})
    if (!inner.get(name))
      inner.fail(name, "is missing; RoPE of type llama3 needs it");
  rope.lowFrequencyFactor = inner.number("low_freq_factor", 1, 1e-6, largest);
  rope.highFrequencyFactor = inner.number("high_freq_factor", 4, 1e-6, largest);
  if (!(rope.highFrequencyFactor > rope.lowFrequencyFactor))
    inner.fail("high_freq_factor", "must be larger than low_freq_factor");
  const char *original = "original_max_position_embeddings";
  const int64_t positions =
      inner.integer(original, from.config.maxPositions, 1, 1ll << 32);
  // transformers 5 lets the outer field win.
  rope.originalMaxPositions =
      static_cast<double>(top.integer(original, positions, 1, 1ll << 32));
}

/// The pairs of features that rotate.
size_t pairsOf(const RopeConfig &rope, int64_t headDim) {
  return static_cast<size_t>(static_cast<double>(headDim) *
                             rope.partialRotaryFactor) /
         2;
}

/// The features that rotate, which may be given outside (transformers 4) or
/// inside (5).
void readPartial(const Source &from, RopeConfig &rope) {
  const char *field = "partial_rotary_factor";
  FieldReader &inner = from.inner, &top = from.top;
  const double least = from.rules.partial ? 1e-3 : -largest;
  const double most = from.rules.partial ? 1 : largest;
  double factor = 1;
  if (from.rules.partial && !top.isNull(field))
    factor = top.number(field, 1, least, most);
  if (!inner.isNull(field)) {
    const double outer = factor;
    factor = inner.number(field, 1, least, most);
    if (from.rules.partial && !top.isNull(field) && factor != outer)
      inner.fail(field, "differs from the one outside; which one is meant "
                        "depends on the version of transformers");
  }
  if (!from.rules.partial && factor != 1)
    return inner.unsupported(field, factor, "1");
  const int64_t features =
      static_cast<int64_t>(static_cast<double>(from.config.headDim) * factor);
  if (features < 2 || features % 2 != 0)
    top.fail(field, "makes " + std::to_string(features) + " of " +
                        std::to_string(from.config.headDim) +
                        " features rotate; the number must be even");
  rope.partialRotaryFactor = factor;
}

/// The factors of one list, one for each pair that rotates.
std::vector<double> readFactors(const Source &from, const char *field,
                                const RopeConfig &rope) {
  const std::vector<double> factors = from.inner.numbers(field, 1e-6, largest);
  const size_t pairs = pairsOf(rope, from.config.headDim);
  if (factors.size() != pairs)
    from.inner.fail(field, "has " + std::to_string(factors.size()) +
                               " numbers, needs " + std::to_string(pairs) +
                               ", one for each pair of features that rotates");
  return factors;
}

float powerOf(double theta, size_t pair, size_t pairs) {
  const float exponent =
      static_cast<float>(2 * pair) / static_cast<float>(2 * pairs);
  // torch's powf is good to one ulp: through double we round like it nearly
  // always.
  return static_cast<float>(
      std::pow(static_cast<double>(static_cast<float>(theta)),
               static_cast<double>(exponent)));
}

/// Two lists of factors, of which the plan's row length takes one. The original
/// positions stand outside; transformers reads them nowhere else.
void readLongrope(const Source &from, RopeConfig &rope) {
  FieldReader &top = from.top, &inner = from.inner;
  const int64_t original = top.integer("original_max_position_embeddings",
                                       4096, 2, 1ll << 32);
  rope.originalMaxPositions = static_cast<double>(original);
  const double ratio =
      static_cast<double>(from.config.maxPositions) / rope.originalMaxPositions;
  rope.factor = ratio;
  if (!inner.isNull("factor") &&
      inner.number("factor", ratio, 1e-6, largest) != ratio)
    inner.fail("factor", "is not max_position_embeddings / "
                         "original_max_position_embeddings; which one is meant "
                         "depends on the version of transformers");
  rope.attentionFactor =
      ratio <= 1 ? 1
                 : std::sqrt(1 + std::log(ratio) /
                                     std::log(rope.originalMaxPositions));
  if (!inner.isNull("attention_factor"))
    rope.attentionFactor =
        inner.number("attention_factor", rope.attentionFactor, 1e-6, 1e6);
  const std::vector<double> few = readFactors(from, "short_factor", rope),
                            many = readFactors(from, "long_factor", rope);
  if (!inner.status().ok())
    return;
  const size_t pairs = few.size();
  for (size_t i = 0; i < pairs; ++i) {
    const float power = powerOf(rope.theta, i, pairs);
    rope.invFreq.push_back(1.0f / (static_cast<float>(few[i]) * power));
    rope.longInvFreq.push_back(1.0f / (static_cast<float>(many[i]) * power));
  }
}

void readParameters(const Json &parameters, const Source &from,
                    RopeConfig &rope) {
  FieldReader &top = from.top, &inner = from.inner;
  rope.theta = from.theta;
  if (!top.isNull(from.thetaField))
    rope.theta = top.number(from.thetaField, from.theta, 1e-6, 1e15);
  if (!inner.isNull("rope_theta")) {
    const double outer = rope.theta;
    rope.theta = inner.number("rope_theta", outer, 1e-6, 1e15);
    if (!top.isNull(from.thetaField) && rope.theta != outer)
      inner.fail("rope_theta",
                 "differs from the " + std::string(from.thetaField) +
                     " outside; which one is meant depends on the version of "
                     "transformers");
  }
  readPartial(from, rope);
  const std::string type = readType(parameters, inner);
  if (!inner.status().ok() || !top.status().ok() || type == "default")
    return;
  if (from.rules.longrope) {
    if (type != "longrope" && type != "su" && type != "yarn")
      return inner.unsupported("rope_type", type, "default, longrope");
    rope.type = RopeType::longrope;
    return readLongrope(from, rope);
  }
  if (type != "linear" && type != "llama3")
    return inner.unsupported("rope_type", type, "default, linear, llama3");
  rope.factor = inner.number("factor", 1, 1e-6, largest);
  if (!inner.get("factor"))
    inner.fail("factor", "is missing; RoPE of type " + type + " needs it");
  rope.type = type == "linear" ? RopeType::linear : RopeType::llama3;
  if (rope.type == RopeType::llama3)
    readLlama3(from, rope);
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
  const size_t pairs = pairsOf(rope, headDim);
  for (size_t i = 0; i < pairs; ++i) {
    float frequency = 1.0f / powerOf(rope.theta, i, pairs);
    if (rope.type == RopeType::linear)
      frequency /= static_cast<float>(rope.factor);
    else if (rope.type == RopeType::llama3)
      frequency = scaleLlama3(rope, frequency);
    result.push_back(frequency);
  }
  return result;
}

/// Reads one RoPE; `field` is where its parameters stand.
void readOne(const Json &parameters, const std::string &place, Source from,
             RopeConfig &rope) {
  FieldReader inner(parameters, place);
  const Source source{from.rules,      from.top,  inner,
                      from.config,     from.thetaField, from.theta};
  readParameters(parameters, source, rope);
  from.top.take(inner.status());
  if (from.top.status().ok() && rope.invFreq.empty())
    rope.invFreq = frequencies(rope, from.config.headDim);
}

/// The parameters of one layer type in nested rope_parameters, or nothing.
Json nestedParameters(const Json &json, const char *layerType,
                      FieldReader &fields) {
  const auto outer = json.find("rope_parameters");
  if (outer == json.end() || outer->is_null() || outer->empty())
    return Json::object();
  if (!outer->is_object() || (!outer->contains("full_attention") &&
                              !outer->contains("sliding_attention"))) {
    fields.fail("rope_parameters", "must be an object of full_attention and "
                                   "sliding_attention, not " +
                                       describe(*outer));
    return Json::object();
  }
  const auto at = outer->find(layerType);
  if (at == outer->end() || at->is_null())
    return Json::object();
  if (!at->is_object()) {
    fields.fail("rope_parameters", std::string(layerType) +
                                       " must be an object, not " +
                                       describe(*at));
    return Json::object();
  }
  return *at;
}

/// The RoPE of full attention, whose scaling transformers 4 has in rope_scaling,
/// and that of the layers that slide.
void readTwo(const Json &json, const std::string &what, const RopeRules &rules,
             FieldReader &fields, ModelConfig &config) {
  Json full = nestedParameters(json, "full_attention", fields);
  const Json local = nestedParameters(json, "sliding_attention", fields);
  std::string place = what + ": rope_parameters: full_attention";
  if (const Json *scaling = fields.get("rope_scaling");
      scaling && !scaling->is_null()) {
    if (!scaling->is_object())
      return fields.fail("rope_scaling",
                         "must be an object, not " + describe(*scaling));
    full.update(*scaling);
    place = what + ": rope_scaling";
  }
  readOne(full, place,
          {rules, fields, fields, config, "rope_theta", rules.theta},
          config.rope);
  RopeConfig sliding;
  readOne(local, what + ": rope_parameters: sliding_attention",
          {rules, fields, fields, config, "rope_local_base_freq",
           *rules.localTheta},
          sliding);
  config.localRope = std::move(sliding);
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
  case RopeType::longrope:
    return "longrope";
  }
  return "?";
}

void peft::readRope(const Json &json, const std::string &what,
                    const RopeRules &rules, FieldReader &fields,
                    ModelConfig &config) {
  if (!fields.status().ok())
    return;
  if (rules.localTheta)
    return readTwo(json, what, rules, fields, config);
  const Json none = Json::object();
  std::string field = "rope_parameters";
  const Json *parameters = findParameters(json, fields, config, field);
  if (!fields.status().ok())
    return;
  readOne(parameters ? *parameters : none, what + ": " + field,
          {rules, fields, fields, config, "rope_theta", rules.theta},
          config.rope);
}
