// RUN: not peft-opt %s --peft-convert-base="type=nf4" 2>&1 | FileCheck %s --check-prefix=NF4
// RUN: not peft-opt %s --peft-convert-base 2>&1 | FileCheck %s --check-prefix=NONE

// NF4: error: type 'nf4' is none of f32, bf16, f16
// NONE: error: type '' is none of f32, bf16, f16
nn.param @w : tensor<4x8xf32>
