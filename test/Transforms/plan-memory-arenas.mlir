// RUN: peft-opt %s --peft-plan-memory="arena-alignment=256" | FileCheck %s

// Each arena is packed for itself; what an entry says of its bytes is about
// arena 0. Behind the last buffer, 128 bytes at 512, nothing is reserved.
// CHECK: plan.arena "device" persistent 256 size 640
// CHECK: plan.arena "pageable" persistent 0 size 320
plan.program {batch = 1} {
  plan.arena "device" persistent 0 size 0
  plan.arena "pageable" persistent 0 size 0
  %s = plan.buffer "s" "scalar" arena 0 : tensor<1xf64>
  plan.stream "compute"

  // CHECK: plan.entry "micro_step" attributes {localBytes = 384 : i64, lowerBound = 384 : i64}
  plan.entry "micro_step" {
    // CHECK: "a" "activation" arena 0 offset 256 live [0, 0]
    %a = plan.buffer "a" "activation" arena 0 : tensor<64xf32> // 256 bytes
    // CHECK: "b" "activation" arena 0 offset 256 live [1, 2]
    %b = plan.buffer "b" "activation" arena 0 : tensor<64xf32>
    // CHECK: "c" "activation" arena 0 offset 512 live [2, 2]
    %c = plan.buffer "c" "activation" arena 0 : tensor<32xf32> // 128 bytes
    // CHECK: "d" "activation" arena 0 offset 512 live [0, 1]
    %d = plan.buffer "d" "activation" arena 0 : tensor<10xf32>
    // CHECK: "t" "workspace" arena 1 offset 0 live [0, 2]
    %t = plan.buffer "t" "workspace" arena 1 : tensor<100xui8>
    // CHECK: "u" "workspace" arena 1 offset 256 live [1, 1]
    %u = plan.buffer "u" "workspace" arena 1 : tensor<10xui8>
    plan.launch "cast" on 0 (%a, %d) present 3 thread %t of "m" {}
    plan.launch "cast" on 0 (%d, %b) present 3 thread %u of "m" {}
    plan.launch "cast" on 0 (%b, %c) present 3 thread %t of "m" {}
  }
  // CHECK: plan.remark "peft-plan-memory" of "micro_step" : "2 buffers placed by {{.*}} in 320 bytes of arena 1; at least 110 are needed"
}
