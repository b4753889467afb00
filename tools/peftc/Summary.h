//===- Summary.h - what a compile reports -----------------------*- C++ -*-===//
#ifndef PEFTC_TOOLS_SUMMARY_H
#define PEFTC_TOOLS_SUMMARY_H

#include "peftc/Analysis/AdapterReport.h"
#include "peftc/Target.h"

#include "peft/Plan.h"

#include <optional>
#include <string>
#include <vector>

struct CompileSummary {
  peftc::AdapterReport adapters;
  struct Remark {
    std::string where, text;
  };
  std::vector<Remark> remarks; ///< of the passes, the adapter's included
  std::string output;          ///< empty: nothing was written
  int64_t batch = 0, seq = 0;
  std::optional<peftc::TargetDescription> target; ///< if one was asked for

  std::string text(const peft::Plan &plan) const;
  std::string json(const peft::Plan &plan) const;

private:
  /// The remarks that the adapter report does not say anyway.
  std::vector<std::string> notes() const;
  /// The table of bytes by class, arena and mapping.
  std::string memory(const peft::Plan &plan) const;
};

#endif // PEFTC_TOOLS_SUMMARY_H
