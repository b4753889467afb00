// RUN: peft-opt %s --split-input-file --peft-plan-memory --verify-diagnostics
// RUN: not peft-opt %s --split-input-file --peft-plan-memory="arena-alignment=48" 2>&1 | FileCheck %s

// CHECK: arena-alignment is 48, needed is a power of two

// expected-error @+1 {{'plan.program' op has no arena}}
plan.program {batch = 1} {
}

// -----

plan.program {batch = 1} {
  plan.arena "device" persistent 0 size 0
  // expected-error @+1 {{'plan.buffer' op is in arena 1, the plan has 1}}
  %x = plan.buffer "x" "input" arena 1 : tensor<4xf32>
}

// -----

plan.program {batch = 1} {
  plan.arena "device" persistent 0 size 0
  // expected-error @+1 {{'plan.buffer' op has type 'tensor<?xf32>', which has no size in bytes}}
  %x = plan.buffer "x" "input" arena 0 : tensor<?xf32>
}

// -----

plan.program {batch = 1} {
  plan.arena "device" persistent 0 size 0
  plan.stream "compute"
  plan.entry "update" {
    // expected-error @+1 {{'plan.buffer' op is used by no item of its entry}}
    %x = plan.buffer "x" "activation" arena 0 : tensor<4xf32>
  }
}

// -----

plan.program {batch = 1} {
  plan.arena "device" persistent 0 size 0
  plan.stream "compute"
  plan.entry "update" {
    // expected-error @+1 {{'plan.buffer' op is in arena 3, the plan has 1}}
    %x = plan.buffer "x" "activation" arena 3 : tensor<4xf32>
    plan.launch "fill_zero" on 0 (%x) present 1 of "m" {}
  }
}
