// RUN: peft-opt %s --peft-insert-waits | FileCheck %s

plan.program {batch = 1} {
  plan.arena "device" persistent 0 size 1024
  plan.weight "w" : tensor<8xf32>
  %w = plan.buffer "w" "base" weight 0 : tensor<8xf32>
  %g = plan.buffer "g" "gradient" arena 0 offset 0 : tensor<8xf32>
  %h = plan.buffer "h" "gradient" arena 0 offset 64 : tensor<8xf32>
  plan.stream "compute"
  plan.stream "compute"
  plan.stream "compute"

  // Write, then read on another stream: one event, one wait.
  // CHECK-LABEL: plan.entry "read_after_write"
  plan.entry "read_after_write" {
    %a = plan.buffer "a" "activation" arena 0 offset 128 : tensor<8xf32>
    %b = plan.buffer "b" "activation" arena 0 offset 192 : tensor<8xf32>
    // CHECK: "fill_zero" on 0
    // CHECK-NEXT: plan.record 0 on 0
    plan.launch "fill_zero" on 0 (%a) present 1 of "m" {}
    // CHECK-NEXT: plan.wait 0 on 1
    // CHECK-NEXT: "accumulate" on 1
    plan.launch "accumulate" on 1 (%a, %g) present 3 of "m" {}
    // Stream 1 has seen the event: no second wait.
    // CHECK-NEXT: "accumulate" on 1
    plan.launch "accumulate" on 1 (%a, %h) present 3 of "m" {}
    // Both only read @a.
    // CHECK-NEXT: "cast" on 0
    plan.launch "cast" on 0 (%a, %b) present 3 of "m" {}
  }

  // The same bytes under two names conflict; other bytes do not.
  // CHECK-LABEL: plan.entry "shared_bytes"
  plan.entry "shared_bytes" {
    %a = plan.buffer "a" "activation" arena 0 offset 128 : tensor<8xf32>
    %b = plan.buffer "b" "activation" arena 0 offset 144 : tensor<8xf32>
    %c = plan.buffer "c" "activation" arena 0 offset 192 : tensor<8xf32>
    // CHECK: "accumulate" on 1
    // CHECK-NEXT: plan.record 0 on 1
    plan.launch "accumulate" on 1 (%a, %g) present 3 of "m" {}
    // CHECK-NEXT: "fill_zero" on 0
    plan.launch "fill_zero" on 0 (%c) present 1 of "m" {}
    // Overwrites what stream 1 reads.
    // CHECK-NEXT: plan.wait 0 on 0
    // CHECK-NEXT: "fill_zero" on 0
    plan.launch "fill_zero" on 0 (%b) present 1 of "m" {}
  }

  // Mapped weights are only ever read.
  // CHECK-LABEL: plan.entry "weights"
  plan.entry "weights" {
    %a = plan.buffer "a" "activation" arena 0 offset 128 : tensor<8xf32>
    %b = plan.buffer "b" "activation" arena 0 offset 192 : tensor<8xf32>
    // CHECK: "cast" on 0
    // CHECK-NEXT: "cast" on 1
    // CHECK-NEXT: {{^ *}$}}
    plan.launch "cast" on 0 (%w, %a) present 3 of "m" {}
    plan.launch "cast" on 1 (%w, %b) present 3 of "m" {}
  }

  // A wait that another one implies is not made: stream 2 waits for stream 1,
  // which has waited for stream 0.
  // CHECK-LABEL: plan.entry "implied"
  plan.entry "implied" {
    %a = plan.buffer "a" "activation" arena 0 offset 128 : tensor<8xf32>
    %b = plan.buffer "b" "activation" arena 0 offset 192 : tensor<8xf32>
    %c = plan.buffer "c" "activation" arena 0 offset 256 : tensor<8xf32>
    // CHECK: "fill_zero" on 0
    // CHECK-NEXT: plan.record 0 on 0
    plan.launch "fill_zero" on 0 (%a) present 1 of "m" {}
    // CHECK-NEXT: plan.wait 0 on 1
    // CHECK-NEXT: "cast" on 1
    // CHECK-NEXT: plan.record 1 on 1
    plan.launch "cast" on 1 (%a, %b) present 3 of "m" {}
    // CHECK-NEXT: plan.wait 1 on 2
    // CHECK-NEXT: "add_fwd" on 2
    plan.launch "add_fwd" on 2 (%a, %b, %c) present 7 of "m" {}
  }

  // Workspaces are written, predicates are read.
  // CHECK-LABEL: plan.entry "workspace"
  plan.entry "workspace" {
    %s = plan.buffer "s" "workspace" arena 0 offset 128 : tensor<64xui8>
    %n = plan.buffer "n" "activation" arena 0 offset 192 : tensor<1xi32>
    // CHECK: plan.launch "fill_zero" on 0
    // CHECK-NEXT: plan.record 0 on 0
    plan.launch "fill_zero" on 0 (%n) present 1 of "m" {}
    // CHECK-NEXT: plan.wait 0 on 1
    // CHECK-NEXT: "fill_zero" on 1
    // CHECK-NEXT: plan.record 1 on 1
    plan.launch "fill_zero" on 1 (%g) present 1 shared %s if %n of "m" {}
    // CHECK-NEXT: plan.wait 1 on 0
    // CHECK-NEXT: "fill_zero" on 0
    plan.launch "fill_zero" on 0 (%h) present 1 thread %s of "m" {}
  }
}
