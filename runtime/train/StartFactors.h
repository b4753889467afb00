//===- StartFactors.h - adapters that start from the weights ----*- C++ -*-===//
//
// PiSSA and OLoRA start with A0 and B0 made of a weight. The base keeps its
// weight: the plan has a frozen pair beside the trained one, with A0 and -B0, in
// tensors called `.lora_A.start` and `.lora_B.start`. Saved are both pairs as
// one plain adapter of twice the rank, [A; A0] and [B, -B0], as PEFT converts.
//
//===----------------------------------------------------------------------===//
#ifndef PEFT_TRAIN_STARTFACTORS_H
#define PEFT_TRAIN_STARTFACTORS_H

#include "Console.h"
#include "peft/AdapterConfig.h"
#include "peft/Executor.h"
#include "peft/ModelDirectory.h"

#include <optional>
#include <string>

namespace peft {

/// Whether `parameter` is the frozen factor of a pair, which no file names.
bool isStartFactor(const Parameter &parameter);
/// The frozen factor that belongs to parameter `index`, if it has one.
std::optional<size_t> startFactorOf(const Plan &plan, size_t index);

/// Whether `adapter` holds what an adapter starts from; it is an error if it
/// holds what PEFT trained from such a start without saying what that was.
Expected<bool> holdsStart(const AdapterDirectory &adapter);

/// Sets parameter `index` and its frozen factor from a tensor of a file: the
/// start itself, or with `converted` both halves.
Status writeFactors(Executor &executor, size_t index, size_t start,
                    std::span<const float> values, bool converted);

/// The shape of parameter `index` in the converted adapter.
std::vector<uint64_t> joinedShape(const Plan &plan, size_t index);
/// Both halves as the tensor of the converted adapter.
TensorToWrite joinedToWrite(const Executor &executor, size_t index,
                            size_t start);

/// Has `peft-data` make the start of every adapted weight and writes it as an
/// adapter to `directory`, from where `--init-adapter` takes it.
Status makeStart(const Plan &plan, const AdapterConfig &config,
                 const ModelDirectory &model, const std::string &directory,
                 Console &console);

} // namespace peft

#endif // PEFT_TRAIN_STARTFACTORS_H
