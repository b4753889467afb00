//===- Report.h - what is printed before a run starts -----------*- C++ -*-===//
#ifndef PEFT_TRAIN_REPORT_H
#define PEFT_TRAIN_REPORT_H

#include "Console.h"
#include "peft/Executor.h"
#include "peft/ModelDirectory.h"
#include "peft/TokenFile.h"

namespace peft {

/// Elements that train, and of the whole model with its adapters; and in how
/// many tensors those that train lie.
struct ParameterCount {
  uint64_t trainable = 0, all = 0, tensors = 0;
};
ParameterCount countParameters(const Plan &plan);

/// Model, device (with why not another), memory by class and the trainable
/// parameters.
void printPlan(Console &console, const Executor &executor,
               const std::string &deviceNote);

/// One row with its trained tokens marked: decoded by peft-data when the model
/// has a tokenizer, as ids when not.
void printRow(Console &console, const TokenFile &file, uint64_t row,
              const ModelDirectory &model);

/// The line that printRow falls back to.
std::string describeRow(const TokenFile &file, uint64_t row, uint64_t most);

} // namespace peft

#endif // PEFT_TRAIN_REPORT_H
