// RUN: peft-opt %s --peft-differentiate="optimizer=adamw8bit" | FileCheck %s
// RUN: peft-opt %s --peft-differentiate="optimizer=adamw8bit" --peft-convert-to-plan="max-threads=2" | FileCheck %s --check-prefix=PLAN
// RUN: not peft-opt %s --peft-differentiate="optimizer=sgd" 2>&1 | FileCheck %s --check-prefix=REFUSED

// REFUSED: error: optimizer 'sgd' is none of adamw, adamw8bit

// From 4,096 elements on a moment is codes and a magnitude for 256 of them.
module attributes {nn.model = {name = "tiny", config = "config", header_hash = "0123", vocab = 100 : i64}, nn.batch = 1 : i64, nn.seq = 4 : i64, nn.compute = f32} {
nn.param @embed : tensor<100x41xf32> {trainable}
nn.param @norm : tensor<41xf32> {trainable, noDecay}

// CHECK: nn.state @embed.m : tensor<100x41xui8> {of = @embed, role = "moment"}
// CHECK-NEXT: nn.state @embed.m.scale : tensor<17xf32> {of = @embed, role = "moment"}
// CHECK-NEXT: nn.state @embed.v : tensor<100x41xui8>
// CHECK-NEXT: nn.state @embed.v.scale : tensor<17xf32>
// CHECK: nn.state @norm.m : tensor<41xf32>
// CHECK-NEXT: nn.state @norm.v : tensor<41xf32>
// CHECK: nn.adamw @embed, @embed.grad, @embed.m, @embed.v scales @embed.m.scale, @embed.v.scale {decay}
// CHECK: nn.adamw @norm, @norm.grad, @norm.m, @norm.v

// PLAN: %[[M:.*]] = plan.buffer "embed.m" "optimizer" arena 0 : tensor<100x41xui8>
// PLAN-NEXT: %[[MS:.*]] = plan.buffer "embed.m.scale" "optimizer" arena 0 : tensor<17xf32>
// PLAN-NEXT: %[[V:.*]] = plan.buffer "embed.v" "optimizer" arena 0 : tensor<100x41xui8>
// PLAN-NEXT: %[[VS:.*]] = plan.buffer "embed.v.scale" "optimizer"
// PLAN: plan.parameter "embed" {{.*}} moments(%[[M]], %[[V]], %[[MS]], %[[VS]])
// PLAN: "adamw8bit" on 1(%{{.*}}, %{{.*}}, %[[M]], %[[V]], %[[MS]], %[[VS]], %{{.*}}) present 127 if
// PLAN: "adamw" on 1
func.func @body(%ids: tensor<1x4xi32>, %positions: tensor<1x4xi32>, %segments: tensor<1x4xi32>) -> tensor<1x4x41xf32> {
  %x = nn.embed %ids, @embed : tensor<1x4xi32> -> tensor<1x4x41xf32>
  %n, %r = nn.rms_norm %x, @norm {epsilon = 1.0e-05} : tensor<1x4x41xf32> -> tensor<1x4x41xf32>, tensor<1x4x1xf32>
  return %n : tensor<1x4x41xf32>
}

func.func @head(%rows: tensor<?x41xf32>) -> tensor<?x100xf32> {
  %logits = nn.linear %rows, @embed : tensor<?x41xf32> -> tensor<?x100xf32>
  return %logits : tensor<?x100xf32>
}
}
