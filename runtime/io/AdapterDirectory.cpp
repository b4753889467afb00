//===- AdapterDirectory.cpp - writing configs, opening adapters -----------===//
#include "HubCache.h"
#include "peft/AdapterConfig.h"
#include "peft/File.h"
#include "peft/Json.h"

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>

using namespace peft;
using Json = nlohmann::json;

namespace {

constexpr const char *configFile = "adapter_config.json";
constexpr const char *tensorFile = "adapter_model.safetensors";

/// PEFT writes whole numbers without a point.
Json numberOf(double value) {
  if (value == std::floor(value) && std::fabs(value) < 1e15)
    return static_cast<int64_t>(value);
  return value;
}

Json sortedNames(std::vector<std::string> names) {
  std::sort(names.begin(), names.end());
  return names;
}

Json selection(const ModuleSelection &modules) {
  switch (modules.kind) {
  case ModuleSelection::Kind::none:
    return nullptr;
  case ModuleSelection::Kind::list:
    return sortedNames(modules.names);
  case ModuleSelection::Kind::expression:
    return modules.expression;
  }
  return nullptr;
}

template <typename T> Json listOrNull(const std::vector<T> &values) {
  return values.empty() ? Json() : Json(values);
}

Json textOrNull(const std::string &text) {
  return text.empty() ? Json() : Json(text);
}

Json initOf(const AdapterConfig &config) {
  switch (config.init) {
  case LoraInit::kaiming:
    return true;
  case LoraInit::gaussian:
    return "gaussian";
  case LoraInit::random:
    return false;
  case LoraInit::pissa:
    if (config.pissaIterations)
      return "pissa_niter_" + std::to_string(config.pissaIterations);
    return "pissa";
  case LoraInit::olora:
    return "olora";
  }
  return true;
}

/// Whether the adapter of `directory` is what a run starts from. One that cannot
/// be read is none: opening it says why.
bool isStart(const std::string &directory) {
  const auto header = readSafetensorsHeader(joinPath(directory, tensorFile));
  return header.ok() && header->metadata.contains(startMark);
}

/// The directory itself, or its only sub-directory with an adapter that is not
/// the start of a run.
Expected<std::string> findAdapter(const std::string &path) {
  if (!isDirectory(path))
    return badInput(path + ": no such directory; an adapter is a directory "
                           "with adapter_config.json and "
                           "adapter_model.safetensors");
  if (isFile(joinPath(path, configFile)))
    return path;
  PEFT_ASSIGN(const std::vector<std::string> names, listDirectory(path));
  std::vector<std::string> found;
  std::string start;
  for (const std::string &name : names) {
    const std::string directory = joinPath(path, name);
    if (!isFile(joinPath(directory, configFile)))
      continue;
    if (isStart(directory))
      start = directory;
    else
      found.push_back(name);
  }
  if (found.size() == 1)
    return joinPath(path, found.front());
  if (found.empty() && !start.empty())
    return badInput(
        path + ": holds only the start of a run that did not end (" + start +
        "), which is no adapter yet; run it again, with "
        "--init-adapter " +
        start + " from the same start");
  if (found.empty())
    return badInput(path + ": has no adapter_config.json");
  std::string list;
  for (const std::string &name : found)
    list += (list.empty() ? "" : ", ") + name;
  return badInput(path + ": holds several adapters (" + list +
                  "); name one of these directories");
}

} // namespace

std::string peft::writeAdapterConfig(const AdapterConfig &config) {
  Json json; // a map: the keys come out sorted
  json["alpha_pattern"] = Json::object();
  for (const auto &[key, alpha] : config.alphaPattern)
    json["alpha_pattern"][key] = numberOf(alpha);
  json["auto_mapping"] = nullptr;
  json["base_model_name_or_path"] = textOrNull(config.baseModelName);
  json["bias"] = name(config.bias);
  json["exclude_modules"] = selection(config.excludeModules);
  json["fan_in_fan_out"] = false;
  json["inference_mode"] = config.inferenceMode;
  json["init_lora_weights"] = initOf(config);
  json["layers_pattern"] = listOrNull(config.layersPattern);
  json["layers_to_transform"] = listOrNull(config.layersToTransform);
  json["lora_alpha"] = numberOf(config.alpha);
  if (config.loraBias) // a field that old versions do not know
    json["lora_bias"] = true;
  json["lora_dropout"] = config.dropout;
  std::vector<std::string> saved = config.modulesToSave;
  std::sort(saved.begin(), saved.end());
  json["modules_to_save"] = listOrNull(saved);
  json["peft_type"] = "LORA";
  json["r"] = config.rank;
  json["rank_pattern"] = Json::object();
  for (const auto &[key, rank] : config.rankPattern)
    json["rank_pattern"][key] = rank;
  json["revision"] = textOrNull(config.revision);
  json["target_modules"] = selection(config.targetModules);
  json["task_type"] = textOrNull(config.taskType);
  json["use_dora"] = config.dora;
  json["use_rslora"] = config.rsLora;
  return json.dump(2, ' ', true, Json::error_handler_t::replace) + "\n";
}

Expected<AdapterConfig> peft::readAdapterConfig(const std::string &path) {
  if (!isFile(path) && !isBrokenLink(path))
    return badInput(path + ": no such file");
  PEFT_TRY(checkPresent(path));
  PEFT_ASSIGN(const std::string text, readFile(path, 16 << 20));
  return parseAdapterConfig(text, path);
}

Expected<AdapterDirectory> peft::openAdapter(const std::string &path) {
  AdapterDirectory adapter;
  PEFT_ASSIGN(adapter.directory, findAdapter(path));
  PEFT_ASSIGN(adapter.config,
              readAdapterConfig(joinPath(adapter.directory, configFile)));
  const std::string tensors = joinPath(adapter.directory, tensorFile);
  if (!isFile(tensors) && !isBrokenLink(tensors)) {
    const bool pickled =
        isFile(joinPath(adapter.directory, "adapter_model.bin"));
    return badInput(
        adapter.directory + ": has no " + tensorFile +
        (pickled ? ", only adapter_model.bin, which can run code when it is "
                   "read; load and save the adapter once with PEFT "
                   "(save_pretrained writes safetensors)"
                 : "; the adapter is incomplete"));
  }
  PEFT_TRY(checkPresent(tensors));
  PEFT_ASSIGN(adapter.tensors, SafetensorsFile::open(tensors));
  return adapter;
}
