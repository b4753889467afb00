//===- PlanTypes.h - element types of plan and IR ---------------*- C++ -*-===//
//
// The correspondence between peft::DType and MLIR's element types: f32, bf16,
// f16, f64, i32, i64, ui8 (u8), i8, and the plan dialect's nf4 and fp4.
//
//===----------------------------------------------------------------------===//
#ifndef PEFTC_TARGET_PLANTYPES_H
#define PEFTC_TARGET_PLANTYPES_H

#include "peft/DType.h"

#include "mlir/IR/BuiltinTypes.h"

#include <optional>

namespace peftc {

/// The DType of an element type; nothing if a plan has no word for it.
std::optional<peft::DType> dtypeOf(mlir::Type element);

/// The element type of a DType.
mlir::Type elementType(mlir::MLIRContext *context, peft::DType type);

} // namespace peftc

#endif // PEFTC_TARGET_PLANTYPES_H
