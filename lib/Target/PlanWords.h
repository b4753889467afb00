//===- PlanWords.h - enumerators of a plan as words -------------*- C++ -*-===//
//
// The words that the plan dialect uses for the enumerators of Plan.h, in the
// order of the enumerators. Private to lib/Target.
//
//===----------------------------------------------------------------------===//
#ifndef PEFTC_TARGET_PLANWORDS_H
#define PEFTC_TARGET_PLANWORDS_H

#include "peft/Plan.h"

#include "llvm/ADT/ArrayRef.h"
#include "llvm/ADT/STLExtras.h"
#include "llvm/ADT/StringRef.h"

#include <optional>

namespace peftc {

inline constexpr llvm::StringLiteral spaceWords[] = {"device", "pinned",
                                                     "pageable", "mapping"};
inline constexpr llvm::StringLiteral deviceWords[] = {"cpu", "cuda"};
inline constexpr llvm::StringLiteral engineWords[] = {"compute", "copy_in",
                                                      "copy_out", "collective"};
inline constexpr llvm::StringLiteral classWords[] = {
    "base",       "adapter",   "optimizer", "gradient",
    "activation", "workspace", "input",     "scalar"};
inline constexpr llvm::StringLiteral initializerWords[] = {
    "weight", "kaiming_uniform", "gaussian"};
inline constexpr llvm::StringLiteral partWords[] = {
    "whole", "codes", "absmax", "nested_absmax", "tables"};
inline constexpr llvm::StringLiteral portWords[] = {"input", "scalar",
                                                    "output"};
inline constexpr llvm::StringLiteral collectiveWords[] = {
    "all_gather", "reduce_scatter", "all_reduce", "broadcast"};

/// The enumerator that `word` stands for; nothing if the list lacks it.
template <typename Enum>
std::optional<Enum> fromWord(llvm::ArrayRef<llvm::StringLiteral> words,
                             llvm::StringRef word) {
  const auto *it = llvm::find(words, word);
  if (it == words.end())
    return std::nullopt;
  return static_cast<Enum>(it - words.begin());
}

template <typename Enum>
llvm::StringRef toWord(llvm::ArrayRef<llvm::StringLiteral> words, Enum value) {
  return words[static_cast<size_t>(value)];
}

} // namespace peftc

#endif // PEFTC_TARGET_PLANWORDS_H
