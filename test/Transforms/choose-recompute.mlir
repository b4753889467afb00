// RUN: peft-opt %s --peft-choose-recompute="policy=layers" | FileCheck %s
// RUN: peft-opt %s --peft-choose-recompute | FileCheck %s --check-prefix=NONE
// RUN: peft-opt %s --peft-choose-recompute="policy=layers" --peft-rematerialize | FileCheck %s --check-prefix=BOTH

// NONE-NOT: not_kept

nn.param @table : tensor<16x8xbf16>
nn.param @norm : tensor<8xbf16>
nn.param @w : tensor<8x8xbf16>
nn.state @w.grad : tensor<8x8xf32> {role = "gradient"}

// What is outside the layers and what leaves a layer is kept: the embedding and
// the sums that the next layer, or the last norm, goes on from.
// CHECK: nn.embed %{{.*}}, @table :
// CHECK: %[[N0:.*]], %{{.*}} = nn.rms_norm {{.*}}nn.not_kept = array<i64: 0, 1>
// CHECK: %[[Q0:.*]] = nn.linear %[[N0]], @w {nn.not_kept = array<i64: 0>}
// CHECK: %[[Y0:.*]] = nn.linear %[[Q0]], @w residual(%{{.*}} : tensor<1x4x8xf32>) :
// CHECK: nn.rms_norm %[[Y0]]{{.*}}nn.not_kept = array<i64: 0, 1>
// CHECK: nn.linear {{.*}}nn.not_kept = array<i64: 0>
// CHECK: nn.linear {{.*}} residual(%[[Y0]] : tensor<1x4x8xf32>) :
// CHECK: nn.rms_norm %{{.*}}, @norm {epsilon = 5.000000e-01 : f64} :

// The layers are recomputed one after the other, the last one first, each just
// before its own backward ops; the last linear of a layer is not.
// BOTH: nn.zeros
// BOTH-NEXT: %[[N1:.*]], %[[R1:.*]] = nn.rms_norm {{.*}}nn.recomputed
// BOTH-NEXT: %[[Q1:.*]] = nn.linear %[[N1]], @w {nn.recomputed}
// BOTH-NEXT: nn.linear_dw %{{.*}}, %[[Q1]]
// BOTH-NEXT: nn.linear_dw %{{.*}}, %[[N1]]
// BOTH-NEXT: nn.rms_norm_dx %{{.*}}, %{{.*}}, %[[R1]]
// BOTH-NEXT: nn.rms_norm {{.*}}nn.recomputed
// BOTH-NEXT: nn.linear {{.*}}nn.recomputed
// BOTH-NEXT: nn.linear_dw
// BOTH-NEXT: nn.linear_dw
// BOTH-NEXT: return
func.func @micro_step(%ids: tensor<1x4xi32>, %dy: tensor<1x4x8xbf16>) {
  %x = nn.embed %ids, @table : tensor<1x4xi32> -> tensor<1x4x8xf32> loc("model.embed_tokens")
  %n0, %r0 = nn.rms_norm %x, @norm {epsilon = 0.5} : tensor<1x4x8xf32> -> tensor<1x4x8xbf16>, tensor<1x4x1xf32> loc("model.layers.0.input_layernorm")
  %q0 = nn.linear %n0, @w : tensor<1x4x8xbf16> -> tensor<1x4x8xbf16> loc("model.layers.0.q_proj")
  %y0 = nn.linear %q0, @w residual(%x : tensor<1x4x8xf32>) : tensor<1x4x8xbf16> -> tensor<1x4x8xf32> loc("model.layers.0.o_proj")
  %n1, %r1 = nn.rms_norm %y0, @norm {epsilon = 0.5} : tensor<1x4x8xf32> -> tensor<1x4x8xbf16>, tensor<1x4x1xf32> loc("model.layers.10.input_layernorm")
  %q1 = nn.linear %n1, @w : tensor<1x4x8xbf16> -> tensor<1x4x8xbf16> loc("model.layers.10.q_proj")
  %y1 = nn.linear %q1, @w residual(%y0 : tensor<1x4x8xf32>) : tensor<1x4x8xbf16> -> tensor<1x4x8xf32> loc("model.layers.10.o_proj")
  %h, %r2 = nn.rms_norm %y1, @norm {epsilon = 0.5} : tensor<1x4x8xf32> -> tensor<1x4x8xbf16>, tensor<1x4x1xf32> loc("model.norm")
  %z = nn.zeros : tensor<1x4x8xbf16>
  nn.linear_dw %z, %q1 into @w.grad : tensor<1x4x8xbf16>, tensor<1x4x8xbf16> loc("model.layers.10.o_proj")
  nn.linear_dw %z, %n1 into @w.grad : tensor<1x4x8xbf16>, tensor<1x4x8xbf16> loc("model.layers.10.q_proj")
  %dy0 = nn.rms_norm_dx %z, %y0, %r1, @norm : tensor<1x4x8xbf16>, tensor<1x4x8xf32>, tensor<1x4x1xf32> -> tensor<1x4x8xf32> loc("model.layers.10.input_layernorm")
  nn.linear_dw %z, %q0 into @w.grad : tensor<1x4x8xbf16>, tensor<1x4x8xbf16> loc("model.layers.0.o_proj")
  nn.linear_dw %z, %n0 into @w.grad : tensor<1x4x8xbf16>, tensor<1x4x8xbf16> loc("model.layers.0.q_proj")
  return
}
