//===- PeftData.h - the tokenizer, a Python program -------------*- C++ -*-===//
//
// Text becomes tokens, and tokens text, in `peft-data`. It is looked for as
// $PEFT_DATA (a command, split at spaces), beside this program, on PATH, and
// as `python3 -m peft_data`.
//
//===----------------------------------------------------------------------===//
#ifndef PEFT_TRAIN_PEFTDATA_H
#define PEFT_TRAIN_PEFTDATA_H

#include "peft/ModelDirectory.h"
#include "peft/Status.h"

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

namespace peft {

/// Is told every now and then how many bytes a program has printed.
using Watch = std::function<void(uint64_t)>;

/// Runs `peft-data arguments...` with `input` on its standard input and gives
/// back what it printed; its standard error is ours unless `silent`. Errors:
/// unsuitable when it cannot be found; else the code it exited with.
Expected<std::string> runPeftData(const std::vector<std::string> &arguments,
                                  std::string_view input, bool silent = false,
                                  const Watch &watch = {});

/// Tokenizes a JSON-lines file to rows of `seq` tokens and returns the path of
/// the token file. Kept in a cache: the key is a hash of the data, the
/// tokenizer's files, the length and the version.
Expected<std::string> tokenizeFile(const std::string &data,
                                   const ModelDirectory &model, uint64_t seq);

/// One line of JSON (a string, {"prompt": ..} or {"messages": ..}) per text.
Expected<std::vector<std::vector<int32_t>>>
encodeTexts(const ModelDirectory &model, const std::vector<std::string> &lines,
            bool chat);
Expected<std::vector<std::string>>
decodeTokens(const ModelDirectory &model,
             const std::vector<std::vector<int32_t>> &rows);

/// Whether the model has a tokenizer that peft-data can read.
bool hasTokenizer(const ModelDirectory &model);

} // namespace peft

#endif // PEFT_TRAIN_PEFTDATA_H
