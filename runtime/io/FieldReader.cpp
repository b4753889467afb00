//===- FieldReader.cpp - typed fields of a JSON object --------------------===//
#include "FieldReader.h"

#include <cmath>
#include <sstream>

using namespace peft;
using Json = nlohmann::json;

namespace {

std::string numberText(double value) {
  std::ostringstream text;
  text << value;
  return text.str();
}

} // namespace

const Json *FieldReader::get(const std::string &field) const {
  const auto at = object.find(field);
  return at == object.end() ? nullptr : &*at;
}

bool FieldReader::isNull(const std::string &field) const {
  const Json *value = get(field);
  return !value || value->is_null();
}

void FieldReader::fail(const std::string &field, const std::string &problem) {
  if (error.ok())
    error = badInput(what + ": " + field + ": " + problem);
}

void FieldReader::unsupported(const std::string &field, const Json &value,
                              const std::string &supported) {
  fail(field, describe(value) + " is not supported; supported: " + supported);
}

bool FieldReader::checkInteger(const std::string &field, const Json &value,
                               int64_t low, int64_t high) {
  if (!value.is_number_integer()) {
    fail(field, "must be a whole number, not " + describe(value));
    return false;
  }
  const bool tooLarge =
      value.is_number_unsigned() &&
      value.get<uint64_t>() > static_cast<uint64_t>(INT64_MAX);
  if (tooLarge || value.get<int64_t>() < low || value.get<int64_t>() > high) {
    fail(field, "must be between " + std::to_string(low) + " and " +
                    std::to_string(high) + ", not " + describe(value));
    return false;
  }
  return true;
}

int64_t FieldReader::integer(const std::string &field, int64_t value,
                             int64_t low, int64_t high) {
  const Json *found = get(field);
  if (!found || !checkInteger(field, *found, low, high))
    return value;
  return found->get<int64_t>();
}

std::optional<int64_t> FieldReader::optionalInteger(const std::string &field,
                                                    int64_t low, int64_t high) {
  if (isNull(field) || !checkInteger(field, *get(field), low, high))
    return std::nullopt;
  return get(field)->get<int64_t>();
}

bool FieldReader::checkNumber(const std::string &field, const Json &value,
                              double low, double high) {
  if (!value.is_number()) {
    fail(field, "must be a number, not " + describe(value));
    return false;
  }
  const double number = value.get<double>();
  if (!(number >= low && number <= high)) {
    fail(field, "must be between " + numberText(low) + " and " +
                    numberText(high) + ", not " + describe(value));
    return false;
  }
  return true;
}

double FieldReader::number(const std::string &field, double value, double low,
                           double high) {
  const Json *found = get(field);
  if (!found || !checkNumber(field, *found, low, high))
    return value;
  return found->get<double>();
}

bool FieldReader::boolean(const std::string &field, bool value) {
  const Json *found = get(field);
  if (!found)
    return value;
  if (!found->is_boolean()) {
    fail(field, "must be true or false, not " + describe(*found));
    return value;
  }
  return found->get<bool>();
}

std::string FieldReader::text(const std::string &field,
                              const std::string &value) {
  if (isNull(field))
    return value;
  const Json &found = *get(field);
  if (!found.is_string()) {
    fail(field, "must be a string, not " + describe(found));
    return value;
  }
  return found.get<std::string>();
}

std::vector<std::string> FieldReader::texts(const std::string &field) {
  if (isNull(field))
    return {};
  const Json &found = *get(field);
  if (found.is_string())
    return {found.get<std::string>()};
  std::vector<std::string> result;
  if (!found.is_array()) {
    fail(field, "must be a list of strings, not " + describe(found));
    return result;
  }
  for (const Json &item : found) {
    if (!item.is_string()) {
      fail(field, "must be a list of strings, but holds " + describe(item));
      return {};
    }
    result.push_back(item.get<std::string>());
  }
  return result;
}

std::vector<int64_t> FieldReader::integers(const std::string &field,
                                           int64_t low, int64_t high) {
  if (isNull(field))
    return {};
  const Json &found = *get(field);
  std::vector<int64_t> result;
  if (!found.is_array()) {
    if (checkInteger(field, found, low, high))
      result.push_back(found.get<int64_t>());
    return result;
  }
  for (const Json &item : found) {
    if (!checkInteger(field, item, low, high))
      return {};
    result.push_back(item.get<int64_t>());
  }
  return result;
}

std::vector<double> FieldReader::numbers(const std::string &field, double low,
                                         double high) {
  if (isNull(field))
    return {};
  const Json &found = *get(field);
  std::vector<double> result;
  if (!found.is_array()) {
    fail(field, "must be a list of numbers, not " + describe(found));
    return result;
  }
  for (const Json &item : found) {
    if (!checkNumber(field, item, low, high))
      return {};
    result.push_back(item.get<double>());
  }
  return result;
}
