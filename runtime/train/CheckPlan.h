//===- CheckPlan.h - whether a plan is one that trains ----------*- C++ -*-===//
#ifndef PEFT_TRAIN_CHECKPLAN_H
#define PEFT_TRAIN_CHECKPLAN_H

#include "peft/Plan.h"

namespace peft {

/// The verifier promises that a plan is safe to execute, not that it trains a
/// model. This one asks for the entries and ports that the session uses, with
/// their types and sizes. Errors are badInput and name the port.
Status checkTrainingPlan(const Plan &plan);

} // namespace peft

#endif // PEFT_TRAIN_CHECKPLAN_H
