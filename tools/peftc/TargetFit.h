//===- TargetFit.h - a plan against the memory of its target ----*- C++ -*-===//
#ifndef PEFTC_TOOLS_TARGETFIT_H
#define PEFTC_TOOLS_TARGETFIT_H

#include "peftc/Target.h"

#include "peft/MemoryReport.h"
#include "peft/Plan.h"
#include "peft/Status.h"

#include <string>

/// Bytes by class at the entry whose local buffers need most.
peft::ClassBytes bytesByClass(const peft::MemoryTotals &totals);

/// What of the target's memory a plan takes: its device arenas and the
/// allowance.
struct TargetFit {
  uint64_t needed = 0;
  uint64_t memory = 0; ///< 0: not known, the machine at hand
  bool fits() const { return !memory || needed <= memory; }
};
TargetFit fitOf(const peft::Plan &plan, const peftc::TargetDescription &target);

/// Error doesNotFit with the largest consumers, if the plan does not fit.
peft::Status checkFit(const peft::Plan &plan,
                      const peftc::TargetDescription &target);

/// Two lines for people: the memory, and the predicted time of a micro-step.
std::string describeFit(const peft::Plan &plan,
                        const peftc::TargetDescription &target);

/// The type to compute in: `asked`, or the target's own if nothing was asked.
/// Error usage: the target lacks it; the message names one that it has.
peft::Expected<std::string>
chooseCompute(const std::string &asked, const peftc::TargetDescription &target);

#endif // PEFTC_TOOLS_TARGETFIT_H
