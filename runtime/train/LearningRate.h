//===- LearningRate.h - the rate of each optimizer step ---------*- C++ -*-===//
#ifndef PEFT_TRAIN_LEARNINGRATE_H
#define PEFT_TRAIN_LEARNINGRATE_H

#include "peft/RunOptions.h"

namespace peft {

/// The factor on the base rate at optimizer step `step` of `steps`, counted
/// from 0, as transformers' get_{constant,linear,cosine}_schedule_with_warmup:
/// warm-up is step / warmup, so the very first step of a warm-up has rate 0.
double rateFactor(Schedule schedule, uint64_t step, uint64_t warmup,
                  uint64_t steps);

} // namespace peft

#endif // PEFT_TRAIN_LEARNINGRATE_H
