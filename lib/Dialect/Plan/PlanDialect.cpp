//===- PlanDialect.cpp - the plan dialect's definitions -------------------===//
#include "peftc/Dialect/Plan/Plan.h"

#include "mlir/IR/DialectImplementation.h"
#include "llvm/ADT/TypeSwitch.h"

using namespace peftc::plan;

#include "peftc/Dialect/Plan/PlanDialect.cpp.inc"

#define GET_TYPEDEF_CLASSES
#include "peftc/Dialect/Plan/PlanTypes.cpp.inc"

#define GET_OP_CLASSES
#include "peftc/Dialect/Plan/PlanOps.cpp.inc"

void PlanDialect::initialize() {
  addTypes<
#define GET_TYPEDEF_LIST
#include "peftc/Dialect/Plan/PlanTypes.cpp.inc"
      >();
  addOperations<
#define GET_OP_LIST
#include "peftc/Dialect/Plan/PlanOps.cpp.inc"
      >();
}
