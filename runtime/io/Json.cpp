//===- Json.cpp - JSON from strangers -------------------------------------===//
#include "peft/Json.h"
#include "peft/File.h"

#include <algorithm>
#include <nlohmann/json.hpp>
#include <set>
#include <vector>

using namespace peft;

namespace {

using Json = nlohmann::json;

/// "line 3, column 14" of a byte offset.
std::string position(std::string_view text, size_t offset) {
  offset = std::min(offset, text.size());
  const std::string_view before = text.substr(0, offset);
  const size_t line =
      1 + static_cast<size_t>(std::count(before.begin(), before.end(), '\n'));
  const size_t start = before.rfind('\n');
  const size_t column =
      offset - (start == std::string_view::npos ? 0 : start + 1);
  return "line " + std::to_string(line) + ", column " +
         std::to_string(std::max<size_t>(column, 1));
}

/// Walks a text without building anything and remembers the first reason to
/// refuse it. The parser calls back; returning false stops it.
class Checker : public Json::json_sax_t {
public:
  explicit Checker(std::string_view text) : text(text) {}
  const std::string &reason() const { return problem; }

  bool null() override { return true; }
  bool boolean(bool) override { return true; }
  bool number_integer(number_integer_t) override { return true; }
  bool number_unsigned(number_unsigned_t) override { return true; }
  bool number_float(number_float_t, const string_t &) override { return true; }
  bool string(string_t &) override { return true; }
  bool binary(binary_t &) override { return true; }
  bool start_object(std::size_t) override {
    keys.emplace_back();
    return enter();
  }
  bool end_object() override {
    keys.pop_back();
    return leave();
  }
  bool start_array(std::size_t) override { return enter(); }
  bool end_array() override { return leave(); }
  bool key(string_t &key) override {
    if (keys.back().insert(key).second)
      return true;
    problem = "the key " + quoteJson(key) + " stands twice in one object";
    return false;
  }
  bool parse_error(std::size_t offset, const std::string &,
                   const nlohmann::detail::exception &error) override {
    // The library's text is "[json...] parse error at ...: reason"; only the
    // reason is worth showing.
    std::string why = error.what();
    if (const size_t colon = why.find("parsing "); colon != std::string::npos)
      why = why.substr(colon);
    std::replace_if(
        why.begin(), why.end(),
        [](char c) { return static_cast<unsigned char>(c) < 0x20; }, ' ');
    if (why.size() > 200)
      why = why.substr(0, 200) + "...";
    problem = "not valid JSON at " + position(text, offset) + ": " + why;
    return false;
  }

private:
  bool enter() {
    if (++depth <= maximumJsonDepth)
      return true;
    problem = "JSON nested deeper than " + std::to_string(maximumJsonDepth) +
              " levels";
    return false;
  }
  bool leave() {
    --depth;
    return true;
  }

  std::string_view text;
  std::string problem;
  std::vector<std::set<std::string>> keys;
  int depth = 0;
};

template <typename T>
Expected<T> parseAs(std::string_view text, const std::string &what) {
  // The library takes a zero byte for the end of its input.
  if (const size_t zero = text.find('\0'); zero != std::string_view::npos)
    return badInput(what + ": not valid JSON at " + position(text, zero) +
                    ": a zero byte");
  try {
    Checker checker(text);
    if (!Json::sax_parse(text.begin(), text.end(), &checker))
      return badInput(what + ": " + checker.reason());
    T value = T::parse(text.begin(), text.end(), nullptr, false);
    if (value.is_discarded())
      return badInput(what + ": not valid JSON");
    return value;
  } catch (const nlohmann::detail::exception &error) {
    return badInput(what + ": " + error.what());
  }
}

} // namespace

Expected<Json> peft::parseJson(std::string_view text, const std::string &what) {
  return parseAs<Json>(text, what);
}

Expected<nlohmann::ordered_json>
peft::parseOrderedJson(std::string_view text, const std::string &what) {
  return parseAs<nlohmann::ordered_json>(text, what);
}

Expected<Json> peft::readJsonObject(const std::string &path) {
  PEFT_ASSIGN(const std::string text, readFile(path));
  PEFT_ASSIGN(Json value, parseJson(text, path));
  if (!value.is_object())
    return badInput(path + ": must hold a JSON object, not " + describe(value));
  return value;
}

std::string peft::describe(const Json &value) {
  std::string text = value.dump(-1, ' ', false, Json::error_handler_t::replace);
  constexpr size_t limit = 60;
  if (text.size() <= limit)
    return text;
  size_t end = limit; // not inside a UTF-8 character
  while (end > 0 && (static_cast<unsigned char>(text[end]) & 0xC0) == 0x80)
    --end;
  return text.substr(0, end) + "...";
}

std::string peft::quoteJson(std::string_view text) {
  return Json(text).dump(-1, ' ', false, Json::error_handler_t::replace);
}
