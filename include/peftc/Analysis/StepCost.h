//===- StepCost.h - the work of a plan's entries ----------------*- C++ -*-===//
//
// A pure function over a plan: what the launches of an entry compute, from
// their shapes. Launches inside chunks of the head count as if every token was
// trained, so this is an upper bound.
//
//===----------------------------------------------------------------------===//
#ifndef PEFTC_ANALYSIS_STEPCOST_H
#define PEFTC_ANALYSIS_STEPCOST_H

#include "peft/Plan.h"

#include <cstdint>
#include <string>
#include <vector>

namespace peftc {

/// Floating-point operations of one kernel in one entry; an addition and a
/// multiplication are two.
struct KernelCost {
  std::string entry, kernel;
  uint64_t launches = 0;
  double flops = 0;
};

struct StepCost {
  std::vector<KernelCost> kernels; ///< in order of first appearance

  double flops(std::string_view entry) const;
};

StepCost stepCost(const peft::Plan &plan);

} // namespace peftc

#endif // PEFTC_ANALYSIS_STEPCOST_H
