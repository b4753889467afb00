// RUN: peft-opt %s --peft-differentiate="head-chunk-bytes=1024" | FileCheck %s
// RUN: peft-opt %s --peft-differentiate="head-chunk-bytes=1024" --peft-convert-to-plan="max-threads=2" | FileCheck %s --check-prefix=PLAN

// In f16 the gradient of the loss is multiplied by a scale that the update
// divides by and adjusts.
module attributes {nn.model = {name = "tiny", config = "config", header_hash = "0123", vocab = 16 : i64}, nn.adapter_config = "{}", nn.batch = 1 : i64, nn.seq = 16 : i64, nn.compute = f16} {
nn.param @embed : tensor<16x8xf16>
nn.param @norm : tensor<8xf16>
nn.param @k : tensor<8x8xf16>
nn.param @A : tensor<2x8xf32> {trainable, init = "kaiming_uniform", zeroGradientAtStart, module = "k", savedName = "k.lora_A.weight"}
nn.param @B : tensor<8x2xf32> {trainable, init = "zeros", module = "k", savedName = "k.lora_B.weight"}

// CHECK: nn.state @loss_scale : tensor<1xf32> {role = "scalar"}
// CHECK: nn.state @good_steps : tensor<1xi32> {role = "counter"}
// CHECK: nn.state @proceed : tensor<1xi32> {role = "output"}

// CHECK-LABEL: func.func @micro_step
// CHECK: nn.cross_entropy %{{.*}}, %{{.*}} into @loss_sum scaled by @loss_scale : {{.*}} -> tensor<16x16xf16>
// CHECK-LABEL: func.func @update
// CHECK: nn.finish_step scaled by @loss_scale
// CHECK-NEXT: nn.adjust_loss_scale
// CHECK: nn.adamw @A
// The loss itself is never scaled.
// CHECK-LABEL: func.func @eval
// CHECK-NOT: scaled

// PLAN: compute = f16
// The scale and its count are what a checkpoint of the optimizer holds.
// PLAN: %[[SCALE:.*]] = plan.buffer "loss_scale" "optimizer" {{.*}}tensor<1xf32>
// PLAN: %[[GOOD:.*]] = plan.buffer "good_steps" "optimizer"
// PLAN: %[[PROCEED:.*]] = plan.buffer "proceed" "scalar"
// PLAN: plan.port "scalar" "loss_scale" %[[SCALE]]
// PLAN: plan.port "output" "proceed" %[[PROCEED]]
// PLAN: plan.entry "micro_step"
// PLAN: "cross_entropy_fwd_bwd" on 0({{.*}}, %[[SCALE]]) present 63
// PLAN: plan.entry "update"
// PLAN: "finish_step" on 0({{.*}}, %[[SCALE]]) present 16383
// PLAN-NEXT: "adjust_loss_scale" on 0(%{{.*}}, %[[SCALE]], %[[GOOD]], %[[PROCEED]])
// A skipped step starts again from zero; one that ends the run can be looked at.
// PLAN: "adamw" on 1({{.*}}) present 31 if %[[APPLY:.*]] of
// PLAN: "fill_zero" on 1({{.*}}) present 1 if %[[PROCEED]]
func.func @body(%ids: tensor<1x16xi32>, %positions: tensor<1x16xi32>, %segments: tensor<1x16xi32>) -> tensor<1x16x8xf16> {
  %x = nn.embed %ids, @embed : tensor<1x16xi32> -> tensor<1x16x8xf32>
  %n, %r = nn.rms_norm %x, @norm {epsilon = 1.0e-05} : tensor<1x16x8xf32> -> tensor<1x16x8xf16>, tensor<1x16x1xf32>
  %y, %t = lora.linear %n, @k a @A b @B residual(%x : tensor<1x16x8xf32>) {scale = 2.0, module = "k"} : tensor<1x16x8xf16> -> tensor<1x16x8xf32>, tensor<1x16x2xf16>
  %h, %s = nn.rms_norm %y, @norm {epsilon = 1.0e-05} : tensor<1x16x8xf32> -> tensor<1x16x8xf16>, tensor<1x16x1xf32>
  return %h : tensor<1x16x8xf16>
}

func.func @head(%rows: tensor<?x8xf16>) -> tensor<?x16xf32> {
  %logits = nn.linear %rows, @embed : tensor<?x8xf16> -> tensor<?x16xf32>
  return %logits : tensor<?x16xf32>
}
}
