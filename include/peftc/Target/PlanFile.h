//===- PlanFile.h - between the plan dialect and plan files -----*- C++ -*-===//
//
// Mechanical in both directions: one op per table of schema/plan.fbs. Nothing
// is decided here.
//
//===----------------------------------------------------------------------===//
#ifndef PEFTC_TARGET_PLANFILE_H
#define PEFTC_TARGET_PLANFILE_H

#include "peft/Plan.h"

#include "mlir/IR/BuiltinOps.h"
#include "mlir/IR/OwningOpRef.h"

namespace peftc {

/// The plan that the `plan.program` of `module` describes. The result has
/// passed peft::verifyPlan; a plan that does not is a bug of ours
/// (Code::internal), a module without exactly one program is bad input.
peft::Expected<peft::Plan> exportPlan(mlir::ModuleOp module);

/// The plan as a module with one `plan.program`. The lifetimes of local
/// buffers, which the file does not store, are derived again. `plan` must be
/// structurally sound (peft::decodePlan), but need not verify.
mlir::OwningOpRef<mlir::ModuleOp> importPlan(mlir::MLIRContext *context,
                                             const peft::Plan &plan);

} // namespace peftc

#endif // PEFTC_TARGET_PLANFILE_H
