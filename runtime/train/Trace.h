//===- Trace.h - peft-run --trace -------------------------------*- C++ -*-===//
#ifndef PEFT_TRAIN_TRACE_H
#define PEFT_TRAIN_TRACE_H

#include "peft/Executor.h"

#include <string>
#include <vector>

namespace peft {

/// When an item of an entry ran.
struct TracedItem {
  bool ran = false;          ///< false: a predicate skipped it
  double begin = 0, end = 0; ///< seconds since the entry began
};

/// When the plan's streams and events let each item begin if everything takes
/// as long as `measured`, which has one element per item of `entry`: what the
/// plan promises beside what the device made of it. Seconds.
std::vector<TracedItem> planTimes(const Entry &entry,
                                  const std::vector<TracedItem> &measured);

/// Runs one micro-batch (the last one that was sent) and the update once more
/// and writes when each launch and copy ran, as JSON in the format of Chrome's
/// trace viewer and Perfetto. What was trained changes: call it last.
Status writeTrace(Executor &executor, const std::string &path);

} // namespace peft

#endif // PEFT_TRAIN_TRACE_H
