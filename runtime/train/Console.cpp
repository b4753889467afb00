//===- Console.cpp - what people see while a run goes on ------------------===//
#include "Console.h"

#include <unistd.h>

using namespace peft;

namespace {
constexpr double mebibyte = 1 << 20;

void formatDuration(Line &line, double seconds) {
  auto whole = static_cast<uint64_t>(seconds + 0.5);
  uint64_t hours = whole / 3600, minutes = whole / 60 % 60, rest = whole % 60;
  if (hours)
    line << hours << (minutes < 10 ? ":0" : ":");
  line << minutes << (rest < 10 ? ":0" : ":") << rest;
}
} // namespace

std::string peft::formatBytes(uint64_t bytes) {
  Line line;
  double value = static_cast<double>(bytes) / mebibyte;
  if (value >= 1024)
    line.fixed(value / 1024, 2) << " GiB";
  else if (bytes < 1 << 20)
    line.fixed(value * 1024, 1) << " KiB";
  else
    line.fixed(value, 1) << " MiB";
  return std::string(line.view());
}

void peft::format(Line &line, const StatusView &view) {
  const StepMetrics &metrics = *view.metrics;
  line << "step " << metrics.step << "/" << view.steps;
  if (metrics.overflowed)
    (line << "  loss ").fixed(metrics.loss, 4) << ", skipped: overflow";
  else if (metrics.skipped)
    line << "  no trained token";
  else
    (line << "  loss ").fixed(metrics.loss, 4);
  (line << "  lr ").scientific(metrics.rate, 2);
  (line << "  norm ").fixed(metrics.gradNorm, 4);
  if (metrics.lossScale)
    line << "  scale " << static_cast<double>(*metrics.lossScale);
  (line << "  ").fixed(metrics.tokensPerSecond(), 0) << " tokens/s";
  (line << "  memory ")
      .fixed(static_cast<double>(view.memoryUsed) / mebibyte, 1);
  (line << " of ").fixed(static_cast<double>(view.memoryPlanned) / mebibyte, 1);
  line << " MiB  left ";
  formatDuration(line, view.secondsLeft);
}

Console::Console(int file, bool quiet)
    : file(file), silent(quiet), terminal(::isatty(file)) {}

void Console::print(std::string_view text) {
  // Whoever read these lines may leave; the run goes on.
  if (!silent)
    (void)result(text);
}

bool Console::result(std::string_view text) {
  endStatus();
  // Two writes would let another program's line come between.
  std::string whole(text);
  whole += '\n';
  return writeAll(file, whole);
}

void Console::print(std::string_view name, std::string_view text) {
  std::string whole(name);
  whole.resize(std::max<size_t>(whole.size() + 1, 11), ' ');
  print(whole.append(text));
}

void Console::progress(std::string_view name, std::string_view text) {
  if (!terminal || silent)
    return print(name, text);
  line.clear();
  line << "\r" << name;
  line.padTo(12) << text << "\x1b[K";
  open = true;
  (void)writeAll(file, line.view());
}

void Progress::operator()(uint64_t done, uint64_t all) {
  using namespace std::chrono_literals;
  const auto now = std::chrono::steady_clock::now();
  if (now - shown < (console.isTerminal() ? 100ms : 5000ms))
    return;
  shown = now;
  console.progress(name, what + ", " + std::to_string(100 * done / all) + " %");
}

void Console::status(const StatusView &view) {
  if (silent)
    return;
  line.clear();
  if (terminal)
    line << "\r";
  format(line, view);
  line << (terminal ? std::string_view("\x1b[K") : std::string_view("\n"));
  open = terminal;
  // A terminal that went away is no reason to stop training.
  (void)writeAll(file, line.view());
}

void Console::endStatus() {
  if (open)
    (void)writeAll(file, "\n");
  open = false;
}
