//===- SelfCheck.h - peft-run --check ---------------------------*- C++ -*-===//
#ifndef PEFT_TRAIN_SELFCHECK_H
#define PEFT_TRAIN_SELFCHECK_H

#include "Console.h"
#include "peft/Executor.h"

namespace peft {

/// What a run may hold beside its arenas and mapped weights: program, stacks,
/// the plan itself, the batch on the host.
constexpr uint64_t residentAllowance = 48ull << 20;

/// The most memory that this process ever had resident, in bytes.
uint64_t peakResidentBytes();

/// Bytes of all weights that are mapped from the model's files: those that are
/// read in place, and those that trained tensors start from.
uint64_t mappedBytes(const Executor &executor);

/// The arena's high-water mark, to the end of the last buffer's alignment: the
/// plan counts in the same units.
uint64_t usedBytes(const MemoryUse &use);

/// Runs every entry once on zeros and compares what was touched with what the
/// plan says. Error internal when the plan is exceeded.
Status checkMemory(Executor &executor, Console &console);

} // namespace peft

#endif // PEFT_TRAIN_SELFCHECK_H
