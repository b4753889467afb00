//===- Console.h - what people see while a run goes on ----------*- C++ -*-===//
#ifndef PEFT_TRAIN_CONSOLE_H
#define PEFT_TRAIN_CONSOLE_H

#include "Line.h"
#include "Metrics.h"

#include <chrono>
#include <cstdint>
#include <string>
#include <string_view>

namespace peft {

/// "3.5 KiB", "512.0 MiB", "1.25 GiB": powers of two.
std::string formatBytes(uint64_t bytes);

/// Everything that stands in a status line.
struct StatusView {
  const StepMetrics *metrics = nullptr;
  uint64_t steps = 0;
  uint64_t memoryUsed = 0, memoryPlanned = 0; ///< bytes of the arena
  double secondsLeft = 0;
};

/// Formats without allocating.
void format(Line &line, const StatusView &view);

/// Lines for people. They go to standard output, or to standard error when
/// that is kept for --json. A status line rewrites itself on a terminal and is
/// an ordinary line elsewhere.
class Console {
public:
  Console(int file, bool quiet);

  bool quiet() const { return silent; }
  bool isTerminal() const { return terminal; }
  void print(std::string_view text);
  /// What was asked for, printed even if quiet. Unlike the lines about it, it
  /// may not get lost: false if it could not be written.
  [[nodiscard]] bool result(std::string_view text);
  /// "name      text", the name padded to a column.
  void print(std::string_view name, std::string_view text);
  void status(const StatusView &view); ///< allocates nothing
  /// "name      text", rewritten by the next call on a terminal.
  void progress(std::string_view name, std::string_view text);
  /// Ends a rewritten status line, so that what follows has its own.
  void endStatus();

private:
  int file;
  bool silent, terminal, open = false;
  Line line;
};

/// Shows how far something has come: often on a terminal, every few seconds
/// elsewhere.
class Progress {
public:
  Progress(Console &console, std::string name, std::string what)
      : console(console), name(std::move(name)), what(std::move(what)) {}
  void operator()(uint64_t done, uint64_t all);

private:
  Console &console;
  std::string name, what;
  std::chrono::steady_clock::time_point shown = std::chrono::steady_clock::now();
};

struct QuantizeProgress : Progress {
  QuantizeProgress(Console &console, std::string what)
      : Progress(console, "quantizing", std::move(what)) {}
};

} // namespace peft

#endif // PEFT_TRAIN_CONSOLE_H
