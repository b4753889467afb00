// RUN: not peft-opt %s --split-input-file --peft-verify-stage=stage=model 2>&1 | FileCheck %s --check-prefix=MODEL
// RUN: not peft-opt %s --split-input-file --peft-verify-stage=stage=adapted 2>&1 | FileCheck %s --check-prefix=ADAPTED
// RUN: not peft-opt %s --split-input-file --peft-verify-stage=stage=step 2>&1 | FileCheck %s --check-prefix=STEP
// RUN: not peft-opt %s --split-input-file --peft-verify-stage=stage=converted 2>&1 | FileCheck %s --check-prefix=CONVERTED
// RUN: not peft-opt %s --split-input-file --peft-verify-stage=stage=planned 2>&1 | FileCheck %s --check-prefix=PLANNED
// RUN: not peft-opt %s --split-input-file --peft-verify-stage=stage=final 2>&1 | FileCheck %s --check-prefix=UNKNOWN

// UNKNOWN: error: unknown stage 'final': take model, adapted, step, converted or planned

// MODEL: 'func.func' op does not belong after stage 'model': function 'other' is none of body, head
// STEP: 'func.func' op does not belong after stage 'step': function 'other' is none of micro_step, update, eval, logits
// CONVERTED: 'func.func' op does not belong after stage 'converted': only one plan.program does
func.func @other() { return }

// -----

// MODEL: 'nn.param' op does not belong after stage 'model': 'w' is trainable, an imported model is frozen
nn.param @w : tensor<4x8xf32> {trainable}
func.func @body() { return }
func.func @head() { return }

// -----

// MODEL: 'nn.cast' op does not belong after stage 'model': it is no op of the forward direction
// ADAPTED: error: stage 'adapted' needs at least one trainable parameter
nn.param @w : tensor<4x8xf32>
func.func @body(%x: tensor<2x8xf32>) {
  %y = nn.cast %x : tensor<2x8xf32> -> tensor<2x8xbf16>
  return
}
func.func @head() { return }

// -----

// MODEL: 'nn.state' op does not belong after stage 'model': only parameters and functions do
nn.state @tokens : tensor<1xi64> {role = "sum"}
func.func @body() { return }
func.func @head() { return }

// -----

// MODEL: 'lora.linear' op does not belong after stage 'model': adapters come later
nn.param @w : tensor<4x8xbf16>
nn.param @a : tensor<2x8xf32>
nn.param @b : tensor<4x2xf32>
func.func @body(%x: tensor<6x8xf32>) {
  %y, %t = lora.linear %x, @w a @a b @b {scale = 2.0, module = "w"} : tensor<6x8xf32> -> tensor<6x4xf32>, tensor<6x2xf32>
  return
}
func.func @head() { return }

// -----

// STEP: 'nn.cast' op does not belong after stage 'step': its result 'tensor<?x8xbf16>' has a dynamic shape
func.func @micro_step(%x: tensor<?x8xf32>) {
  %y = nn.cast %x : tensor<?x8xf32> -> tensor<?x8xbf16>
  return
}
func.func @update() { return }
func.func @eval() { return }
func.func @logits() { return }

// -----

// STEP: error: stage 'step' needs the functions micro_step, update, eval, logits; found 1
func.func @update() { return }

// -----

// STEP: 'plan.record' op does not belong after stage 'step': the plan is made from the step, not in it
func.func @micro_step() {
  plan.record 0 on 0
  return
}
func.func @update() { return }
func.func @eval() { return }
func.func @logits() { return }

// -----

// STEP: 'nn.zeros' op does not belong after stage 'step': it names results that are not kept; run peft-rematerialize
func.func @micro_step() {
  %z = nn.zeros {nn.not_kept = array<i64: 0>} : tensor<2x8xf32>
  return
}
func.func @update() { return }
func.func @eval() { return }
func.func @logits() { return }

// -----

// CONVERTED: error: stage 'converted' needs one plan.program, found 2
plan.program {batch = 1} {
}
plan.program {batch = 1} {
}

// -----

// PLANNED: 'plan.buffer' op does not belong after stage 'planned': buffer 'x' lies in an arena and has no offset
plan.program {batch = 1} {
  plan.arena "device" persistent 64 size 64
  %x = plan.buffer "x" "input" arena 0 : tensor<2x4xbf16>
}

// -----

// PLANNED: 'nn.zeros' op does not belong after stage 'planned': only the plan dialect does
plan.program {batch = 1} {
  %z = nn.zeros : tensor<2x8xf32>
}
