//===- Passes.h - the passes of the compiler --------------------*- C++ -*-===//
//
// Generated from Passes.td: `create<Pass>(<Pass>Options)`, and
// `registerPeftPasses` for tools that take passes by name.
//
//===----------------------------------------------------------------------===//
#ifndef PEFTC_TRANSFORMS_PASSES_H
#define PEFTC_TRANSFORMS_PASSES_H

#include "mlir/IR/BuiltinOps.h"
#include "mlir/Pass/Pass.h"

namespace peftc {

#define GEN_PASS_DECL
#include "peftc/Transforms/Passes.h.inc"

#define GEN_PASS_REGISTRATION
#include "peftc/Transforms/Passes.h.inc"

} // namespace peftc

#endif // PEFTC_TRANSFORMS_PASSES_H
