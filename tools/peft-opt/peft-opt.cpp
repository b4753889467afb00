//===- peft-opt.cpp - runs passes on IR -----------------------------------===//
#include "peftc/RegisterAll.h"

#include "mlir/IR/DialectRegistry.h"
#include "mlir/Tools/mlir-opt/MlirOptMain.h"

int main(int argc, char **argv) {
  mlir::DialectRegistry registry;
  peftc::registerAllDialects(registry);
  peftc::registerAllPasses();
  return mlir::asMainReturnCode(mlir::MlirOptMain(
      argc, argv, "peft-opt: inspect one pass or stage of peftc\n", registry));
}
