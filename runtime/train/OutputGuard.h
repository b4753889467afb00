//===- OutputGuard.h - no output over an input ------------------*- C++ -*-===//
#ifndef PEFT_TRAIN_OUTPUTGUARD_H
#define PEFT_TRAIN_OUTPUTGUARD_H

#include "peft/ModelDirectory.h"
#include "peft/Plan.h"
#include "peft/RunOptions.h"
#include "peft/Status.h"

namespace peft {

/// Error usage when a file or directory that the run writes is one that it
/// reads (the plan, data, prompts, anything in the directory of the model or of
/// an adapter), when two outputs are the same file, or when the result would
/// stand beside one of the other kind, which transformers would load together.
/// Names are compared as files, so links and "./" deceive nobody.
Status checkOutputs(const RunOptions &options, const Plan &plan,
                    const ModelDirectory &model);

} // namespace peft

#endif // PEFT_TRAIN_OUTPUTGUARD_H
