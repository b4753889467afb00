// RUN: peft-opt %s --split-input-file --peft-insert-waits --verify-diagnostics

plan.program {batch = 1} {
  plan.arena "device" persistent 0 size 64
  plan.stream "compute"
  plan.entry "update" {
    // expected-error @+1 {{has no offset; run peft-plan-memory before peft-insert-waits}}
    %x = plan.buffer "x" "activation" arena 0 : tensor<4xf32>
    plan.launch "fill_zero" on 0 (%x) present 1 of "m" {}
  }
}

// -----

plan.program {batch = 1} {
  plan.arena "device" persistent 0 size 64
  plan.stream "compute"
  plan.entry "update" {
    %x = plan.buffer "x" "activation" arena 0 offset 0 : tensor<4xf32>
    // expected-error @+1 {{is on stream 1, the plan has 1}}
    plan.launch "fill_zero" on 1 (%x) present 1 of "m" {}
  }
}

// -----

plan.program {batch = 1} {
  plan.arena "device" persistent 0 size 64
  plan.stream "compute"
  plan.entry "update" {
    %x = plan.buffer "x" "activation" arena 0 offset 0 : tensor<4xf32>
    // expected-error @+1 {{names the kernel 'conv', which kernels.def does not have}}
    plan.launch "conv" on 0 (%x) present 1 of "m" {}
  }
}

// -----

plan.program {batch = 1} {
  plan.arena "device" persistent 0 size 64
  plan.stream "compute"
  plan.entry "update" {
    %x = plan.buffer "x" "activation" arena 0 offset 0 : tensor<4xf32>
    // expected-error @+1 {{has fewer operands than `present` says}}
    plan.launch "cast" on 0 (%x) present 3 of "m" {}
  }
}

// -----

plan.program {batch = 1} {
  plan.arena "device" persistent 0 size 64
  plan.stream "compute"
  plan.entry "update" {
    // expected-error @+1 {{stands in a plan whose waits are not inserted yet}}
    plan.wait 0 on 0
  }
}
