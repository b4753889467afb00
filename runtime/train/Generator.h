//===- Generator.h - answers to prompts -------------------------*- C++ -*-===//
#ifndef PEFT_TRAIN_GENERATOR_H
#define PEFT_TRAIN_GENERATOR_H

#include "Console.h"
#include "peft/Executor.h"
#include "peft/ModelDirectory.h"
#include "peft/RunOptions.h"

#include <vector>

namespace peft {

/// Continues each prompt greedily: the most likely token, the lower id on a
/// tie, until an id of `ends`, `most` new tokens or the end of the plan's row.
/// The whole row is computed again for every token; a slot whose answer is
/// done takes the next prompt. The end token is not part of the answer.
/// Errors: badInput (a prompt that does not fit), nonFinite.
Expected<std::vector<std::vector<int32_t>>>
continuePrompts(Executor &executor,
                const std::vector<std::vector<int32_t>> &prompts,
                const std::vector<int64_t> &ends, uint32_t most);

/// Answers --generate and --prompts: prints `prompt => answer`, and writes the
/// batch form's answers as JSON lines {"ids": [...], "text": "..."}. A line of
/// the prompt file is a string, {"prompt": ..}, {"messages": ..} or
/// {"ids": [..]}, which needs no tokenizer.
Status answer(Executor &executor, const ModelDirectory &model,
              const GenerateOptions &options, Console &console);

} // namespace peft

#endif // PEFT_TRAIN_GENERATOR_H
