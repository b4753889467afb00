//===- AdapterFiles.h - PEFT adapters in and out ----------------*- C++ -*-===//
#ifndef PEFT_TRAIN_ADAPTERFILES_H
#define PEFT_TRAIN_ADAPTERFILES_H

#include "peft/Executor.h"

#include <string>

namespace peft {

/// Reads a PEFT adapter into the trained tensors. Errors name every key that is
/// missing or unexpected, the tensor with another shape, and the setting of
/// adapter_config.json (rank, alpha, ...) that the plan was not compiled with.
Status loadAdapter(Executor &executor, const std::string &directory);

/// Sets every B factor to zero: the base model.
Status clearAdapter(Executor &executor);

/// Writes adapter_model.safetensors and adapter_config.json. `baseModel` is
/// what base_model_name_or_path will say.
Status writeAdapter(const Executor &executor, const std::string &directory,
                    const std::string &baseModel);

} // namespace peft

#endif // PEFT_TRAIN_ADAPTERFILES_H
