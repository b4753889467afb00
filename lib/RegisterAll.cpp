//===- RegisterAll.cpp - dialects and passes by name ----------------------===//
#include "peftc/RegisterAll.h"

#include "peftc/Dialect/Lora/Lora.h"
#include "peftc/Dialect/NN/NN.h"
#include "peftc/Dialect/Plan/Plan.h"
#include "peftc/Dialect/QW/QW.h"
#include "peftc/Pipelines.h"
#include "peftc/Transforms/Passes.h"

#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "mlir/Transforms/Passes.h"

void peftc::registerAllDialects(mlir::DialectRegistry &registry) {
  registry.insert<mlir::func::FuncDialect, nn::NNDialect, lora::LoraDialect,
                  plan::PlanDialect, qw::QWDialect>();
}

void peftc::registerAllPasses() {
  mlir::registerTransformsPasses();
  registerPeftPasses();
  registerPipelines();
}
