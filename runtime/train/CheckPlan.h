//===- CheckPlan.h - whether a plan is one that trains ----------*- C++ -*-===//
#ifndef PEFT_TRAIN_CHECKPLAN_H
#define PEFT_TRAIN_CHECKPLAN_H

#include "peft/ModelDirectory.h"
#include "peft/Plan.h"

namespace peft {

/// The verifier promises that a plan is safe to execute, not that it trains a
/// model. This one asks for the entries and ports that the session uses, with
/// their types and sizes. Errors are badInput and name the port.
Status checkTrainingPlan(const Plan &plan);

/// Tensors of the same names and shapes do not make the same model: depth,
/// RoPE, windows and epsilon are in the plan's launches. badInput names the
/// field of config.json that differs; token ids and storage types may differ.
Status checkSameModel(const Plan &plan, const ModelDirectory &model);

} // namespace peft

#endif // PEFT_TRAIN_CHECKPLAN_H
