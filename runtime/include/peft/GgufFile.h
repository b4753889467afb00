//===- GgufFile.h - writing GGUF files --------------------------*- C++ -*-===//
//
// GGUF version 3, little-endian: the container of llama.cpp. A header, key-value
// fields, the tensors' names and shapes, then their bytes, each aligned to 32.
// Only what adapters need is here; models are read by peft_data.import_gguf.
//
//===----------------------------------------------------------------------===//
#ifndef PEFT_GGUFFILE_H
#define PEFT_GGUFFILE_H

#include "peft/Safetensors.h"

#include <string>
#include <utility>
#include <variant>
#include <vector>

namespace peft {

using GgufValue = std::variant<uint32_t, float, std::string>;
using GgufFields = std::vector<std::pair<std::string, GgufValue>>;

/// Writes `tensors` (f32, f16 or bf16; shapes row-major, as everywhere) in the
/// order given. Streaming and atomic, as writeSafetensors.
Status writeGguf(const std::string &path, const GgufFields &fields,
                 const std::vector<TensorToWrite> &tensors);

} // namespace peft

#endif // PEFT_GGUFFILE_H
