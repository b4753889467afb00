// RUN: peft-opt %s | peft-opt | FileCheck %s
// RUN: peft-opt %s --mlir-print-op-generic | peft-opt | FileCheck %s

// CHECK: plan.program {batch = 1 : i64, target = "cpu"}
plan.program {batch = 1, target = "cpu"} {
  // CHECK: plan.arena "device" persistent 128 size 256
  plan.arena "device" persistent 128 size 256
  // CHECK: plan.weight "w" : tensor<8x4xbf16> {slices = array<i64: 0, 0, 4>}
  plan.weight "w" : tensor<8x4xbf16> {slices = array<i64: 0, 0, 4>}
  // CHECK: %[[W:.*]] = plan.buffer "w" "base" weight 0 : tensor<8x4xbf16>
  %w = plan.buffer "w" "base" weight 0 : tensor<8x4xbf16>
  // CHECK: %[[X:.*]] = plan.buffer "x" "input" arena 0 offset 64 live [0, 2] : tensor<2x4xbf16>
  %x = plan.buffer "x" "input" arena 0 offset 64 live [0, 2] : tensor<2x4xbf16>
  %g = plan.buffer "g" "gradient" arena 0 : tensor<8x4xf32>
  %s = plan.buffer "s" "scalar" arena 0 : tensor<1xf64>
  %n = plan.buffer "n" "scalar" arena 0 : tensor<1xi64>
  // CHECK: plan.initialize %{{.*}} "kaiming_uniform" {stream = 7 : i64}
  plan.initialize %g "kaiming_uniform" {stream = 7}
  // CHECK: plan.group "default" loss %{{.*}} tokens %{{.*}} norm %{{.*}} {rateFactor = 1.000000e+00 : f64}
  plan.group "default" loss %s tokens %n norm %s {rateFactor = 1.0}
  // CHECK: plan.parameter "w" of "q_proj" %{{.*}} gradients(%{{.*}}, %{{.*}}) moments(%{{.*}}, %{{.*}}) {decay, group = 0 : i64, sourceType = bf16}
  plan.parameter "w" of "q_proj" %g gradients(%g, %g) moments(%g, %g) {decay, group = 0, sourceType = bf16}
  // CHECK: plan.port "input" "x" %[[X]]
  plan.port "input" "x" %x
  // CHECK: plan.stream "compute"
  plan.stream "compute"
  // CHECK: plan.entry "micro_step" attributes {localBytes = 64 : i64, lowerBound = 32 : i64}
  plan.entry "micro_step" attributes {localBytes = 64, lowerBound = 32} {
    %y = plan.buffer "y" "activation" arena 0 offset 128 : tensor<2x8xbf16>
    %shared = plan.buffer "shared" "workspace" arena 0 : tensor<64xui8>
    // CHECK: plan.launch "linear" on 0(%[[X]], %[[W]], %{{.*}}) present 19 shared %[[SHARED:.*]] if %{{.*}} of "q_proj" {scale = 2.000000e+00 : f64} {above = 1 : i64}
    plan.launch "linear" on 0 (%x, %w, %y) present 19 shared %shared if %n of "q_proj" {scale = 2.0} {above = 1}
    // CHECK: plan.copy %[[X]] to %{{.*}} on 1 size 16
    plan.copy %x to %y on 1 size 16
    // CHECK: plan.collective "all_reduce" %{{.*}} to %{{.*}} on 1 of "q_proj"
    plan.collective "all_reduce" %g to %g on 1 of "q_proj"
    // CHECK: plan.record 0 on 1
    plan.record 0 on 1
    // CHECK: plan.wait 0 on 0
    plan.wait 0 on 0
  }
  // CHECK: plan.remark "convert-to-plan" of "q_proj" : "why"
  plan.remark "convert-to-plan" of "q_proj" : "why"
}
