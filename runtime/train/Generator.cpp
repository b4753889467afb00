//===- Generator.cpp - answers to prompts ---------------------------------===//
#include "Generator.h"

#include "HostBatch.h"
#include "PeftData.h"
#include "peft/File.h"
#include "peft/Json.h"
#include "peft/ModelConfig.h"

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>
#include <numeric>
#include <sstream>

using namespace peft;

namespace {
using Tokens = std::vector<int32_t>;

/// Prompts in one of the plan's rows at a time.
class Batch {
public:
  Batch(Executor &executor, const std::vector<Tokens> &prompts,
        const std::vector<int64_t> &ends, const GenerateOptions &options)
      : executor(executor), plan(executor.plan()), prompts(prompts), ends(ends),
        options(options), host(plan), rows(plan.batch), owner(plan.batch, none),
        lastToken(plan.batch), logits(plan.batch * plan.vocab),
        answers(prompts.size()) {}

  Expected<std::vector<Continuation>> run() {
    refill();
    while (active > 0) {
      PEFT_TRY(forward());
      for (uint32_t slot = 0; slot < plan.batch; ++slot)
        if (owner[slot] != none)
          PEFT_TRY(take(slot));
      refill();
    }
    return std::move(answers);
  }

private:
  void refill() {
    for (uint32_t slot = 0; slot < plan.batch; ++slot) {
      if (owner[slot] != none || next == prompts.size())
        continue;
      owner[slot] = next++;
      rows[slot] = prompts[owner[slot]];
      ++active;
    }
  }

  Status forward() {
    for (uint32_t slot = 0; slot < plan.batch; ++slot) {
      uint64_t start = slot * plan.seq;
      if (owner[slot] == none)
        writePaddingRow(host.view(), slot);
      else
        writePrompt(host.view(), slot, rows[slot]);
      uint64_t length = owner[slot] == none ? 1 : rows[slot].size();
      lastToken[slot] = static_cast<int32_t>(start + length - 1);
    }
    PEFT_TRY(host.send(executor));
    PEFT_TRY(
        executor.writeInput("logit_rows", std::span<const int32_t>(lastToken)));
    PEFT_TRY(executor.run("logits"));
    return executor.readOutput("logits", std::span<float>(logits));
  }

  /// Appends the best token of a slot, or ends its answer.
  Status take(uint32_t slot) {
    std::span<const float> row(logits.data() + slot * plan.vocab, plan.vocab);
    auto best = std::ranges::max_element(row);
    if (!std::ranges::all_of(row, [](float x) { return std::isfinite(x); }))
      return Status::error(
          Code::nonFinite,
          "prompt " + std::to_string(owner[slot] + 1) +
              ": the logits of token " + std::to_string(rows[slot].size()) +
              " are not finite");
    auto token = static_cast<int32_t>(best - row.begin());
    Tokens &answer = answers[owner[slot]].ids;
    if (options.logProbs)
      answers[owner[slot]].best.push_back(likeliest(row));
    bool ended = std::ranges::find(ends, token) != ends.end();
    if (!ended) {
      answer.push_back(token);
      rows[slot].push_back(token);
    }
    if (ended || answer.size() == options.maxNewTokens || rows[slot].size() == plan.seq) {
      owner[slot] = none;
      --active;
    }
    return {};
  }

  /// The options.logProbs likeliest tokens of a row of logits.
  std::vector<TokenLogProb> likeliest(std::span<const float> row) const {
    std::vector<int32_t> order(row.size());
    std::iota(order.begin(), order.end(), 0);
    auto end = order.begin() + std::min<size_t>(options.logProbs, row.size());
    std::partial_sort(order.begin(), end, order.end(),
                      [&](int32_t a, int32_t b) {
                        return row[a] != row[b] ? row[a] > row[b] : a < b;
                      });
    double top = row[order.front()], sum = 0;
    for (float logit : row)
      sum += std::exp(logit - top);
    std::vector<TokenLogProb> best;
    for (auto id = order.begin(); id != end; ++id)
      best.push_back({*id, row[*id] - top - std::log(sum)});
    return best;
  }

  Executor &executor;
  const Plan &plan;
  const std::vector<Tokens> &prompts;
  const std::vector<int64_t> &ends;
  const GenerateOptions &options;
  HostBatch host;
  std::vector<Tokens> rows;       ///< by slot: prompt and answer so far
  std::vector<uint32_t> owner;    ///< by slot: its prompt, or none
  std::vector<int32_t> lastToken; ///< by slot: flat index
  std::vector<float> logits;      ///< [batch, vocab]
  std::vector<Continuation> answers;
  uint32_t next = 0, active = 0;
};

Status checkPrompt(const Tokens &prompt, const std::string &where,
                   const Plan &plan) {
  if (prompt.empty())
    return badInput(where + ": has no token");
  if (prompt.size() >= plan.seq)
    return badInput(where + ": has " + std::to_string(prompt.size()) +
                    " tokens; the plan's rows have " +
                    std::to_string(plan.seq) +
                    ", which must also hold the answer; compile with a larger "
                    "--seq");
  for (int32_t id : prompt)
    if (id < 0 || static_cast<uint64_t>(id) >= plan.vocab)
      return badInput(where + ": token id " + std::to_string(id) +
                      " is not in the vocabulary of " +
                      std::to_string(plan.vocab));
  return {};
}

/// Questions while they are read.
struct Asked {
  Questions questions;
  /// JSON for peft-data; "" where ids are given. As many as questions.
  std::vector<std::string> lines;
  /// FILE:LINE, or which --generate. As many as questions.
  std::vector<std::string> places;
};

Status addLine(Asked &asked, const std::string &line,
               const std::string &where) {
  PEFT_ASSIGN(nlohmann::json value, parseJson(line, where));
  Tokens ids;
  bool given = value.is_object() && value.contains("ids");
  for (const char *other : {"prompt", "messages"})
    if (given && value.contains(other))
      return badInput(where + ": has ids as well as " + other +
                      "; leave one of them");
  if (given) {
    if (!value["ids"].is_array())
      return badInput(where + ": ids must be a list of token ids, not " +
                      peft::describe(value["ids"]));
    for (const nlohmann::json &id : value["ids"]) {
      if (!id.is_number_integer() || id < INT32_MIN || id > INT32_MAX)
        return badInput(where + ": " + peft::describe(id) +
                        " is not a token id");
      ids.push_back(id.get<int32_t>());
    }
  } else if (!value.is_string() &&
             !(value.is_object() &&
               (value.contains("prompt") || value.contains("messages")))) {
    return badInput(where +
                    ": a string, or an object with prompt, messages "
                    "or ids is needed, not " +
                    peft::describe(value));
  }
  asked.questions.shown.push_back(value.is_string() ? value.get<std::string>()
                                                    : line);
  asked.questions.ids.push_back(std::move(ids));
  asked.lines.push_back(given ? "" : line);
  asked.places.push_back(where);
  return {};
}

Expected<Asked> readPrompts(const GenerateOptions &options) {
  Asked asked;
  for (const std::string &prompt : options.prompts)
    PEFT_TRY(addLine(asked, quoteJson(prompt),
                     "--generate " + std::to_string(asked.lines.size() + 1)));
  if (options.promptFile.empty())
    return asked;
  PEFT_ASSIGN(std::string text, readFile(options.promptFile));
  std::istringstream stream(text);
  uint64_t number = 0;
  for (std::string line; std::getline(stream, line);) {
    ++number;
    if (line.find_first_not_of(" \t\r") == std::string::npos)
      continue;
    PEFT_TRY(addLine(asked, line,
                     options.promptFile + ":" + std::to_string(number)));
  }
  if (asked.lines.empty())
    return badInput(options.promptFile + " has no prompt");
  return asked;
}

/// peft-data counts the lines that it is given: `places` are theirs.
Status atPlace(const Status &status, const std::vector<std::string> &places) {
  const std::string &message = status.message();
  for (size_t i = 0; i < places.size(); ++i) {
    const std::string line = "stdin:" + std::to_string(i + 1);
    if (message.starts_with(line + ":"))
      return Status::error(status.code(),
                           places[i] + message.substr(line.size()));
  }
  return status;
}

Status encode(Asked &asked, const ModelDirectory &model, bool chat) {
  std::vector<std::string> lines, places;
  for (size_t i = 0; i < asked.lines.size(); ++i)
    if (!asked.lines[i].empty()) {
      lines.push_back(asked.lines[i]);
      places.push_back(asked.places[i]);
    }
  if (lines.empty())
    return {};
  auto answered = encodeTexts(model, lines, chat);
  if (!answered.ok())
    return atPlace(answered.status(), places);
  std::vector<Tokens> encoded = std::move(*answered);
  size_t next = 0;
  for (size_t i = 0; i < asked.lines.size(); ++i)
    if (!asked.lines[i].empty())
      asked.questions.ids[i] = std::move(encoded[next++]);
  return {};
}

std::string idText(const Tokens &ids) { return nlohmann::json(ids).dump(); }

std::string
logProbText(const std::vector<std::vector<TokenLogProb>> &choices) {
  nlohmann::json list = nlohmann::json::array();
  for (const std::vector<TokenLogProb> &best : choices) {
    nlohmann::json choice = nlohmann::json::array();
    for (const TokenLogProb &token : best)
      choice.push_back(nlohmann::json::array({token.id, token.value}));
    list.push_back(std::move(choice));
  }
  return list.dump();
}
} // namespace

Expected<std::vector<Continuation>>
peft::continuePrompts(Executor &executor, const std::vector<Tokens> &prompts,
                      const std::vector<int64_t> &ends,
                      const GenerateOptions &options) {
  if (!executor.hasEntry("logits"))
    return badInput("the plan has no logits entry; compile it again");
  for (size_t i = 0; i < prompts.size(); ++i)
    PEFT_TRY(checkPrompt(prompts[i], "prompt " + std::to_string(i + 1),
                         executor.plan()));
  return Batch(executor, prompts, ends, options).run();
}

Expected<Questions> peft::readQuestions(const Plan &plan,
                                        const ModelDirectory &model,
                                        const GenerateOptions &options) {
  PEFT_ASSIGN(Asked asked, readPrompts(options));
  PEFT_TRY(encode(asked, model, options.chat));
  const std::vector<Tokens> &prompts = asked.questions.ids;
  for (size_t i = 0; i < prompts.size(); ++i)
    PEFT_TRY(checkPrompt(prompts[i], asked.places[i], plan));
  return std::move(asked.questions);
}

Status peft::answer(Executor &executor, const ModelDirectory &model,
                    const Questions &questions, const GenerateOptions &options,
                    Console &console) {
  PEFT_ASSIGN(ModelConfig config, readModelConfig(model));
  PEFT_ASSIGN(std::vector<Continuation> continued,
              continuePrompts(executor, questions.ids, config.eosTokenIds,
                              options));
  std::vector<Tokens> answers;
  for (const Continuation &each : continued)
    answers.push_back(each.ids);
  std::vector<std::string> texts;
  if (hasTokenizer(model)) {
    PEFT_ASSIGN(texts, decodeTokens(model, answers));
  }
  std::string lines;
  for (size_t i = 0; i < answers.size(); ++i) {
    std::string text = questions.shown[i] + " => " +
                       (texts.empty() ? idText(answers[i]) : texts[i]);
    // In the batch form the file is the result.
    if (!options.answerFile.empty())
      console.print(text);
    else if (!console.result(text))
      return ioError("cannot write the answers: the output is full or closed");
    lines += "{\"ids\": " + idText(answers[i]);
    if (!texts.empty())
      lines += ", \"text\": " + quoteJson(texts[i]);
    if (options.logProbs)
      lines += ", \"log_probs\": " + logProbText(continued[i].best);
    lines += "}\n";
  }
  if (options.answerFile.empty())
    return {};
  return writeFileAtomically(options.answerFile, lines);
}
