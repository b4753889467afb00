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

/// What was asked, in the order of asking.
struct Questions {
  std::vector<std::string> shown;        ///< for people
  std::vector<std::vector<int32_t>> ids; ///< token ids that fit the plan's rows
};

/// Reads and tokenizes --generate and --prompts. A line of the prompt file is a
/// string, {"prompt": ..}, {"messages": ..} or {"ids": [..]}, which needs no
/// tokenizer. Apart from answering, so that a bad prompt is found before hours
/// of training rather than after. Errors: io, badInput.
Expected<Questions> readQuestions(const Plan &plan, const ModelDirectory &model,
                                  const GenerateOptions &options);

/// Answers the questions: prints `prompt => answer`, and writes the batch
/// form's answers as JSON lines {"ids": [...], "text": "..."}.
Status answer(Executor &executor, const ModelDirectory &model,
              const Questions &questions, const GenerateOptions &options,
              Console &console);

} // namespace peft

#endif // PEFT_TRAIN_GENERATOR_H
