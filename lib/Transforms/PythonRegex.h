//===- PythonRegex.h - regular expressions as Python's re has them -*- C++ -*-//
#ifndef PEFTC_LIB_TRANSFORMS_PYTHONREGEX_H
#define PEFTC_LIB_TRANSFORMS_PYTHONREGEX_H

#include "peft/Status.h"

#include <memory>
#include <string>
#include <string_view>

namespace peftc {

/// A compiled expression. PCRE2 agrees with Python's `re` on what people write
/// to select modules: classes, groups (named ones too), lazy repeats,
/// look-around and `$` before a final newline.
class PythonRegex {
public:
  /// Errors name the expression and the place in it.
  static peft::Expected<PythonRegex> compile(const std::string &expression);

  /// re.fullmatch. An error when the expression needs too much backtracking.
  peft::Expected<bool> fullMatch(std::string_view text) const;
  /// re.match: anchored at the start only.
  peft::Expected<bool> match(std::string_view text) const;
  /// re.match, giving the text of the named group; empty when nothing matches.
  peft::Expected<std::string> matchGroup(std::string_view text,
                                         const char *group) const;

private:
  struct Code;
  explicit PythonRegex(std::shared_ptr<Code> code) : code(std::move(code)) {}
  peft::Expected<int> run(std::string_view text, unsigned options) const;
  std::shared_ptr<Code> code;
};

} // namespace peftc

#endif // PEFTC_LIB_TRANSFORMS_PYTHONREGEX_H
