//===- Status.h - errors as values ------------------------------*- C++ -*-===//
//
// Every function that can fail returns a Status or an Expected<T>; both are
// [[nodiscard]]. Nothing but `main` turns a code into an exit. A message says
// what is wrong, where, why, and what to do next: lower case, no full stop.
//
//===----------------------------------------------------------------------===//
#ifndef PEFT_STATUS_H
#define PEFT_STATUS_H

#include <cassert>
#include <string>
#include <utility>
#include <variant>

namespace peft {

/// The exit codes of every tool (sysexits.h where it has a word for it).
enum class Code : int {
  ok = 0,
  usage = 64,      ///< a flag, or a combination of flags, that cannot be served
  badInput = 65,   ///< a file says something that is wrong or not supported
  peerLost = 69,   ///< another rank went away
  internal = 70,   ///< a bug of ours
  doesNotFit = 71, ///< more memory is needed than there is
  io = 74,         ///< reading or writing failed
  requeue = 75,    ///< saved; start again to go on
  nonFinite = 76,  ///< a loss or gradient was not finite
  unsuitable = 78, ///< this machine does not fit the request
};

class [[nodiscard]] Status {
public:
  Status() = default;
  static Status error(Code code, std::string message) {
    assert(code != Code::ok && "an error needs a code");
    Status status;
    status.codeValue = code;
    status.text = std::move(message);
    return status;
  }
  bool ok() const { return codeValue == Code::ok; }
  Code code() const { return codeValue; }
  const std::string &message() const { return text; }
  /// The same error with `where: ` in front of its message.
  Status in(const std::string &where) const {
    return ok() ? *this : error(codeValue, where + ": " + text);
  }

private:
  Code codeValue = Code::ok;
  std::string text;
};

inline Status badInput(std::string message) {
  return Status::error(Code::badInput, std::move(message));
}
inline Status usageError(std::string message) {
  return Status::error(Code::usage, std::move(message));
}
inline Status ioError(std::string message) {
  return Status::error(Code::io, std::move(message));
}
inline Status internalError(std::string message) {
  return Status::error(Code::internal, std::move(message));
}

/// A value, or the reason why there is none.
template <typename T> class [[nodiscard]] Expected {
public:
  Expected(T value) : content(std::move(value)) {}
  Expected(Status status) : content(std::move(status)) {
    assert(!std::get<Status>(content).ok() && "success needs a value");
  }
  bool ok() const { return std::holds_alternative<T>(content); }
  Status status() const {
    return ok() ? Status() : std::get<Status>(content);
  }
  T &operator*() { return std::get<T>(content); }
  const T &operator*() const { return std::get<T>(content); }
  T *operator->() { return &std::get<T>(content); }
  const T *operator->() const { return &std::get<T>(content); }

private:
  std::variant<T, Status> content;
};

} // namespace peft

/// Returns from the enclosing function when `expression` is an error.
#define PEFT_TRY(expression)                                                   \
  do {                                                                         \
    if (::peft::Status peftStatus = (expression); !peftStatus.ok())            \
      return peftStatus;                                                       \
  } while (false)

#define PEFT_CONCAT_(a, b) a##b
#define PEFT_CONCAT(a, b) PEFT_CONCAT_(a, b)
/// Declares `variable` from an Expected, or returns its error.
#define PEFT_ASSIGN(variable, expression)                                      \
  PEFT_ASSIGN_(variable, expression, PEFT_CONCAT(peftExpected, __LINE__))
#define PEFT_ASSIGN_(variable, expression, temporary)                          \
  auto temporary = (expression);                                               \
  if (!temporary.ok())                                                         \
    return temporary.status();                                                 \
  variable = std::move(*temporary)

#endif // PEFT_STATUS_H
