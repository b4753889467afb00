//===- NestedNames.cpp - tensors of a text model inside another -----------===//
#include "peft/NestedNames.h"

#include <utility>

using namespace peft;

namespace {

/// Since transformers 4.52, and before.
constexpr std::pair<std::string_view, std::string_view> places[] = {
    {"model.language_model", "language_model.model"},
    {"lm_head", "language_model.lm_head"},
};

/// `name` in the place `to`, if it is `from` or something in it.
std::optional<std::string> moved(std::string_view name, std::string_view from,
                                 std::string_view to) {
  if (!name.starts_with(from))
    return {};
  const std::string_view rest = name.substr(from.size());
  if (!rest.empty() && rest.front() != '.')
    return {};
  return std::string(to) + std::string(rest);
}

} // namespace

std::optional<std::string> peft::otherNestedName(std::string_view name) {
  for (const auto &[newer, older] : places) {
    if (auto other = moved(name, newer, older))
      return other;
    if (auto other = moved(name, older, newer))
      return other;
  }
  return {};
}
