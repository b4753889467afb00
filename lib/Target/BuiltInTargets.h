//===- BuiltInTargets.h - the descriptions of targets/*.json ----*- C++ -*-===//
//
// The build writes the definition from the files. Private to lib/Target.
//
//===----------------------------------------------------------------------===//
#ifndef PEFTC_TARGET_BUILTINTARGETS_H
#define PEFTC_TARGET_BUILTINTARGETS_H

#include <span>
#include <string_view>

namespace peftc {

struct BuiltInTarget {
  std::string_view name; ///< of the file, without .json
  std::string_view json;
};

std::span<const BuiltInTarget> builtInTargets();

} // namespace peftc

#endif // PEFTC_TARGET_BUILTINTARGETS_H
