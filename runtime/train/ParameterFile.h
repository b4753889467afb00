//===- ParameterFile.h - a trained tensor on its way to a file --*- C++ -*-===//
#ifndef PEFT_TRAIN_PARAMETERFILE_H
#define PEFT_TRAIN_PARAMETERFILE_H

#include "peft/Executor.h"
#include "peft/Safetensors.h"

namespace peft {

/// "[16, 576]"
std::string describeShape(const std::vector<uint64_t> &shape);

/// Error nonFinite, naming the tensor: a finite value would be infinite in
/// `type`.
Status checkHeld(const std::string &tensor, DType type,
                 std::span<const float> values);

/// Parameter `index` as the writer takes it, rounded to `type` while it is
/// copied out of the arena piece by piece. `executor` must outlive the writing.
TensorToWrite parameterToWrite(const Executor &executor, size_t index,
                               DType type);

} // namespace peft

#endif // PEFT_TRAIN_PARAMETERFILE_H
