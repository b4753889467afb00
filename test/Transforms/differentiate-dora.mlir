// RUN: peft-opt %s --peft-differentiate="head-chunk-bytes=1024" | FileCheck %s
// RUN: peft-opt %s --peft-differentiate="head-chunk-bytes=1024" --peft-convert-to-plan="max-threads=2" | FileCheck %s --check-prefix=PLAN

// DoRA with dropout: the magnitude has a gradient, its norms have none.
module attributes {nn.model = {name = "tiny", config = "config", header_hash = "0123", vocab = 16 : i64}, nn.adapter_config = "{}", nn.batch = 1 : i64, nn.seq = 16 : i64, nn.compute = bf16} {
nn.param @embed : tensor<16x8xbf16>
nn.param @norm : tensor<8xbf16>
nn.param @q : tensor<8x8xbf16>
nn.param @k : tensor<8x8xbf16>
nn.param @qA : tensor<2x8xf32> {trainable, init = "kaiming_uniform", zeroGradientAtStart, module = "q"}
nn.param @qB : tensor<8x2xf32> {trainable, init = "zeros", module = "q"}
nn.param @qM : tensor<8xf32> {trainable, init = "row_norms", module = "q", rateFactor = 4.0}
nn.param @A : tensor<2x8xf32> {saved, init = "kaiming_uniform", module = "k"}
nn.param @B : tensor<8x2xf32> {trainable, init = "zeros", module = "k"}
nn.param @M : tensor<8xf32> {trainable, init = "row_norms", module = "k"}

// CHECK: nn.state @M.grad : tensor<8xf32>

// CHECK-LABEL: func.func @micro_step
// CHECK: %[[Y:.*]], %[[T:.*]], %[[Z:.*]], %[[N:.*]] = lora.dora_linear {{.*}} @k {{.*}} {dropout = 5.000000e-01 : f64
// CHECK: nn.chunk
// The rule of k: B and M have gradients, the frozen A has none.
// CHECK: lora.dora_dw %[[DY:.*]], %[[Z]], %[[N]] into @M.grad
// CHECK-NEXT: %[[DZ:.*]] = lora.dora_scale %[[DY]], @M, %[[N]] :
// CHECK-NEXT: nn.linear_dw %[[DZ]], %[[T]] into @B.grad
// CHECK-NEXT: %[[DT:.*]] = nn.linear_dx %[[DZ]], @B {scale = 2.000000e+00 : f64}
// CHECK-NEXT: %[[LESS:.*]] = lora.dora_scale %[[DY]], @M, %[[N]] {less}
// CHECK-NEXT: %[[DROPPED:.*]] = lora.linear_dx %[[LESS]], @k, %[[DT]], @A {{.*}} -> tensor<1x16x8xf32>
// CHECK-NEXT: %[[MASKED:.*]] = lora.dropout %[[DROPPED]] {dropout = 5.000000e-01 : f64, module = "k"}
// CHECK-NEXT: nn.linear_dx %[[DY]], @k init(%[[MASKED]]
// Nothing that trains lies above q, so its input gets no gradient.
// CHECK: lora.dora_scale %{{.*}}, @qM
// CHECK-NOT: lora.dora_scale
// CHECK: lora.down_dw %{{.*}} into @qA.grad

// CHECK-LABEL: func.func @update
// CHECK: nn.adamw @qM, {{.*}} {decay, rateFactor = 4.000000e+00 : f64}
// CHECK-NOT: nn.adamw @A
// CHECK-LABEL: func.func @eval
// CHECK-NOT: dropout =
// CHECK-LABEL: func.func @logits
// CHECK-LABEL: func.func @initialize
// CHECK-NEXT: lora.dora_start @q a @qA b @qB into @qM {scale = 2.000000e+00 : f64}
// CHECK-NEXT: lora.dora_start @k a @A b @B into @M

// A frozen tensor of the adapter is saved without gradient and moments.
// PLAN: plan.parameter "A" of "k" %{{.*}} gradients() moments()
// PLAN: plan.parameter "M" of "k" %[[M:[0-9]+]] gradients(%{{[0-9]+}}) moments(
// PLAN: plan.entry "micro_step"
// PLAN: "dora_norm" on 0
// PLAN: "dora_norm" on 0(%[[W:[0-9]+]], %[[A:[0-9]+]], %[[B:[0-9]+]], %[[NORM:[0-9]+]])
// PLAN-NEXT: "dropout_fwd" on 0({{.*}}, %[[XD:[0-9]+]]) {{.*}} {module_key =
// PLAN-NEXT: "lora_down_fwd" on 0(%[[XD]],
// PLAN-NEXT: "linear_lora_fwd" on 0(%[[XD]], {{.*}}, %[[Z:[0-9]+]])
// PLAN-NEXT: "dropout_fwd" on 0({{.*}}, %[[REST:[0-9]+]]) {{.*}} {complement = 1 : i64
// PLAN-NEXT: "linear_fwd" on 0(%[[REST]], {{.*}}, %[[START:[0-9]+]])
// PLAN-NEXT: "dora_scale" on 0(%[[Z]], %[[M]], %[[NORM]], %[[START]], %{{[0-9]+}})
// PLAN: plan.entry "initialize"
// PLAN: "dora_norm" on 0(%[[W]], %[[A]], %[[B]], %[[M]])
func.func @body(%ids: tensor<1x16xi32>, %positions: tensor<1x16xi32>, %segments: tensor<1x16xi32>) -> tensor<1x16x8xbf16> {
  %x = nn.embed %ids, @embed : tensor<1x16xi32> -> tensor<1x16x8xf32>
  %n, %r = nn.rms_norm %x, @norm {epsilon = 1.0e-05} : tensor<1x16x8xf32> -> tensor<1x16x8xbf16>, tensor<1x16x1xf32>
  %q, %qt, %qz, %qn = lora.dora_linear %n, @q a @qA b @qB magnitude @qM {scale = 2.0, module = "q"} : tensor<1x16x8xbf16> -> tensor<1x16x8xbf16>, tensor<1x16x2xbf16>, tensor<1x16x8xbf16>, tensor<8xf32>
  %y, %t, %z, %m = lora.dora_linear %q, @k a @A b @B magnitude @M residual(%x : tensor<1x16x8xf32>) {scale = 2.0, dropout = 0.5, module = "k"} : tensor<1x16x8xbf16> -> tensor<1x16x8xf32>, tensor<1x16x2xbf16>, tensor<1x16x8xbf16>, tensor<8xf32>
  %h, %s = nn.rms_norm %y, @norm {epsilon = 1.0e-05} : tensor<1x16x8xf32> -> tensor<1x16x8xbf16>, tensor<1x16x1xf32>
  return %h : tensor<1x16x8xbf16>
}

func.func @head(%rows: tensor<?x8xbf16>) -> tensor<?x16xf32> {
  %logits = nn.linear %rows, @embed : tensor<?x8xbf16> -> tensor<?x16xf32>
  return %logits : tensor<?x16xf32>
}
}
