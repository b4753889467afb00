// RUN: peft-opt %s --peft-rematerialize | FileCheck %s

nn.param @table : tensor<16x8xbf16>
nn.param @norm : tensor<8xbf16>
nn.param @w : tensor<8x8xbf16>
nn.param @a : tensor<2x8xf32> {trainable}
nn.param @b : tensor<8x2xf32> {trainable}
nn.state @a.grad : tensor<2x8xf32> {role = "gradient"}
nn.state @b.grad : tensor<8x2xf32> {role = "gradient"}
nn.state @tokens : tensor<1xi64> {role = "sum"}

// Bytes that backward reads and that are not kept: %n and %q [1, 4, 8] in bf16,
// 64 each, and the projections, 16 each.
// CHECK-LABEL: func.func @micro_step
// CHECK-SAME: nn.recompute_remark = "160 bytes that backward reads are not kept; 3 ops of the forward pass run again"
func.func @micro_step(%ids: tensor<1x4xi32>, %labels: tensor<1x4xi32>, %dy: tensor<1x4x8xbf16>) {
  // The forward pass stays as it is.
  // CHECK: %[[X:.*]] = nn.embed
  // CHECK: %[[N:.*]], %[[R:.*]] = nn.rms_norm %[[X]]
  // CHECK: %[[Q:.*]], %[[T:.*]] = lora.linear %[[N]]
  // CHECK: %[[Y:.*]], %{{.*}} = lora.linear %[[Q]], {{.*}} residual(%[[X]]
  // CHECK-NOT: not_kept
  %x = nn.embed %ids, @table : tensor<1x4xi32> -> tensor<1x4x8xf32>
  %n, %r = nn.rms_norm %x, @norm {epsilon = 0.5, nn.not_kept = array<i64: 0>} : tensor<1x4x8xf32> -> tensor<1x4x8xbf16>, tensor<1x4x1xf32>
  %q, %t = lora.linear %n, @w a @a b @b {scale = 2.0, dropout = 0.1, module = "q", nn.not_kept = array<i64: 0, 1>} : tensor<1x4x8xbf16> -> tensor<1x4x8xbf16>, tensor<1x4x2xbf16>
  %y, %u = lora.linear %q, @w a @a b @b residual(%x : tensor<1x4x8xf32>) {scale = 2.0, dropout = 0.1, module = "o", nn.not_kept = array<i64: 1>} : tensor<1x4x8xbf16> -> tensor<1x4x8xf32>, tensor<1x4x2xbf16>
  %index, %target, %count = nn.compact_rows %labels {vocab = 16} : tensor<1x4xi32> -> tensor<4xi32>, tensor<4xi32>, tensor<1xi32>

  // Nothing is cloned before it is needed.
  // CHECK: nn.compact_rows
  // CHECK-NEXT: nn.count_tokens
  nn.count_tokens %count into @tokens : tensor<1xi32>

  // Of the last linear only the projection is needed, from the recomputed %q,
  // from the recomputed norm; the second result of the norm is kept.
  // CHECK-NEXT: %[[N2:.*]], %{{.*}} = nn.rms_norm %[[X]], @norm {epsilon = 5.000000e-01 : f64, nn.recomputed}
  // CHECK-NEXT: %[[Q2:.*]], %[[T2:.*]] = lora.linear %[[N2]], @w a @a b @b {dropout = 1.000000e-01 : f64, module = "q", nn.recomputed, scale = 2.000000e+00 : f64}
  // CHECK-NEXT: %[[U2:.*]] = lora.down %[[Q2]], @a {dropout = 1.000000e-01 : f64, module = "o", nn.recomputed, scale = 2.000000e+00 : f64}
  // CHECK-NEXT: nn.linear_dw %{{.*}}, %[[U2]] into @b.grad
  nn.linear_dw %dy, %u into @b.grad : tensor<1x4x8xbf16>, tensor<1x4x2xbf16>

  // Each is cloned once.
  // CHECK-NEXT: lora.down_dw %{{.*}}, %[[Q2]]
  lora.down_dw %u, %q into @a.grad {dropout = 0.1, module = "o"} : tensor<1x4x2xbf16>, tensor<1x4x8xbf16>
  // CHECK-NEXT: nn.linear_dw %{{.*}}, %[[T2]] into @b.grad
  nn.linear_dw %dy, %t into @b.grad : tensor<1x4x8xbf16>, tensor<1x4x2xbf16>
  // CHECK-NEXT: nn.linear_dw %{{.*}}, %[[N2]]
  nn.linear_dw %dy, %n into @b.grad : tensor<1x4x8xbf16>, tensor<1x4x8xbf16>
  // CHECK-NEXT: nn.rms_norm_dx %{{.*}}, %[[X]], %[[R]]
  %dx = nn.rms_norm_dx %dy, %x, %r, @norm : tensor<1x4x8xbf16>, tensor<1x4x8xf32>, tensor<1x4x1xf32> -> tensor<1x4x8xf32>
  return
}

// A projection that was cloned alone is cloned with its linear when the result
// is needed too; a value that no backward op reads is not.
// CHECK-LABEL: func.func @later
func.func @later(%ids: tensor<1x4xi32>, %dy: tensor<1x4x8xbf16>) {
  %x = nn.embed %ids, @table : tensor<1x4xi32> -> tensor<1x4x8xf32>
  %n, %r = nn.rms_norm %x, @norm {epsilon = 0.5} : tensor<1x4x8xf32> -> tensor<1x4x8xbf16>, tensor<1x4x1xf32>
  %q, %t = lora.linear %n, @w a @a b @b {scale = 2.0, module = "q", nn.not_kept = array<i64: 0, 1>} : tensor<1x4x8xbf16> -> tensor<1x4x8xbf16>, tensor<1x4x2xbf16>
  %unread = nn.linear %q, @w {nn.not_kept = array<i64: 0>} : tensor<1x4x8xbf16> -> tensor<1x4x8xbf16>
  // CHECK: nn.linear {{.*}} @w :
  // CHECK-NEXT: nn.zeros
  %z = nn.zeros : tensor<1x4x8xbf16>
  // CHECK-NEXT: %[[T:.*]] = lora.down
  // CHECK-NEXT: nn.linear_dw %{{.*}}, %[[T]]
  nn.linear_dw %dy, %t into @b.grad : tensor<1x4x8xbf16>, tensor<1x4x2xbf16>
  // CHECK-NEXT: %[[Q:.*]], %{{.*}} = lora.linear
  // CHECK-NEXT: nn.linear_dw %{{.*}}, %[[Q]]
  nn.linear_dw %dy, %q into @b.grad : tensor<1x4x8xbf16>, tensor<1x4x8xbf16>
  // CHECK-NEXT: return
  return
}

// Without a choice nothing happens.
// CHECK-LABEL: func.func @none(
// CHECK-NOT: recompute
func.func @none(%ids: tensor<1x4xi32>, %dy: tensor<1x4x8xf32>) {
  %x = nn.embed %ids, @table : tensor<1x4xi32> -> tensor<1x4x8xf32>
  %n, %r = nn.rms_norm %x, @norm {epsilon = 0.5} : tensor<1x4x8xf32> -> tensor<1x4x8xbf16>, tensor<1x4x1xf32>
  // CHECK: nn.rms_norm
  // CHECK-NEXT: nn.zeros
  %z = nn.zeros : tensor<1x4x8xbf16>
  // CHECK-NEXT: nn.rms_norm_dx
  %dx = nn.rms_norm_dx %z, %x, %r, @norm : tensor<1x4x8xbf16>, tensor<1x4x8xf32>, tensor<1x4x1xf32> -> tensor<1x4x8xf32>
  return
}
