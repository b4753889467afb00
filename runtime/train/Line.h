//===- Line.h - text formatted without allocation ---------------*- C++ -*-===//
//
// Between the start of the first step and the end of the last, nothing may
// allocate. Metrics and status lines are therefore put together in a fixed
// buffer, with to_chars (which knows no locale), and written with one write(2).
//
//===----------------------------------------------------------------------===//
#ifndef PEFT_TRAIN_LINE_H
#define PEFT_TRAIN_LINE_H

#include <array>
#include <charconv>
#include <cmath>
#include <concepts>
#include <cstdint>
#include <cstring>
#include <string_view>

namespace peft {

class Line {
public:
  void clear() { used = 0; }
  std::string_view view() const { return {text.data(), used}; }
  size_t size() const { return used; }

  /// What does not fit is cut off.
  Line &operator<<(std::string_view part) {
    size_t room = text.size() - used;
    size_t length = part.size() < room ? part.size() : room;
    std::memcpy(text.data() + used, part.data(), length);
    used += length;
    return *this;
  }
  template <std::integral Integer> Line &operator<<(Integer value) {
    return took(std::to_chars(next(), end(), value));
  }
  /// Shortest text that reads back as the same number; `null` if not finite,
  /// as JSON wants it.
  Line &operator<<(double value) {
    if (!std::isfinite(value))
      return *this << std::string_view("null");
    return took(std::to_chars(next(), end(), value));
  }
  Line &fixed(double value, int digits) {
    return took(
        std::to_chars(next(), end(), value, std::chars_format::fixed, digits));
  }
  Line &scientific(double value, int digits) {
    return took(std::to_chars(next(), end(), value,
                              std::chars_format::scientific, digits));
  }
  Line &padTo(size_t width) {
    while (used < width && used < text.size())
      text[used++] = ' ';
    return *this;
  }

private:
  char *next() { return text.data() + used; }
  char *end() { return text.data() + text.size(); }
  Line &took(std::to_chars_result result) {
    if (result.ec == std::errc())
      used = static_cast<size_t>(result.ptr - text.data());
    return *this;
  }

  std::array<char, 512> text;
  size_t used = 0;
};

} // namespace peft

#endif // PEFT_TRAIN_LINE_H
