//===- ModelFiles.cpp - a trained model directory -------------------------===//
#include "ModelFiles.h"

#include "ParameterFile.h"
#include "peft/FloatTypes.h"
#include "peft/Json.h"
#include "peft/ModelConfig.h"

#include <cstdio>
#include <map>
#include <nlohmann/json.hpp>
#include <set>
#include <unistd.h>

using namespace peft;

namespace {
uint64_t byteCount(const TensorToWrite &tensor) {
  uint64_t count = byteSize(tensor.dtype);
  for (int64_t extent : tensor.shape)
    count *= static_cast<uint64_t>(extent);
  return count;
}

/// A tensor of the source that is not trained, in `type`.
TensorToWrite copyOf(const SafetensorsFile &file, const TensorHeader &tensor,
                     DType type) {
  TensorToWrite copy;
  copy.name = tensor.name;
  copy.dtype = type;
  copy.shape = tensor.shape;
  if (type == *tensor.dtype) {
    copy.bytes = file.bytes(tensor);
    return copy;
  }
  copy.produce = [&file, &tensor, type](FileSink &sink) -> Status {
    ByteSpan source = file.bytes(tensor);
    std::vector<std::byte> stored(tensor.elementCount() * byteSize(type));
    for (uint64_t i = 0; i < tensor.elementCount(); ++i) {
      float value = loadFloat(source.data(), *tensor.dtype, i);
      PEFT_TRY(checkHeld(tensor.name, type, {&value, 1}));
      storeFloat(stored.data(), type, i, value);
    }
    return sink.write(stored);
  };
  return copy;
}

/// The source's config.json with the type its weights now have; every other
/// field stays as it was written.
Expected<std::string> updatedConfig(const Plan &plan,
                                    std::optional<DType> type) {
  if (!type)
    return plan.modelConfig;
  PEFT_ASSIGN(nlohmann::ordered_json config,
              parseOrderedJson(plan.modelConfig, "the plan's config.json"));
  const char *word = *type == DType::bf16  ? "bfloat16"
                     : *type == DType::f16 ? "float16"
                                           : "float32";
  config[config.contains("torch_dtype") ? "torch_dtype" : "dtype"] = word;
  return config.dump(2) + "\n";
}

std::string shardName(size_t index, size_t count) {
  if (count == 1)
    return "model.safetensors";
  char name[64];
  std::snprintf(name, sizeof name, "model-%05zu-of-%05zu.safetensors",
                index + 1, count);
  return name;
}

/// Shards in the order of names, each as full as the limit allows.
std::vector<std::vector<TensorToWrite>>
cut(std::map<std::string, TensorToWrite> &tensors, uint64_t limit) {
  std::vector<std::vector<TensorToWrite>> shards(1);
  uint64_t used = 0;
  for (auto &[name, tensor] : tensors) {
    uint64_t size = byteCount(tensor);
    if (!shards.back().empty() && used + size > limit) {
      shards.emplace_back();
      used = 0;
    }
    used += size;
    shards.back().push_back(std::move(tensor));
  }
  return shards;
}

Status writeShards(std::map<std::string, TensorToWrite> &tensors,
                   const std::string &directory, uint64_t limit) {
  uint64_t total = 0;
  for (const auto &[name, tensor] : tensors)
    total += byteCount(tensor);
  std::vector<std::vector<TensorToWrite>> shards = cut(tensors, limit);
  nlohmann::ordered_json index;
  index["metadata"]["total_size"] = total;
  for (size_t i = 0; i < shards.size(); ++i) {
    std::string name = shardName(i, shards.size());
    for (const TensorToWrite &tensor : shards[i])
      index["weight_map"][tensor.name] = name;
    PEFT_TRY(writeSafetensors(joinPath(directory, name), std::move(shards[i])));
  }
  // An index left by an earlier, larger model would hide the new file.
  std::string indexPath = joinPath(directory, "model.safetensors.index.json");
  if (shards.size() > 1)
    return writeFileAtomically(indexPath, index.dump(2) + "\n");
  ::unlink(indexPath.c_str());
  return {};
}
} // namespace

Status peft::copyCompanions(const ModelDirectory &source,
                            const std::string &directory) {
  std::vector<std::string> files = source.tokenizerFiles;
  if (!source.generationConfigPath.empty())
    files.push_back(source.generationConfigPath);
  for (const std::string &path : files) {
    PEFT_ASSIGN(std::string text, readFile(path));
    PEFT_TRY(writeFileAtomically(joinPath(directory, fileName(path)), text));
  }
  return {};
}

Status peft::writeModel(const Executor &executor, const ModelDirectory &source,
                        const std::string &directory,
                        const SaveOptions &options) {
  const Plan &plan = executor.plan();
  PEFT_ASSIGN(ModelConfig config,
              parseModelConfig(plan.modelConfig, "the plan's config.json"));
  std::map<std::string, TensorToWrite> tensors;
  for (size_t i = 0; i < plan.parameters.size(); ++i)
    tensors.emplace(plan.parameters[i].name,
                    parameterToWrite(
                        executor, i,
                        options.dtype.value_or(plan.parameters[i].sourceType)));
  std::map<std::string, SafetensorsFile> files;
  for (const ModelDirectory::Tensor &tensor : source.tensors()) {
    const std::string &name = tensor.header->name;
    if (tensors.count(name) || (config.tied && name == "lm_head.weight"))
      continue;
    auto [entry, isNew] = files.try_emplace(tensor.shard->path);
    if (isNew) {
      PEFT_ASSIGN(entry->second, SafetensorsFile::open(tensor.shard->path));
    }
    if (!tensor.header->dtype)
      return badInput(tensor.shard->path + ": " + name + " is stored as " +
                      tensor.header->type + ", which cannot be copied");
    bool change = options.dtype && isFloat(*tensor.header->dtype);
    tensors.emplace(name,
                    copyOf(entry->second, *tensor.header,
                           change ? *options.dtype : *tensor.header->dtype));
  }
  PEFT_TRY(createDirectory(directory));
  PEFT_TRY(writeShards(tensors, directory, options.shardBytes));
  PEFT_TRY(copyCompanions(source, directory));
  PEFT_ASSIGN(std::string text, updatedConfig(plan, options.dtype));
  return writeFileAtomically(joinPath(directory, "config.json"), text);
}
