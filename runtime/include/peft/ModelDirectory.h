//===- ModelDirectory.h - what the user calls "the model" -------*- C++ -*-===//
//
// Finds the files of a Hugging Face model: a directory, a bare config.json, a
// folder of the local hub cache (models--org--name), or `org/name` looked up
// there. Nothing is ever downloaded, and of the weights only the headers are
// read, so that a 70B directory opens in milliseconds.
//
//===----------------------------------------------------------------------===//
#ifndef PEFT_MODELDIRECTORY_H
#define PEFT_MODELDIRECTORY_H

#include "peft/Safetensors.h"
#include "peft/Status.h"

#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace peft {

/// One safetensors file of the model.
struct WeightShard {
  std::string path;
  SafetensorsHeader header;
};

struct ModelDirectory {
  std::string requested;  ///< as the user named it
  std::string directory;  ///< where the files lie (a snapshot, in a hub cache)
  std::string configPath; ///< always a readable file
  /// generation_config.json; empty when there is none.
  std::string generationConfigPath;
  /// Paths of the tokenizer's files that exist: tokenizer.json,
  /// tokenizer_config.json, special_tokens_map.json, chat_template.jinja, ...
  std::vector<std::string> tokenizerFiles;
  /// By file name. Empty only when a bare config.json was named.
  std::vector<WeightShard> shards;

  struct Tensor {
    const WeightShard *shard = nullptr;
    const TensorHeader *header = nullptr;
    explicit operator bool() const { return header; }
  };
  /// The tensor of this Hugging Face name; false when there is none.
  Tensor find(std::string_view name) const;
  /// All tensors, sorted by name.
  std::vector<Tensor> tensors() const;
  /// 64 bits over the sorted names, types and shapes; 0 without weights. Two
  /// checkpoints of the same model agree, whatever their sharding.
  uint64_t headerHash() const;
  bool hasWeights() const { return !shards.empty(); }
};

/// Where `org/name` is looked up: $HF_HUB_CACHE, else $HF_HOME/hub, else
/// $XDG_CACHE_HOME/huggingface/hub, else ~/.cache/huggingface/hub.
std::string hubCacheDirectory();

/// Opens the model called `name`. `hubCache` replaces hubCacheDirectory() in
/// tests. Errors say what was found instead: only .bin files (with the command
/// that converts them), a Git LFS pointer, an incomplete snapshot, an index
/// that disagrees with its shards, no config.json.
Expected<ModelDirectory> openModel(const std::string &name,
                                   const std::string &hubCache = "");

} // namespace peft

#endif // PEFT_MODELDIRECTORY_H
