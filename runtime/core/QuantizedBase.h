//===- QuantizedBase.h - weights quantized on load --------------*- C++ -*-===//
#ifndef PEFT_CORE_QUANTIZEDBASE_H
#define PEFT_CORE_QUANTIZEDBASE_H

#include "peft/Executor.h"
#include "peft/WriteQuantized.h"

#include <optional>

namespace peft {

/// A file of quantized weights, opened as a model.
struct QuantizedBase {
  ModelDirectory model;        ///< of one file, without config.json
  std::optional<NewFile> file; ///< keeps one that has no name
};

/// Tensors of a model (all with a format), quantized: out of the cache where it has them, else
/// made and put there. Where that fails (the disk is full or may not be written)
/// they are made in memory. Every scale has been checked.
///
/// An entry of the cache is found by what was quantized and how: size and times
/// of each source file, name, type, shape and place of each tensor, its format.
Expected<QuantizedBase>
openQuantizedBase(const std::vector<QuantizedOutput> &tensors,
                  const BindOptions &options);

} // namespace peft

#endif // PEFT_CORE_QUANTIZEDBASE_H
