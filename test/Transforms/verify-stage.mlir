// RUN: peft-opt %s --peft-verify-stage=stage=model | FileCheck %s --check-prefix=MODEL
// RUN: peft-opt %S/Inputs/adapted.mlir --peft-verify-stage=stage=adapted | FileCheck %s --check-prefix=ADAPTED
// RUN: peft-opt %S/Inputs/step.mlir --peft-verify-stage=stage=step | FileCheck %s --check-prefix=STEP
// RUN: peft-opt %S/Inputs/planned.mlir --peft-verify-stage=stage=converted --peft-verify-stage=stage=planned | FileCheck %s --check-prefix=PLANNED

// A stage that holds changes nothing.
// MODEL: func.func @body
// ADAPTED: lora.linear
// STEP: func.func @micro_step
// PLANNED: plan.program

nn.param @w : tensor<4x8xbf16>
func.func @body(%x: tensor<?x?x8xf32>) -> tensor<?x?x4xf32> {
  %y = nn.linear %x, @w : tensor<?x?x8xf32> -> tensor<?x?x4xf32>
  return %y : tensor<?x?x4xf32>
}
func.func @head(%x: tensor<?x8xf32>) -> tensor<?x4xf32> {
  %y = nn.linear %x, @w : tensor<?x8xf32> -> tensor<?x4xf32>
  return %y : tensor<?x4xf32>
}
