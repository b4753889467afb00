//===- ModelWriter.cpp - writing a model directory ------------------------===//
#include "peft/ModelWriter.h"

#include "peft/Json.h"

#include <cstdio>
#include <nlohmann/json.hpp>
#include <unistd.h>

using namespace peft;

static uint64_t dataBytes(const TensorToWrite &tensor) {
  uint64_t count = byteSize(tensor.dtype);
  for (int64_t extent : tensor.shape)
    count *= static_cast<uint64_t>(extent);
  return count;
}

static std::string shardName(size_t index, size_t count) {
  if (count == 1)
    return "model.safetensors";
  char name[64];
  std::snprintf(name, sizeof name, "model-%05zu-of-%05zu.safetensors",
                index + 1, count);
  return name;
}

/// Shards in the order of names, each as full as the limit allows.
static std::vector<std::vector<TensorToWrite>>
cut(std::map<std::string, TensorToWrite> &tensors, uint64_t limit) {
  std::vector<std::vector<TensorToWrite>> shards(1);
  uint64_t used = 0;
  for (auto &[name, tensor] : tensors) {
    uint64_t size = dataBytes(tensor);
    if (!shards.back().empty() && used + size > limit) {
      shards.emplace_back();
      used = 0;
    }
    used += size;
    shards.back().push_back(std::move(tensor));
  }
  return shards;
}

Status peft::checkNewDirectory(const std::string &path) {
  if (path.empty())
    return usageError("no output directory is named");
  if (!isDirectory(path)) {
    if (isFile(path))
      return usageError(path + " is a file; name a new directory");
    return {};
  }
  PEFT_ASSIGN(const std::vector<std::string> names, listDirectory(path));
  if (names.empty())
    return {};
  return usageError(path + " is not empty (it has " + names.front() +
                    "); nothing is overwritten, so name a new directory");
}

Status peft::fillNewDirectory(const std::string &directory,
                              const std::function<Status()> &write) {
  const bool existed = isDirectory(directory);
  PEFT_TRY(createDirectory(directory));
  Status status = write();
  if (status.ok())
    return status;
  if (const auto names = listDirectory(directory); names.ok())
    for (const std::string &name : *names)
      ::unlink(joinPath(directory, name).c_str());
  if (!existed)
    ::rmdir(directory.c_str());
  return status;
}

Status peft::writeModelTensors(std::map<std::string, TensorToWrite> tensors,
                               const std::string &directory, uint64_t limit) {
  uint64_t total = 0;
  for (const auto &[name, tensor] : tensors)
    total += dataBytes(tensor);
  std::vector<std::vector<TensorToWrite>> shards = cut(tensors, limit);
  nlohmann::ordered_json index;
  index["metadata"]["total_size"] = total;
  for (size_t i = 0; i < shards.size(); ++i) {
    std::string name = shardName(i, shards.size());
    for (const TensorToWrite &tensor : shards[i])
      index["weight_map"][tensor.name] = name;
    PEFT_TRY(writeSafetensors(joinPath(directory, name), std::move(shards[i])));
  }
  // What an earlier model of another size left would hide the new one.
  std::string indexPath = joinPath(directory, "model.safetensors.index.json");
  std::string hidden = indexPath;
  if (shards.size() > 1) {
    PEFT_TRY(writeFileAtomically(indexPath, index.dump(2) + "\n"));
    hidden = joinPath(directory, shardName(0, 1));
  }
  ::unlink(hidden.c_str());
  return {};
}

/// What transformers' processors are read from, beside the tokenizer's files.
static constexpr const char *processorNames[] = {"preprocessor_config.json",
                                                 "processor_config.json"};

/// The code of a model that brings its own. Those files that auto_map names
/// import others, so all of them.
static Expected<std::vector<std::string>> codeOf(const ModelDirectory &source) {
  std::vector<std::string> paths;
  PEFT_ASSIGN(const nlohmann::json config, readJsonObject(source.configPath));
  if (!config.contains("auto_map"))
    return paths;
  PEFT_ASSIGN(const std::vector<std::string> names,
              listDirectory(source.directory));
  for (const std::string &name : names)
    if (name.ends_with(".py"))
      paths.push_back(joinPath(source.directory, name));
  return paths;
}

Status peft::copyCompanions(const ModelDirectory &source,
                            const std::string &directory) {
  PEFT_ASSIGN(std::vector<std::string> files, codeOf(source));
  for (const std::string &path : source.tokenizerFiles)
    files.push_back(path);
  for (const char *name : processorNames)
    if (std::string path = joinPath(source.directory, name); isFile(path))
      files.push_back(std::move(path));
  if (!source.generationConfigPath.empty())
    files.push_back(source.generationConfigPath);
  for (const std::string &path : files) {
    PEFT_ASSIGN(std::string text, readFile(path));
    PEFT_TRY(writeFileAtomically(joinPath(directory, fileName(path)), text));
  }
  return {};
}

Expected<std::string> peft::changeConfig(const std::string &text,
                                         const std::string &what,
                                         const ConfigChanges &changes) {
  if (!changes.dtype && !changes.untied && !changes.notQuantized)
    return text;
  PEFT_ASSIGN(nlohmann::ordered_json config, parseOrderedJson(text, what));
  if (changes.dtype) {
    const char *word = *changes.dtype == DType::bf16  ? "bfloat16"
                       : *changes.dtype == DType::f16 ? "float16"
                                                      : "float32";
    config[config.contains("torch_dtype") ? "torch_dtype" : "dtype"] = word;
  }
  if (changes.untied)
    config["tie_word_embeddings"] = false;
  if (changes.notQuantized)
    config.erase("quantization_config");
  return config.dump(2) + "\n";
}
