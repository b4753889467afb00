//===- NestedNames.h - tensors of a text model inside another ---*- C++ -*-===//
#ifndef PEFT_NESTEDNAMES_H
#define PEFT_NESTEDNAMES_H

#include <optional>
#include <string>
#include <string_view>

namespace peft {

/// The other name of a tensor or module of a text model inside another, which
/// transformers 4.52 moved: "model.language_model.X" for
/// "language_model.model.X", "lm_head.X" for "language_model.lm_head.X", and
/// back. Files keep the old names. Nothing for a name that has no other.
std::optional<std::string> otherNestedName(std::string_view name);

} // namespace peft

#endif // PEFT_NESTEDNAMES_H
