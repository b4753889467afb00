//===- PythonRegex.cpp - regular expressions as Python's re has them ------===//
#include "PythonRegex.h"

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

using namespace peftc;

/// Steps after which a match is given up: far above what a module path needs,
/// far below what a pathological expression takes.
static constexpr uint32_t matchLimit = 1000000;

struct PythonRegex::Code {
  std::string expression;
  pcre2_code *code = nullptr;
  pcre2_match_data *data = nullptr;
  pcre2_match_context *context = nullptr;

  ~Code() {
    pcre2_match_context_free(context);
    pcre2_match_data_free(data);
    pcre2_code_free(code);
  }
};

peft::Expected<PythonRegex>
PythonRegex::compile(const std::string &expression) {
  // "(*VERB)" is PCRE2's own; Python reads it as nothing to repeat.
  if (expression.find("(*") != std::string::npos)
    return peft::badInput("regular expression '" + expression +
                          "': nothing to repeat after '('");
  auto code = std::make_shared<Code>();
  code->expression = expression;
  int error = 0;
  PCRE2_SIZE offset = 0;
  code->code = pcre2_compile(reinterpret_cast<PCRE2_SPTR>(expression.data()),
                             expression.size(), PCRE2_NEVER_BACKSLASH_C, &error,
                             &offset, nullptr);
  if (!code->code) {
    PCRE2_UCHAR message[256] = {};
    pcre2_get_error_message(error, message, sizeof message);
    return peft::badInput("regular expression '" + expression +
                          "': " + reinterpret_cast<const char *>(message) +
                          " at offset " + std::to_string(offset));
  }
  code->data = pcre2_match_data_create_from_pattern(code->code, nullptr);
  code->context = pcre2_match_context_create(nullptr);
  if (!code->data || !code->context)
    return peft::internalError("no memory for a regular expression");
  pcre2_set_match_limit(code->context, matchLimit);
  return PythonRegex(std::move(code));
}

/// The number of groups that matched, 0 for no match.
peft::Expected<int> PythonRegex::run(std::string_view text,
                                     unsigned options) const {
  int result =
      pcre2_match(code->code, reinterpret_cast<PCRE2_SPTR>(text.data()),
                  text.size(), 0, options, code->data, code->context);
  if (result == PCRE2_ERROR_NOMATCH)
    return 0;
  if (result < 0)
    return peft::badInput("regular expression '" + code->expression +
                          "' takes too long on '" + std::string(text) +
                          "'; write it without nested repeats");
  return result;
}

peft::Expected<bool> PythonRegex::fullMatch(std::string_view text) const {
  PEFT_ASSIGN(int groups, run(text, PCRE2_ANCHORED | PCRE2_ENDANCHORED));
  return groups > 0;
}

peft::Expected<bool> PythonRegex::match(std::string_view text) const {
  PEFT_ASSIGN(int groups, run(text, PCRE2_ANCHORED));
  return groups > 0;
}

peft::Expected<std::string>
PythonRegex::matchGroup(std::string_view text, const char *group) const {
  PEFT_ASSIGN(int groups, run(text, PCRE2_ANCHORED));
  int number = pcre2_substring_number_from_name(
      code->code, reinterpret_cast<PCRE2_SPTR>(group));
  if (number < 0 || groups <= number)
    return std::string();
  PCRE2_SIZE *offsets = pcre2_get_ovector_pointer(code->data) + 2 * number;
  return std::string(text.substr(offsets[0], offsets[1] - offsets[0]));
}
