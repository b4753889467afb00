//===- LaterFlags.cpp - flags that later versions have --------------------===//
#include "Flags.h"

#include <algorithm>
#include <iterator>
#include <string_view>

using namespace peft;

namespace {

struct Later {
  std::string_view flag;
  std::string_view value; ///< empty: the flag itself, with any value
  std::string_view instead;
};

constexpr Later later[] = {
    {"--memory", "", "the plan takes the memory it needs and prints it"},
    {"--host-memory", "", "nothing is offloaded"},
    {"--shard", "", "there is one rank"},
    {"--tensor-parallel", "", "there is one rank"},
    {"--generate-batch", "", "peft-run --generate answers one row at a time"},
    {"--generate-tokens", "", "peft-run --generate recomputes the row"},
    {"--html", "", "peftc explain prints text, or --json"},
    {"--trace", "", "peftc explain prints text, or --json"},
};

const Later *findLater(std::string_view flag, std::string_view value) {
  const Later *found =
      std::find_if(std::begin(later), std::end(later), [&](const Later &each) {
        return each.flag == flag && (each.value.empty() || each.value == value);
      });
  return found == std::end(later) ? nullptr : found;
}

Status refuse(std::string_view flag, std::string_view value,
              std::string_view instead) {
  std::string what(flag);
  if (!value.empty())
    what += " " + std::string(value);
  return usageError(what + ": not in this version; " + std::string(instead));
}

} // namespace

Status refuseLater(int argc, char **argv) {
  int seqs = 0;
  for (int i = 1; i < argc; ++i) {
    std::string_view word = argv[i];
    size_t equals = word.find('=');
    std::string_view flag = word.substr(0, equals);
    std::string_view value;
    if (equals != std::string_view::npos)
      value = word.substr(equals + 1);
    else if (i + 1 < argc)
      value = argv[i + 1];
    if (flag == "--seq") {
      bool list = value.find(',') != std::string_view::npos;
      if (list || ++seqs > 1)
        return refuse("several --seq", "", "compile one plan for each length");
    }
    if (const Later *found = findLater(flag, value))
      return refuse(flag, found->value, found->instead);
  }
  return {};
}
