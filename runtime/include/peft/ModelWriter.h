//===- ModelWriter.h - writing a model directory ----------------*- C++ -*-===//
//
// The parts that every written model has: its tensors in one file or in shards,
// the files that are copied beside them, and config.json.
//
//===----------------------------------------------------------------------===//
#ifndef PEFT_MODELWRITER_H
#define PEFT_MODELWRITER_H

#include "peft/ModelDirectory.h"
#include "peft/Safetensors.h"

#include <functional>
#include <map>
#include <optional>
#include <string>

namespace peft {

/// Bytes of one file before the model is cut into shards, as transformers cuts.
constexpr uint64_t shardBytes = 5'000'000'000;

/// Error usage unless `path` can become a new directory: absent or empty.
Status checkNewDirectory(const std::string &path);

/// Makes a directory that checkNewDirectory() lets pass and fills it by `write`.
/// If that fails, its files are removed again, and the directory if it was made.
Status fillNewDirectory(const std::string &directory,
                        const std::function<Status()> &write);

/// Writes model.safetensors, or shards of at most `limit` bytes (a larger
/// tensor has one of its own) in the order of names and their index. Removes
/// the index, or the one file, that an earlier model left, and that would hide
/// the new one. Tensors are produced one by one.
Status writeModelTensors(std::map<std::string, TensorToWrite> tensors,
                         const std::string &directory,
                         uint64_t limit = shardBytes);

/// Copies the files of the tokenizer and the processors, generation_config.json
/// and, where config.json has an auto_map, the model's own Python files.
Status copyCompanions(const ModelDirectory &source,
                      const std::string &directory);

/// What a written model has otherwise than its source.
struct ConfigChanges {
  std::optional<DType> dtype;    ///< of its weights
  bool untied = false;           ///< the head is a tensor of its own
  bool notQuantized = false;     ///< quantization_config goes away
};

/// The text of config.json with `changes`; every other field stays as it was
/// written. `what` names the text in errors.
Expected<std::string> changeConfig(const std::string &text,
                                   const std::string &what,
                                   const ConfigChanges &changes);

} // namespace peft

#endif // PEFT_MODELWRITER_H
