//===- TargetDescription.cpp - the machine that a plan is made for --------===//
#include "peftc/Target.h"

#include "BuiltInTargets.h"

#include "io/FieldReader.h"
#include "peft/File.h"

#include <algorithm>
#include <array>

using namespace peftc;
using peft::DeviceKind;
using peft::DType;
using peft::Expected;

double TargetDescription::flops(DType type) const {
  switch (type) {
  case DType::f32:
    return flopsF32;
  case DType::bf16:
    return flopsBf16;
  case DType::f16:
    return flopsF16;
  default:
    return 0;
  }
}

int64_t TargetDescription::capability() const {
  size_t dot = computeCapability.find('.');
  int64_t number = 0;
  for (char digit : computeCapability.substr(0, dot))
    number = number * 10 + (digit - '0');
  return dot == std::string::npos
             ? 0
             : number * 10 + std::stoi(computeCapability.substr(dot + 1));
}

std::string_view TargetDescription::defaultCompute() const {
  return supports(DType::bf16) ? "bf16" : "f16";
}

//===----------------------------------------------------------------------===//
// Reading
//===----------------------------------------------------------------------===//

namespace {

constexpr double mostRate = 1e18;
constexpr int64_t mostBytes = int64_t(1) << 48;

/// Reads the fields of one description in order; the first error is kept.
class TargetReader {
public:
  TargetReader(const nlohmann::json &object, const std::string &what)
      : object(object), what(what), fields(object, what) {}

  Expected<TargetDescription> read();

private:
  /// A field that must be there; null is an error of its own.
  bool need(peft::FieldReader &reader, const std::string &field) {
    if (reader.get(field))
      return true;
    reader.fail(field, "is missing");
    return false;
  }
  void readKind();
  void readCapability();
  void readFlops();
  double rate(const std::string &field);
  uint64_t bytes(const std::string &field, int64_t least);
  /// Every field must mean something.
  void refuseUnknown();

  const nlohmann::json &object;
  const std::string &what;
  peft::FieldReader fields;
  TargetDescription target;
};

} // namespace

void TargetReader::refuseUnknown() {
  constexpr std::array known = {"name",
                                "description",
                                "kind",
                                "compute_capability",
                                "memory_bytes",
                                "allowance_bytes",
                                "flops",
                                "memory_bytes_per_second",
                                "host_bytes_per_second",
                                "launch_seconds",
                                "source"};
  for (const auto &item : object.items())
    if (std::find(known.begin(), known.end(), item.key()) == known.end())
      fields.fail(item.key(), "is no field of a target description");
}

void TargetReader::readKind() {
  std::string kind = need(fields, "kind") ? fields.text("kind", "") : "";
  if (kind == "cuda")
    target.kind = DeviceKind::cuda;
  else if (kind != "cpu" && fields.status().ok())
    fields.fail("kind",
                "must be \"cpu\" or \"cuda\", not " + peft::quoteJson(kind));
}

/// What a plan and a message can carry without quotes.
static bool isName(const std::string &text) {
  return !text.empty() && text.size() <= 64 &&
         std::all_of(text.begin(), text.end(), [](unsigned char c) {
           return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') ||
                  (c >= 'A' && c <= 'Z') || c == '.' || c == '_' || c == '-';
         });
}

/// Two whole numbers with a dot between them.
static bool isCapability(const std::string &text) {
  size_t dot = text.find('.');
  auto digits = [](std::string_view part) {
    return !part.empty() && part.size() <= 3 &&
           std::all_of(part.begin(), part.end(),
                       [](char c) { return c >= '0' && c <= '9'; });
  };
  return dot != std::string::npos &&
         digits(std::string_view(text).substr(0, dot)) &&
         digits(std::string_view(text).substr(dot + 1));
}

void TargetReader::readCapability() {
  if (target.kind == DeviceKind::cpu) {
    if (fields.get("compute_capability"))
      fields.fail("compute_capability", "belongs to targets of kind \"cuda\"");
    return;
  }
  if (!need(fields, "compute_capability"))
    return;
  target.computeCapability = fields.text("compute_capability", "");
  if (!isCapability(target.computeCapability))
    fields.fail("compute_capability",
                "must be as \"9.0\", not " +
                    peft::quoteJson(target.computeCapability));
}

void TargetReader::readFlops() {
  const nlohmann::json *value = fields.get("flops");
  if (!need(fields, "flops"))
    return;
  if (!value->is_object())
    return fields.fail("flops", "must be an object with f32, bf16 and f16");
  for (const auto &item : value->items())
    if (item.key() != "f32" && item.key() != "bf16" && item.key() != "f16")
      fields.fail("flops." + item.key(), "is no compute type: take f32, bf16, "
                                         "f16");
  peft::FieldReader rates(*value, what + ": flops");
  if (need(rates, "f32"))
    target.flopsF32 = rates.number("f32", 0, 1, mostRate);
  // A type that is not there cannot be computed in.
  target.flopsBf16 = rates.number("bf16", 0, 1, mostRate);
  target.flopsF16 = rates.number("f16", 0, 1, mostRate);
  if (rates.status().ok() && !rates.get("bf16") && !rates.get("f16"))
    rates.fail("f16", "is missing, and so is bf16; one of them must be there");
  fields.take(rates.status());
}

double TargetReader::rate(const std::string &field) {
  return need(fields, field) ? fields.number(field, 0, 1, mostRate) : 0;
}

uint64_t TargetReader::bytes(const std::string &field, int64_t least) {
  return need(fields, field) ? fields.integer(field, 0, least, mostBytes) : 0;
}

Expected<TargetDescription> TargetReader::read() {
  refuseUnknown();
  if (need(fields, "name"))
    target.name = fields.text("name", "");
  if (fields.status().ok() && !isName(target.name))
    fields.fail("name", "must be letters, digits, '.', '_' and '-', not " +
                            peft::quoteJson(target.name));
  target.description = fields.text("description", target.name);
  readKind();
  readCapability();
  bool cpu = target.kind == DeviceKind::cpu;
  if (!cpu || fields.get("memory_bytes"))
    target.memoryBytes = bytes("memory_bytes", 1);
  target.allowanceBytes = bytes("allowance_bytes", 0);
  readFlops();
  target.memoryBytesPerSecond = rate("memory_bytes_per_second");
  if (!cpu || fields.get("host_bytes_per_second"))
    target.hostBytesPerSecond = rate("host_bytes_per_second");
  if (need(fields, "launch_seconds"))
    target.launchSeconds = fields.number("launch_seconds", 0, 0, 1);
  (void)fields.texts("source");
  if (fields.status().ok() && target.memoryBytes &&
      target.allowanceBytes >= target.memoryBytes)
    fields.fail("allowance_bytes", "leaves nothing of memory_bytes, " +
                                       std::to_string(target.memoryBytes));
  PEFT_TRY(fields.status());
  return target;
}

Expected<TargetDescription> peftc::parseTarget(std::string_view json,
                                               const std::string &what) {
  PEFT_ASSIGN(nlohmann::json value, peft::parseJson(json, what));
  if (!value.is_object())
    return peft::badInput(what + ": a target description is an object, not " +
                          peft::describe(value));
  return TargetReader(value, what).read();
}

//===----------------------------------------------------------------------===//
// Finding
//===----------------------------------------------------------------------===//

std::vector<std::string> peftc::targetNames() {
  std::vector<std::string> names;
  for (const BuiltInTarget &each : builtInTargets())
    names.emplace_back(each.name);
  std::sort(names.begin(), names.end());
  return names;
}

Expected<TargetDescription> peftc::loadTarget(const std::string &target) {
  if (target.find('/') != std::string::npos || target.ends_with(".json")) {
    PEFT_ASSIGN(std::string text, peft::readFile(target));
    return parseTarget(text, target);
  }
  for (const BuiltInTarget &each : builtInTargets())
    if (each.name == target)
      return parseTarget(each.json, "target " + target);
  std::string known;
  for (const std::string &name : targetNames())
    known += (known.empty() ? "" : ", ") + name;
  return peft::usageError("--target '" + target + "' is not known; there are " +
                          known + ", and files (NAME.json)");
}
