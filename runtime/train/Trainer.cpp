//===- Trainer.cpp - the loop over optimizer steps ------------------------===//
#include "Trainer.h"

#include "LearningRate.h"

#include <algorithm>
#include <cmath>
#include <ctime>

using namespace peft;

double peft::monotonicSeconds() {
  timespec now;
  ::clock_gettime(CLOCK_MONOTONIC, &now);
  return static_cast<double>(now.tv_sec) +
         1e-9 * static_cast<double>(now.tv_nsec);
}

Trainer::Trainer(Executor &executor, const RunOptions &options,
                 const ModelDirectory &model, DataFeed &feed,
                 MetricsFile &metrics, Console &console)
    : executor(executor), options(options), model(model), feed(feed),
      metrics(metrics), console(console), batch(executor.plan()),
      gradients(executor), lossScale(executor) {}

/// The device's slot for the metrics of a step.
static unsigned slotOf(const StepMetrics &metrics) {
  return metrics.step % Device::returnSlots;
}

Status Trainer::writeConstants() {
  const TrainOptions &train = options.train;
  PEFT_TRY(executor.writeScalar("seed", static_cast<int64_t>(options.seed)));
  PEFT_TRY(executor.writeScalar("beta1", train.beta1));
  PEFT_TRY(executor.writeScalar("beta2", train.beta2));
  PEFT_TRY(executor.writeScalar("epsilon", train.epsilon));
  PEFT_TRY(executor.writeScalar("weight_decay", train.weightDecay));
  return executor.writeScalar("max_grad_norm", train.maxGradNorm);
}

Expected<TrainSummary> Trainer::run() {
  PEFT_TRY(writeConstants());
  PEFT_TRY(lossScale.read());
  TrainSummary summary;
  summary.steps = feed.steps();
  begin = lastEnd = monotonicSeconds();
  window.set(true);
  Status status = runSteps(summary);
  window.set(false);
  console.endStatus();
  PEFT_TRY(status);
  summary.seconds = monotonicSeconds() - begin;
  summary.overflowed = overflowed;
  if (lossScale.used())
    summary.lossScale = lossScale.value();
  if (overflowed && !inspected)
    return Status::error(
        Code::nonFinite,
        "every step overflowed in f16 and was skipped, so "
        "nothing was trained; the loss scale has come down to " +
            std::to_string(lossScale.value()) +
            ": run more steps, or compile with --compute f32");
  return summary;
}

/// With a loss scale a step that overflows moves neither the schedule nor the
/// scale on, so the next one cannot begin before that is known.
Status Trainer::runSteps(TrainSummary &summary) {
  const bool ahead = executor.device().worksAhead() && !lossScale.used();
  StopSignal stop(ahead);
  std::optional<StepMetrics> waiting;
  for (uint64_t step = 0; step < feed.steps() && !stop.arrived(); ++step) {
    StepMetrics result;
    Status status = startStep(step, result);
    // What the step before came to goes first: into the file, and as an error.
    if (waiting)
      PEFT_TRY(endStep(*waiting, summary));
    waiting.reset();
    PEFT_TRY(status);
    if (ahead)
      waiting = result;
    else
      PEFT_TRY(endStep(result, summary));
  }
  if (waiting)
    PEFT_TRY(endStep(*waiting, summary));
  if (stop.arrived()) {
    console.endStatus();
    stop.obey();
  }
  return {};
}

/// Puts the step into the device's queue, and its metrics behind it.
Status Trainer::startStep(uint64_t step, StepMetrics &result) {
  result.begin = monotonicSeconds();
  const TrainOptions &train = options.train;
  result.step = step + 1;
  // A step that overflowed did not move the schedule on.
  result.rate =
      train.learningRate * rateFactor(train.schedule, step - overflowed,
                                      train.warmupSteps, feed.steps());
  if (lossScale.used() && !lossScale.chosen())
    PEFT_TRY(chooseLossScale(step));
  PEFT_TRY(executor.writeScalar("step", static_cast<int64_t>(step)));
  PEFT_TRY(executor.writeScalar("learning_rate", result.rate));
  for (uint32_t micro = 0; micro < train.gradAccum; ++micro)
    PEFT_TRY(runMicro(step, micro, result.present));
  if (!inspected)
    PEFT_TRY(inspectFirst(step));
  PEFT_TRY(executor.run("update"));
  return executor.postOutput("metrics", slotOf(result));
}

/// Waits for the metrics of a step and takes them over.
Status Trainer::endStep(StepMetrics &result, TrainSummary &summary) {
  double values[4]; // loss, gradient norm, tokens, applied
  PEFT_TRY(executor.collectOutput("metrics", slotOf(result),
                                  std::span<double>(values)));
  result.loss = values[0];
  result.gradNorm = values[1];
  result.tokens = static_cast<uint64_t>(values[2]);
  PEFT_TRY(judge(result, values[3] != 0));
  // A step that was asked for early began when the one before was done.
  double now = monotonicSeconds();
  result.seconds = now - std::max(result.begin, lastEnd);
  lastEnd = now;
  if (summary.tokens == 0)
    summary.firstLoss = result.loss;
  if (result.skipped)
    ++summary.skipped;
  else
    summary.lastLoss = result.loss;
  summary.tokens += result.tokens;
  summary.present += result.present;
  times.add(result.seconds);
  PEFT_TRY(metrics.write(result));
  show(result, now - begin);
  return {};
}

/// Whether the run may go on after a step that was or was not `applied`.
Status Trainer::judge(StepMetrics &result, bool applied) {
  const uint64_t step = result.step - 1;
  if (result.tokens > 0 && !std::isfinite(result.loss))
    return nonFinite(step, 0, options.train.gradAccum, "the loss");
  if (result.tokens > 0 && !applied) {
    PEFT_ASSIGN(result.overflowed, lossScale.proceeds());
    if (!result.overflowed)
      return nonFinite(step, 0, options.train.gradAccum,
                       lossScale.used()
                           ? "the gradient norm at the smallest loss scale"
                           : "the gradient norm");
    ++overflowed;
  }
  result.skipped = result.tokens == 0 || result.overflowed;
  if (lossScale.chosen())
    result.lossScale = lossScale.value();
  return lossScale.read();
}

/// Fills the batches of the step once more than it is run with them.
Status Trainer::chooseLossScale(uint64_t step) {
  uint64_t tokens = 0;
  for (uint32_t micro = 0; micro < options.train.gradAccum; ++micro) {
    feed.fill(batch.view(), step, micro);
    tokens += countTrained(batch.view());
  }
  // Without a trained token nothing is scaled yet: the next step decides.
  return tokens ? lossScale.choose(tokens) : Status();
}

Status Trainer::runMicro(uint64_t step, uint32_t micro, uint64_t &present) {
  present += feed.fill(batch.view(), step, micro);
  PEFT_TRY(batch.send(executor));
  // Rows are counted inside the step, so that the split into micro-batches
  // does not change which random numbers a row gets.
  int64_t firstRow = int64_t(micro) * executor.plan().batch;
  PEFT_TRY(executor.writeScalar("first_row", firstRow));
  PEFT_TRY(executor.run("micro_step"));
  // Reading would let a card stand still until the host has caught up; the
  // metrics of the step show a loss that is not finite, too.
  if (executor.device().worksAhead())
    return {};
  double loss = 0;
  PEFT_TRY(executor.readOutput("loss_sum", std::span<double>(&loss, 1)));
  if (!std::isfinite(loss))
    return nonFinite(step, micro, micro + 1, "the loss");
  return {};
}

Status Trainer::inspectFirst(uint64_t step) {
  int64_t tokens = 0;
  PEFT_TRY(executor.readOutput("tokens", std::span<int64_t>(&tokens, 1)));
  if (tokens == 0)
    return {}; // the next step decides
  if (lossScale.used()) {
    PEFT_ASSIGN(bool finite, gradients.allFinite());
    if (!finite)
      return {}; // this step will be skipped
  }
  inspected = true;
  if (!options.dumpGradients.empty()) {
    window.set(false);
    double scale = lossScale.used() ? lossScale.value() : 1.0;
    PEFT_TRY(gradients.dump(options.dumpGradients,
                            static_cast<double>(tokens) * scale));
    window.set(true);
  }
  bool attends = false;
  for (uint32_t micro = 0; micro < options.train.gradAccum; ++micro) {
    feed.fill(batch.view(), step, micro);
    attends |= attendsToOthers(batch.view());
  }
  if (!attends)
    return {}; // queries and keys have no gradient by construction
  PEFT_ASSIGN(std::string note, gradients.requireGradients());
  if (!note.empty())
    console.print("note", note);
  return {};
}

Status Trainer::nonFinite(uint64_t step, uint32_t firstMicro,
                          uint32_t lastMicro, const char *what) {
  window.set(false);
  std::string rows;
  for (uint32_t micro = firstMicro; micro < lastMicro; ++micro)
    for (uint64_t row : feed.rowsOf(step, micro))
      rows += (rows.empty() ? "" : ", ") + std::to_string(row);
  std::string text =
      "step " + std::to_string(step + 1) + ": " + what + " is not finite";
  if (lastMicro - firstMicro < options.train.gradAccum)
    text += " in micro-batch " + std::to_string(firstMicro);
  text += ", rows " + rows;
  PEFT_ASSIGN(std::string where, findNonFinite(executor, model));
  const char *other =
      executor.plan().compute == DType::f16 ? "bf16 or f32" : "f32";
  if (where.empty())
    where = std::string("every weight, trained tensor and gradient is finite, "
                        "so an activation overflowed; a lower --lr or "
                        "--compute ") +
            other + " may help";
  else
    where = "first non-finite value: " + where;
  return Status::error(Code::nonFinite,
                       text + "; " + where + "; nothing was written");
}

void Trainer::show(const StepMetrics &result, double elapsed) {
  if (console.quiet())
    return;
  MemoryUse memory = executor.device().memoryUse();
  StatusView view;
  view.metrics = &result;
  view.steps = feed.steps();
  view.memoryUsed = memory.highWaterBytes;
  view.memoryPlanned = memory.arenaBytes;
  view.secondsLeft = elapsed / static_cast<double>(result.step) *
                     static_cast<double>(feed.steps() - result.step);
  console.status(view);
}

Expected<EvalSummary> peft::evaluate(Executor &executor, const TokenFile &file,
                                     const ModelDirectory &model) {
  if (!executor.hasEntry("eval"))
    return badInput("the plan has no eval entry; compile it again");
  HostBatch batch(executor.plan());
  PEFT_TRY(executor.clear("eval_loss_sum"));
  PEFT_TRY(executor.clear("eval_tokens"));
  uint32_t slots = executor.plan().batch;
  for (int64_t row = 0; row < file.rows(); row += slots) {
    for (uint32_t slot = 0; slot < slots; ++slot) {
      if (row + slot < file.rows())
        writeRow(batch.view(), slot, file, row + slot);
      else
        writePaddingRow(batch.view(), slot);
    }
    PEFT_TRY(batch.send(executor));
    PEFT_TRY(executor.run("eval"));
  }
  double loss = 0;
  int64_t tokens = 0;
  PEFT_TRY(executor.readOutput("eval_loss_sum", std::span<double>(&loss, 1)));
  PEFT_TRY(executor.readOutput("eval_tokens", std::span<int64_t>(&tokens, 1)));
  if (!std::isfinite(loss)) {
    PEFT_ASSIGN(std::string where, findNonFinite(executor, model));
    return Status::error(Code::nonFinite,
                         "the loss of the evaluation data is not finite" +
                             (where.empty() ? where : "; " + where));
  }
  EvalSummary summary;
  summary.tokens = static_cast<uint64_t>(tokens);
  summary.loss = tokens ? loss / static_cast<double>(tokens) : 0;
  return summary;
}
