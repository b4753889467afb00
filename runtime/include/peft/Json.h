//===- Json.h - JSON from strangers -----------------------------*- C++ -*-===//
//
// One parser for every JSON text that comes from outside. It refuses nesting
// deeper than maximumJsonDepth, duplicate keys, invalid UTF-8 and trailing
// text, each with line and column. No exception leaves these functions; who
// reads the value checks a type before each get.
//
//===----------------------------------------------------------------------===//
#ifndef PEFT_JSON_H
#define PEFT_JSON_H

#include "peft/Status.h"

#include <nlohmann/json_fwd.hpp>
#include <string>
#include <string_view>

namespace peft {

inline constexpr int maximumJsonDepth = 64;

/// `what` names the text in errors, usually its path.
Expected<nlohmann::json> parseJson(std::string_view text,
                                   const std::string &what);
/// The same, keeping the order of keys.
Expected<nlohmann::ordered_json> parseOrderedJson(std::string_view text,
                                                  const std::string &what);
/// Reads and parses a file whose top value must be an object.
Expected<nlohmann::json> readJsonObject(const std::string &path);

/// A value as an error message shows it: compact, cut after 60 bytes, with
/// invalid UTF-8 replaced.
std::string describe(const nlohmann::json &value);

/// `text` as a JSON string literal, quotes included.
std::string quoteJson(std::string_view text);

} // namespace peft

#endif // PEFT_JSON_H
