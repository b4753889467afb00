//===- ModelDirectory.cpp - a model's files and weight headers ------------===//
#include "peft/ModelDirectory.h"
#include "HubCache.h"
#include "peft/File.h"
#include "peft/Json.h"

#include <algorithm>
#include <map>
#include <nlohmann/json.hpp>
#include <set>

using namespace peft;
using Json = nlohmann::json;

namespace {

constexpr const char *singleFile = "model.safetensors";
constexpr const char *indexFile = "model.safetensors.index.json";

constexpr const char *tokenizerNames[] = {
    "tokenizer.json",     "tokenizer_config.json",
    "tokenizer.model",    "special_tokens_map.json",
    "added_tokens.json",  "vocab.json",
    "merges.txt",         "chat_template.jinja",
    "chat_template.json",
};

using FileNames = std::vector<std::string>;

std::string quoteForShell(const std::string &path) {
  std::string text = "'";
  for (const char c : path)
    text += c == '\'' ? "'\\''" : std::string(1, c);
  return text + "'";
}

/// "a, b, c and 4 more"
std::string someOf(const FileNames &names) {
  std::string text;
  for (size_t i = 0; i < names.size() && i < 3; ++i)
    text += (i ? ", " : "") + names[i];
  if (names.size() > 3)
    text += " and " + std::to_string(names.size() - 3) + " more";
  return text;
}

FileNames endingWith(const FileNames &names, std::string_view suffix) {
  FileNames found;
  for (const std::string &name : names)
    if (name.ends_with(suffix))
      found.push_back(name);
  return found;
}

bool contains(const FileNames &names, std::string_view name) {
  return std::find(names.begin(), names.end(), name) != names.end();
}

Status noConfig(const std::string &directory, const FileNames &names) {
  if (contains(names, "adapter_config.json"))
    return badInput(directory +
                    ": is a PEFT adapter, not a model; name the base model's "
                    "directory");
  if (!endingWith(names, ".gguf").empty())
    return badInput(directory +
                    ": has no config.json, only GGUF files; turn one into a "
                    "model directory with `python3 -m peft_data.import_gguf`");
  if (contains(names, "params.json") || contains(names, "model_index.json"))
    return badInput(directory +
                    ": has no config.json; it is not in Hugging Face's "
                    "transformers layout");
  return badInput(directory + ": has no config.json" +
                  interruptedDownload(directory) +
                  "; a model directory of transformers is expected");
}

/// Why there is neither model.safetensors nor its index.
Status noWeights(const std::string &directory, const FileNames &names) {
  const std::string none = directory + ": has no " + singleFile;
  FileNames pickles = endingWith(names, ".bin");
  for (const char *suffix : {".pt", ".pth"})
    for (std::string &name : endingWith(names, suffix))
      pickles.push_back(std::move(name));
  std::erase(pickles, "training_args.bin");
  std::erase(pickles, "optimizer.pt");
  std::erase(pickles, "scheduler.pt");
  if (FileNames shards = endingWith(names, ".safetensors"); !shards.empty())
    return badInput(none + " and no " + indexFile + ", only " + someOf(shards) +
                    interruptedDownload(directory) +
                    "; the download is incomplete, or the files are not in "
                    "transformers' layout");
  if (!pickles.empty()) {
    const std::string &one = pickles.front();
    const std::string pattern = one.starts_with("pytorch_model")
                                    ? "pytorch_model*.bin"
                                : one.ends_with(".bin") ? "*.bin"
                                                        : "*.pt*";
    return badInput(
        none + ", only pickled weights (" + someOf(pickles) +
        "), which can run code when they are read; convert them once: "
        "python3 -c \"import glob, sys, torch, safetensors.torch as s; d = "
        "sys.argv[1]; s.save_file({k: v.clone().contiguous() for f in "
        "sorted(glob.glob(d + '/" +
        pattern +
        "')) for k, v in torch.load(f, map_location='cpu', "
        "weights_only=True).items()}, d + '/model.safetensors', {'format': "
        "'pt'})\" " +
        quoteForShell(directory));
  }
  return badInput(none + interruptedDownload(directory) +
                  "; to compile without weights, name its config.json");
}

/// tensor -> shard, as the index says.
Expected<std::map<std::string, std::string>>
readIndex(const std::string &path) {
  PEFT_ASSIGN(const Json index, readJsonObject(path));
  const auto map = index.find("weight_map");
  if (map == index.end() || !map->is_object() || map->empty())
    return badInput(path + ": has no weight_map with tensors");
  std::map<std::string, std::string> result;
  for (const auto &[tensor, shard] : map->items()) {
    if (!shard.is_string())
      return badInput(path + ": tensor " + quoteJson(tensor) +
                      ": the shard must be a file name, not " +
                      describe(shard));
    const std::string &file = shard.get_ref<const std::string &>();
    // A file name only: an index must not reach outside its directory.
    if (file.empty() || file.find('/') != std::string::npos ||
        file.front() == '.' || !file.ends_with(".safetensors"))
      return badInput(path + ": tensor " + quoteJson(tensor) + ": " +
                      quoteJson(file) +
                      " is no name of a safetensors file in the directory");
    result[tensor] = file;
  }
  return result;
}

Status readShards(const FileNames &files, ModelDirectory &model) {
  FileNames missing;
  for (const std::string &file : files) {
    const std::string path = joinPath(model.directory, file);
    if (!isFile(path) && !isBrokenLink(path))
      missing.push_back(file);
  }
  if (!missing.empty())
    return badInput(
        model.directory + ": is incomplete: " + std::to_string(missing.size()) +
        " of " + std::to_string(files.size()) + " weight files are missing (" +
        someOf(missing) + ")" + interruptedDownload(model.directory) +
        "; download the model again");
  for (const std::string &file : files) {
    WeightShard shard;
    shard.path = joinPath(model.directory, file);
    PEFT_TRY(checkPresent(shard.path));
    PEFT_ASSIGN(shard.header, readSafetensorsHeader(shard.path));
    model.shards.push_back(std::move(shard));
  }
  return Status();
}

/// Every tensor of the index is in the shard it names, and in no other.
Status checkIndex(const std::map<std::string, std::string> &index,
                  const std::string &path, const ModelDirectory &model) {
  std::map<std::string_view, const WeightShard *> home;
  for (const WeightShard &shard : model.shards)
    for (const TensorHeader &tensor : shard.header.tensors) {
      const auto [at, isNew] = home.emplace(tensor.name, &shard);
      if (!isNew)
        return badInput(shard.path + ": tensor " + quoteJson(tensor.name) +
                        " is also in " + at->second->path +
                        "; a tensor may be stored only once");
    }
  for (const auto &[tensor, file] : index) {
    const auto at = home.find(tensor);
    if (at == home.end())
      return badInput(path + ": says that tensor " + quoteJson(tensor) +
                      " is in " + file + ", but that file lacks it");
    if (fileName(at->second->path) != file)
      return badInput(path + ": says that tensor " + quoteJson(tensor) +
                      " is in " + file + ", but it is in " +
                      fileName(at->second->path));
  }
  return Status();
}

Status readWeights(const FileNames &names, ModelDirectory &model) {
  if (contains(names, singleFile))
    return readShards({singleFile}, model);
  if (!contains(names, indexFile))
    return noWeights(model.directory, names);
  const std::string path = joinPath(model.directory, indexFile);
  PEFT_TRY(checkPresent(path));
  PEFT_ASSIGN(const auto index, readIndex(path));
  std::set<std::string> files;
  for (const auto &[tensor, file] : index)
    files.insert(file);
  PEFT_TRY(readShards(FileNames(files.begin(), files.end()), model));
  return checkIndex(index, path, model);
}

void findCompanions(ModelDirectory &model) {
  const std::string generation =
      joinPath(model.directory, "generation_config.json");
  if (isFile(generation))
    model.generationConfigPath = generation;
  for (const char *name : tokenizerNames)
    if (std::string path = joinPath(model.directory, name); isFile(path))
      model.tokenizerFiles.push_back(std::move(path));
}

} // namespace

Expected<ModelDirectory> peft::openModel(const std::string &name,
                                         const std::string &hubCache) {
  PEFT_ASSIGN(const ResolvedModel place, resolveModel(name, hubCache));
  ModelDirectory model;
  model.requested = name;
  model.directory = place.directory;
  if (!place.file.empty()) {
    model.configPath = place.file;
    PEFT_TRY(checkPresent(model.configPath));
    findCompanions(model);
    return model;
  }
  PEFT_ASSIGN(const FileNames names, listDirectory(model.directory));
  if (!contains(names, "config.json"))
    return noConfig(model.directory, names);
  model.configPath = joinPath(model.directory, "config.json");
  PEFT_TRY(checkPresent(model.configPath));
  findCompanions(model);
  PEFT_TRY(readWeights(names, model));
  return model;
}

ModelDirectory::Tensor ModelDirectory::find(std::string_view name) const {
  for (const WeightShard &shard : shards)
    if (const TensorHeader *header = shard.header.find(name))
      return {&shard, header};
  return {};
}

std::vector<ModelDirectory::Tensor> ModelDirectory::tensors() const {
  std::vector<Tensor> all;
  for (const WeightShard &shard : shards)
    for (const TensorHeader &header : shard.header.tensors)
      all.push_back({&shard, &header});
  std::sort(all.begin(), all.end(), [](const Tensor &a, const Tensor &b) {
    return a.header->name < b.header->name;
  });
  return all;
}

uint64_t ModelDirectory::headerHash() const {
  if (shards.empty())
    return 0;
  uint64_t hash = 0xcbf29ce484222325; // FNV-1a
  const auto add = [&](std::string_view text) {
    for (const char c : text)
      hash = (hash ^ static_cast<uint8_t>(c)) * 0x100000001b3;
    hash *= 0x100000001b3; // a zero byte between two fields
  };
  for (const Tensor &tensor : tensors()) {
    add(tensor.header->name);
    add(tensor.header->type);
    for (const int64_t size : tensor.header->shape)
      add(std::to_string(size));
    add("");
  }
  return hash;
}
