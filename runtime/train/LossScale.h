//===- LossScale.h - the loss scale of a plan in f16 ------------*- C++ -*-===//
//
// In f16 the gradient of the loss is multiplied by a scale, so that small
// gradients do not vanish, and divided by it at the end of a step. The plan
// halves and doubles the scale by itself (kernel adjust_loss_scale); the host
// chooses the first one, and reads whether a step was skipped.
//
//===----------------------------------------------------------------------===//
#ifndef PEFT_TRAIN_LOSSSCALE_H
#define PEFT_TRAIN_LOSSSCALE_H

#include "peft/Executor.h"

namespace peft {

/// 2^16 / tokens, rounded to the nearest power of two (up where two are as
/// near), but at least 1: then the gradient of the *mean* loss is scaled by
/// about 2^16. `tokens` are the trained ones of a step, at least one.
float firstLossScale(uint64_t tokens);

/// Does nothing for a plan without the port `loss_scale`. Nothing allocates.
class LossScale {
public:
  /// `executor` must outlive it.
  explicit LossScale(Executor &executor)
      : executor(executor), present(executor.hasPort("loss_scale")) {}

  bool used() const { return present; }
  /// Whether there is a scale: from the first step with a trained token on.
  bool chosen() const { return current > 0; }
  /// Of the next step.
  float value() const { return current; }

  /// Sets the scale for a run whose first trained step has `tokens`.
  Status choose(uint64_t tokens);
  /// Takes over what the plan holds: after a step, or before the first.
  Status read();
  /// Whether the run goes on after a step that was not applied.
  Expected<bool> proceeds() const;

private:
  Executor &executor;
  bool present;
  float current = 0;
};

} // namespace peft

#endif // PEFT_TRAIN_LOSSSCALE_H
