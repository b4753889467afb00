//===- SaveQuantized.h - a quantized model directory ------------*- C++ -*-===//
#ifndef PEFT_TRAIN_SAVEQUANTIZED_H
#define PEFT_TRAIN_SAVEQUANTIZED_H

#include "Console.h"
#include "peft/ModelDirectory.h"
#include "peft/Plan.h"
#include "peft/RunOptions.h"
#include "peft/Status.h"

namespace peft {

/// Writes the model with the weights quantized that `plan` quantizes on load,
/// as transformers and bitsandbytes read it: the source's files, config.json
/// with a quantization_config, the tokenizer's files. The directory must be
/// new; an error leaves no file in it. Errors: usage when there is nothing to
/// quantize, or what transformers could not load; else as bindWeights, and io.
Status saveQuantized(const Plan &plan, const ModelDirectory &model,
                     const RunOptions &options, Console &console);

} // namespace peft

#endif // PEFT_TRAIN_SAVEQUANTIZED_H
