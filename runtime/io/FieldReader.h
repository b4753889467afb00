//===- FieldReader.h - typed fields of a JSON object ------------*- C++ -*-===//
//
// Reads the fields of one object and keeps the first error, so that a parser
// is a list of fields. After an error the getters give the defaults; who
// computes with a value asks status() first.
//
//===----------------------------------------------------------------------===//
#ifndef PEFT_IO_FIELDREADER_H
#define PEFT_IO_FIELDREADER_H

#include "peft/Json.h"
#include "peft/Status.h"

#include <cstdint>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>

namespace peft {

class FieldReader {
public:
  /// `object` must be an object and outlive the reader; `what` stands in
  /// front of each error.
  FieldReader(const nlohmann::json &object, std::string what)
      : object(object), what(std::move(what)) {}

  const Status &status() const { return error; }

  /// The value, or null when the field is not there.
  const nlohmann::json *get(const std::string &field) const;
  /// Absent, or null.
  bool isNull(const std::string &field) const;

  /// A whole number in [low, high]; `value` when the field is not there. Null
  /// is an error.
  int64_t integer(const std::string &field, int64_t value, int64_t low,
                  int64_t high);
  /// The same, where null or no field means "none".
  std::optional<int64_t> optionalInteger(const std::string &field, int64_t low,
                                         int64_t high);
  /// A finite number in [low, high].
  double number(const std::string &field, double value, double low,
                double high);
  bool boolean(const std::string &field, bool value);
  /// Null counts as not there.
  std::string text(const std::string &field, const std::string &value);
  /// A list of strings, or one string as a list of one; null is empty.
  std::vector<std::string> texts(const std::string &field);
  /// A list of whole numbers in [low, high], or one as a list of one.
  std::vector<int64_t> integers(const std::string &field, int64_t low,
                                int64_t high);
  /// A list of finite numbers in [low, high]; null is empty.
  std::vector<double> numbers(const std::string &field, double low,
                              double high);

  /// Records another reader's error.
  void take(const Status &other) {
    if (error.ok())
      error = other;
  }
  /// Records an error about a field: "WHAT: FIELD: PROBLEM".
  void fail(const std::string &field, const std::string &problem);
  /// "VALUE is not supported; supported: SUPPORTED".
  void unsupported(const std::string &field, const nlohmann::json &value,
                   const std::string &supported);

private:
  bool checkInteger(const std::string &field, const nlohmann::json &value,
                    int64_t low, int64_t high);
  bool checkNumber(const std::string &field, const nlohmann::json &value,
                   double low, double high);

  const nlohmann::json &object;
  std::string what;
  Status error;
};

} // namespace peft

#endif // PEFT_IO_FIELDREADER_H
