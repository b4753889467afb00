//===- LoraDialect.cpp - the lora dialect's definitions -------------------===//
#include "peftc/Dialect/Lora/Lora.h"

using namespace peftc::lora;

#include "peftc/Dialect/Lora/LoraDialect.cpp.inc"

#define GET_OP_CLASSES
#include "peftc/Dialect/Lora/LoraOps.cpp.inc"

void LoraDialect::initialize() {
  addOperations<
#define GET_OP_LIST
#include "peftc/Dialect/Lora/LoraOps.cpp.inc"
      >();
}
