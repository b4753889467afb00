// RUN: peft-opt %s --peft-differentiate="head-chunk-bytes=1024" | FileCheck %s
// RUN: peft-opt %s --peft-differentiate="head-chunk-bytes=1024" --peft-convert-to-plan="max-threads=2" | FileCheck %s --check-prefix=PLAN

// A pair that trains and a frozen one in one product: gradients take the trained
// half, the gradient of the input takes both.
module attributes {nn.model = {name = "tiny", config = "config", header_hash = "0123", vocab = 16 : i64}, nn.adapter_config = "{}", nn.batch = 1 : i64, nn.seq = 16 : i64, nn.compute = bf16} {
nn.param @embed : tensor<16x8xbf16>
nn.param @norm : tensor<8xf32> {trainable, noDecay, sourceType = bf16}
nn.param @k : tensor<8x8xbf16>
nn.param @A : tensor<2x8xf32> {trainable, init = "given", module = "k"}
nn.param @A0 : tensor<2x8xf32> {saved, init = "given", module = "k"}
nn.param @AA : tensor<4x8xf32> {init = "given", joined = [@A, @A0], module = "k"}
nn.param @B : tensor<8x2xf32> {trainable, init = "given", module = "k"}
nn.param @B0 : tensor<8x2xf32> {saved, init = "given", module = "k"}
nn.param @BB : tensor<8x4xf32> {init = "given", joined = [@B, @B0], module = "k"}

// CHECK-LABEL: func.func @micro_step
// CHECK: %[[Y:.*]], %[[T:.*]] = lora.linear {{.*}} a @AA b @BB trains @A, @B
// CHECK: %[[T1:.*]] = lora.first_features %[[T]] : tensor<1x16x4xbf16> -> tensor<1x16x2xbf16>
// CHECK-NEXT: nn.linear_dw %{{.*}}, %[[T1]] into @B.grad
// CHECK-NEXT: %[[DT:.*]] = nn.linear_dx %{{.*}}, @BB {scale = 2.000000e+00 : f64} : {{.*}} -> tensor<1x16x4xbf16>
// CHECK-NEXT: %[[DT1:.*]] = lora.first_features %[[DT]]
// CHECK-NEXT: lora.down_dw %[[DT1]], %{{.*}} into @A.grad
// CHECK-NEXT: lora.linear_dx %{{.*}}, @k, %[[DT]], @AA

// A joined factor lies nowhere: it is put together where it is read.
// PLAN: %[[A:[0-9]+]] = plan.buffer "A" "adapter"
// PLAN: %[[A0:[0-9]+]] = plan.buffer "A0" "adapter"
// PLAN-NOT: plan.buffer "AA"
// PLAN: plan.parameter "A0" of "k" %[[A0]] gradients() moments()
// PLAN: plan.entry "micro_step"
// PLAN: "join" on 0(%[[A]], %[[A0]], %[[AA:[0-9]+]]) present 7 of
// PLAN-NEXT: "lora_down_fwd" on 0(%{{[0-9]+}}, %[[AA]],
// PLAN-NEXT: "join" on 0({{.*}} {beside = 1 : i64}
// PLAN-NEXT: "linear_lora_fwd" on 0(
// PLAN: "first_columns" on 0(
func.func @body(%ids: tensor<1x16xi32>, %positions: tensor<1x16xi32>, %segments: tensor<1x16xi32>) -> tensor<1x16x8xbf16> {
  %x = nn.embed %ids, @embed : tensor<1x16xi32> -> tensor<1x16x8xf32>
  %n, %r = nn.rms_norm %x, @norm {epsilon = 1.0e-05} : tensor<1x16x8xf32> -> tensor<1x16x8xbf16>, tensor<1x16x1xf32>
  %y, %t = lora.linear %n, @k a @AA b @BB trains @A, @B residual(%x : tensor<1x16x8xf32>) {scale = 2.0, module = "k"} : tensor<1x16x8xbf16> -> tensor<1x16x8xf32>, tensor<1x16x4xbf16>
  %h, %s = nn.rms_norm %y, @norm {epsilon = 1.0e-05} : tensor<1x16x8xf32> -> tensor<1x16x8xbf16>, tensor<1x16x1xf32>
  return %h : tensor<1x16x8xbf16>
}

func.func @head(%rows: tensor<?x8xbf16>) -> tensor<?x16xf32> {
  %logits = nn.linear %rows, @embed : tensor<?x8xbf16> -> tensor<?x16xf32>
  return %logits : tensor<?x16xf32>
}
}
