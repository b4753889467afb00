//===- Metrics.cpp - metrics.jsonl ----------------------------------------===//
#include "Metrics.h"

#include <cerrno>
#include <cstring>
#include <fcntl.h>
#include <unistd.h>

using namespace peft;

bool peft::writeAll(int file, std::string_view text) {
  while (!text.empty()) {
    ssize_t wrote = ::write(file, text.data(), text.size());
    if (wrote < 0 && errno == EINTR)
      continue;
    if (wrote < 0)
      return false;
    text.remove_prefix(static_cast<size_t>(wrote));
  }
  return true;
}

void peft::format(Line &line, const StepMetrics &metrics) {
  line.clear();
  line << "{\"step\": " << metrics.step << ", \"loss\": " << metrics.loss
       << ", \"grad_norm\": " << metrics.gradNorm
       << ", \"lr\": " << metrics.rate << ", \"tokens\": " << metrics.tokens
       << ", \"tokens_per_second\": " << metrics.tokensPerSecond()
       << ", \"step_seconds\": " << metrics.seconds;
  if (metrics.lossScale)
    line << ", \"loss_scale\": " << static_cast<double>(*metrics.lossScale);
  if (metrics.skipped || metrics.lossScale)
    line << ", \"skipped\": " << (metrics.skipped ? "true" : "false");
  line << "}\n";
}

MetricsFile::~MetricsFile() {
  if (file >= 0)
    ::close(file);
}

Status MetricsFile::open(const std::string &where) {
  path = where;
  file = ::open(path.c_str(),
                O_WRONLY | O_CREAT | O_TRUNC | O_APPEND | O_CLOEXEC, 0644);
  if (file < 0)
    return ioError("cannot create " + path + ": " + std::strerror(errno));
  return {};
}

Status MetricsFile::writeChoices(std::string_view attention,
                                 std::string_view tuned) {
  if (attention.empty() && tuned.empty())
    return {};
  line.clear();
  line << "{";
  if (!attention.empty())
    line << "\"attention\": \"" << attention << "\"";
  if (!attention.empty() && !tuned.empty())
    line << ", ";
  if (!tuned.empty())
    line << "\"tuned_sha256\": \"" << tuned << "\"";
  line << "}\n";
  return put();
}

Status MetricsFile::put() {
  if (writeAll(file, line.view()))
    return {};
  return ioError("cannot write to " + path + ": " + std::strerror(errno));
}

Status MetricsFile::write(const StepMetrics &metrics) {
  format(line, metrics);
  return put();
}

Status MetricsFile::writeEvaluation(uint64_t step, double loss,
                                    uint64_t tokens) {
  line.clear();
  line << "{\"step\": " << step << ", \"eval_loss\": " << loss
       << ", \"eval_tokens\": " << tokens << "}\n";
  return put();
}
