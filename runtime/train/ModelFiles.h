//===- ModelFiles.h - a trained model directory -----------------*- C++ -*-===//
#ifndef PEFT_TRAIN_MODELFILES_H
#define PEFT_TRAIN_MODELFILES_H

#include "peft/Executor.h"
#include "peft/ModelWriter.h"

#include <optional>
#include <string>

namespace peft {

struct SaveOptions {
  std::optional<DType> dtype; ///< absent: each tensor as the source has it
  uint64_t shardBytes = peft::shardBytes;
};

/// Writes what --train all made: model.safetensors (or shards and an index),
/// config.json with its dtype brought up to date, the tokenizer's files and
/// generation_config.json. Tensors the plan does not train are copied from the
/// source; the head of a tied model is stored once, as the embedding.
Status writeModel(const Executor &executor, const ModelDirectory &source,
                  const std::string &directory, const SaveOptions &options);

} // namespace peft

#endif // PEFT_TRAIN_MODELFILES_H
