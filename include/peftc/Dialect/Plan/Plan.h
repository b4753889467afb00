//===- Plan.h - the plan dialect --------------------------------*- C++ -*-===//
//
// The plan file as IR; knows no other dialect. See PlanOps.td.
//
//===----------------------------------------------------------------------===//
#ifndef PEFTC_DIALECT_PLAN_PLAN_H
#define PEFTC_DIALECT_PLAN_PLAN_H

#include "mlir/Bytecode/BytecodeOpInterface.h"
#include "mlir/IR/Builders.h"
#include "mlir/IR/BuiltinTypes.h"
#include "mlir/IR/Dialect.h"
#include "mlir/IR/OpDefinition.h"
#include "mlir/IR/OpImplementation.h"
#include "mlir/Interfaces/SideEffectInterfaces.h"

#include "peftc/Dialect/Plan/PlanDialect.h.inc"

#define GET_TYPEDEF_CLASSES
#include "peftc/Dialect/Plan/PlanTypes.h.inc"

#define GET_OP_CLASSES
#include "peftc/Dialect/Plan/PlanOps.h.inc"

#endif // PEFTC_DIALECT_PLAN_PLAN_H
