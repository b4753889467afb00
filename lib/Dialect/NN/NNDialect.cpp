//===- NNDialect.cpp - the nn dialect's definitions -----------------------===//
#include "peftc/Dialect/NN/NN.h"

using namespace peftc::nn;

#include "peftc/Dialect/NN/NNDialect.cpp.inc"

#include "peftc/Dialect/NN/NNInterfaces.cpp.inc"

#define GET_OP_CLASSES
#include "peftc/Dialect/NN/NNOps.cpp.inc"

void NNDialect::initialize() {
  addOperations<
#define GET_OP_LIST
#include "peftc/Dialect/NN/NNOps.cpp.inc"
      >();
}
