//===- Generator.h - answers to prompts -------------------------*- C++ -*-===//
#ifndef PEFT_TRAIN_GENERATOR_H
#define PEFT_TRAIN_GENERATOR_H

#include "Console.h"
#include "peft/Executor.h"
#include "peft/ModelDirectory.h"
#include "peft/RunOptions.h"

#include <vector>

namespace peft {

struct TokenLogProb {
  int32_t id = 0;
  double value = 0; ///< natural logarithm of the probability
};

struct Continuation {
  std::vector<int32_t> ids;
  /// Of each choice, also the one that ended the answer: the most likely
  /// tokens, the best first.
  std::vector<std::vector<TokenLogProb>> best;
};

/// Continues each prompt greedily: the most likely token, the lower id on a
/// tie, until an id of `ends`, or what `options` allows, or the end of the
/// plan's row. The whole row is computed again for every token; a slot whose
/// answer is done takes the next prompt. The end token is not part of the
/// answer. Errors: badInput (a prompt that does not fit), nonFinite.
Expected<std::vector<Continuation>>
continuePrompts(Executor &executor,
                const std::vector<std::vector<int32_t>> &prompts,
                const std::vector<int64_t> &ends,
                const GenerateOptions &options);

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
/// form's answers as JSON lines {"ids": [...], "text": "..."}, with
/// "log_probs": [[[id, value], ...], ...] where options.logProbs asks for them.
Status answer(Executor &executor, const ModelDirectory &model,
              const Questions &questions, const GenerateOptions &options,
              Console &console);

} // namespace peft

#endif // PEFT_TRAIN_GENERATOR_H
