//===- Explanations.h - where the bytes of a plan go ------------*- C++ -*-===//
//
// Each answers one question about a plan, for people and for programs.
//
//===----------------------------------------------------------------------===//
#ifndef PEFTC_TOOLS_EXPLANATIONS_H
#define PEFTC_TOOLS_EXPLANATIONS_H

#include "peft/Plan.h"

#include "llvm/Support/JSON.h"

#include <string>

struct Explanation {
  std::string key; ///< of the JSON object's member
  std::string text;
  llvm::json::Value json = nullptr;
};

/// Bytes by class: persistent, and at the worst moment of each entry.
Explanation explainTotals(const peft::Plan &plan);
/// The buffers that are live at the worst moment of the largest entry.
Explanation explainPeak(const peft::Plan &plan);
/// Bytes by class and type, every tensor with the types it is stored and
/// computed in, compute types by kernel, every conversion.
Explanation explainTypes(const peft::Plan &plan);
/// Buffers of this name, or of this module: bytes, place, lifetime, users.
/// Bad input if the plan has none.
peft::Expected<Explanation> explainName(const peft::Plan &plan,
                                        const std::string &name);

#endif // PEFTC_TOOLS_EXPLANATIONS_H
