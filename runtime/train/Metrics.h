//===- Metrics.h - metrics.jsonl --------------------------------*- C++ -*-===//
#ifndef PEFT_TRAIN_METRICS_H
#define PEFT_TRAIN_METRICS_H

#include "Line.h"
#include "peft/Status.h"

#include <optional>
#include <string>

namespace peft {

/// What one optimizer step came to.
struct StepMetrics {
  uint64_t step = 0;    ///< from 1
  double loss = 0;      ///< mean over the trained tokens of the step
  double gradNorm = 0;  ///< of the mean gradient, before clipping
  double rate = 0;      ///< learning rate of the step
  uint64_t tokens = 0;  ///< trained tokens
  uint64_t present = 0; ///< tokens that are not padding
  double begin = 0;     ///< of monotonicSeconds, when it was asked for
  double seconds = 0;
  bool skipped = false; ///< nothing changed: no trained token, or an overflow
  bool overflowed = false; ///< skipped, because a gradient left f16's range
  std::optional<float> lossScale; ///< of the step; only in f16

  double tokensPerSecond() const {
    return seconds > 0 ? static_cast<double>(present) / seconds : 0;
  }
};

/// The JSON line of one step, with its line feed.
void format(Line &line, const StepMetrics &metrics);

/// OUT/metrics.jsonl: one object per optimizer step, in the file when `write`
/// returns. Writing allocates nothing.
class MetricsFile {
public:
  MetricsFile() = default;
  ~MetricsFile();
  MetricsFile(const MetricsFile &) = delete;
  MetricsFile &operator=(const MetricsFile &) = delete;

  /// Creates or empties the file.
  Status open(const std::string &path);
  /// What changes the bits of a run beside its plan and data, before the first
  /// step: {"attention": ..., "tuned_sha256": ...}, of which empty ones are left
  /// out. Nothing when both are empty.
  Status writeChoices(std::string_view attention, std::string_view tuned);
  Status write(const StepMetrics &metrics);
  /// {"eval_loss": ..., "eval_tokens": ...}
  Status writeEvaluation(uint64_t step, double loss, uint64_t tokens);

private:
  Status put();

  std::string path;
  int file = -1;
  Line line;
};

/// All of `text`, though the kernel may take it in pieces.
bool writeAll(int file, std::string_view text);

} // namespace peft

#endif // PEFT_TRAIN_METRICS_H
