//===- Trainer.h - the loop over optimizer steps ----------------*- C++ -*-===//
//
// A device that works ahead gets step N + 1 before step N's metrics are looked
// at, so it never waits for the host; whatever ends the run, those of every step
// that was done are written first, in order.
//
// Everything the loop needs is made by `prepare`; from the start of the first
// step to the end of the last nothing is allocated on any thread, metrics and
// status lines included. Only --dump-gradients, which is for looking, steps out
// of that promise while it writes.
//
//===----------------------------------------------------------------------===//
#ifndef PEFT_TRAIN_TRAINER_H
#define PEFT_TRAIN_TRAINER_H

#include "Console.h"
#include "DataFeed.h"
#include "Gradients.h"
#include "HostBatch.h"
#include "LossScale.h"
#include "Metrics.h"
#include "Profile.h"
#include "StepWindow.h"
#include "StopSignal.h"
#include "peft/Executor.h"
#include "peft/ModelDirectory.h"

#include <optional>

namespace peft {

struct TrainSummary {
  uint64_t steps = 0, skipped = 0;
  uint64_t overflowed = 0;        ///< of the skipped ones, in f16
  std::optional<float> lossScale; ///< after the last step, in f16
  uint64_t tokens = 0;            ///< trained ones
  uint64_t present = 0;           ///< all that are not padding
  double firstLoss = 0, lastLoss = 0, seconds = 0;
};

struct EvalSummary {
  double loss = 0; ///< mean over the trained tokens
  uint64_t tokens = 0;
};

class Trainer {
public:
  /// All references must outlive the trainer. `metrics` must be open.
  Trainer(Executor &executor, const RunOptions &options,
          const ModelDirectory &model, DataFeed &feed, MetricsFile &metrics,
          Console &console);

  /// Runs all steps. Errors: nonFinite naming step, rows and the first tensor,
  /// or because every step overflowed; badInput when a trained tensor has no
  /// gradient at the first step.
  Expected<TrainSummary> run();

  const StepTimes &stepTimes() const { return times; }

private:
  Status writeConstants();
  Status runSteps(TrainSummary &summary);
  Status startStep(uint64_t step, StepMetrics &result);
  Status endStep(StepMetrics &result, TrainSummary &summary);
  Status runMicro(uint64_t step, uint32_t micro, uint64_t &present);
  Status chooseLossScale(uint64_t step);
  Status judge(StepMetrics &result, bool applied);
  Status inspectFirst(uint64_t step);
  Status nonFinite(uint64_t step, uint32_t firstMicro, uint32_t lastMicro,
                   const char *what);
  void show(const StepMetrics &result, double elapsed);

  Executor &executor;
  const RunOptions &options;
  const ModelDirectory &model;
  DataFeed &feed;
  MetricsFile &metrics;
  Console &console;
  HostBatch batch;
  GradientReader gradients;
  StepWindow window;
  StepTimes times;
  LossScale lossScale;
  double begin = 0;    ///< of the run, seconds of monotonicSeconds
  double lastEnd = 0;  ///< when the latest result was there
  uint64_t overflowed = 0; ///< steps that the schedule does not count
  bool inspected = false;
};

/// Mean loss of all rows of `file`, without dropout. Changes nothing.
Expected<EvalSummary> evaluate(Executor &executor, const TokenFile &file,
                               const ModelDirectory &model);

/// Seconds of a clock that never goes back.
double monotonicSeconds();

} // namespace peft

#endif // PEFT_TRAIN_TRAINER_H
