// RUN: peft-opt %s | peft-opt | FileCheck %s
// RUN: peft-opt %s --mlir-print-op-generic | peft-opt | FileCheck %s

// CHECK: nn.param @table : tensor<16x8xbf16> {paddingIdx = 0 : i64}
nn.param @table : tensor<16x8xbf16> {paddingIdx = 0 : i64}
// CHECK: nn.param @w : tensor<12x8xf32> {noDecay, savedName = "saved", sourceType = bf16, trainable}
nn.param @w : tensor<12x8xf32> {trainable, sourceType = bf16, noDecay, savedName = "saved"}
nn.param @square : tensor<8x8xf16>
nn.param @bias : tensor<12xf32>
nn.param @norm : tensor<8xbf16>
nn.param @head_norm : tensor<4xbf16>
// CHECK: nn.param @a : tensor<2x8xf32> {init = "gaussian", stddev = 5.000000e-01 : f64, trainable, zeroGradientAtStart}
nn.param @a : tensor<2x8xf32> {init = "gaussian", stddev = 0.5, trainable, zeroGradientAtStart}
// CHECK: nn.state @w.grad : tensor<12x8xf32> {of = @w, role = "gradient", use = 0 : i64}
nn.state @w.grad : tensor<12x8xf32> {role = "gradient", of = @w, use = 0}
nn.state @table.grad : tensor<16x8xf32> {role = "gradient"}
nn.state @norm.grad : tensor<8xf32> {role = "gradient"}
nn.state @loss_sum : tensor<1xf64> {role = "sum"}
nn.state @tokens : tensor<1xi64> {role = "sum"}
nn.state @out : tensor<2x8xf32> {role = "output"}

// CHECK-LABEL: func.func @forward
func.func @forward(%ids: tensor<2x4xi32>, %positions: tensor<2x4xi32>, %segments: tensor<2x4xi32>) {
  // CHECK: nn.embed %{{.*}}, @table : tensor<2x4xi32> -> tensor<2x4x8xf32>
  %x = nn.embed %ids, @table : tensor<2x4xi32> -> tensor<2x4x8xf32>
  // CHECK: nn.rms_norm %{{.*}}, @norm {epsilon = 5.000000e-01 : f64} : tensor<2x4x8xf32> -> tensor<2x4x8xbf16>, tensor<2x4x1xf32>
  %n, %rstd = nn.rms_norm %x, @norm {epsilon = 0.5} : tensor<2x4x8xf32> -> tensor<2x4x8xbf16>, tensor<2x4x1xf32>
  %h, %rstd2 = nn.rms_norm %n, @head_norm {epsilon = 0.5} : tensor<2x4x8xbf16> -> tensor<2x4x8xbf16>, tensor<2x4x2xf32>
  // CHECK: nn.linear %{{.*}}, @w bias @bias : tensor<2x4x8xbf16> -> tensor<2x4x12xbf16>
  %y = nn.linear %n, @w bias @bias : tensor<2x4x8xbf16> -> tensor<2x4x12xbf16>
  // CHECK: nn.linear %{{.*}}, @square residual(%{{.*}} : tensor<2x4x8xf32>) : tensor<2x4x8xbf16> -> tensor<2x4x8xf32>
  %z = nn.linear %n, @square residual(%x : tensor<2x4x8xf32>) : tensor<2x4x8xbf16> -> tensor<2x4x8xf32>
  // CHECK: nn.rope_table %{{.*}} {invFreq = array<f32: 1.000000e+00, 5.000000e-01>} : tensor<2x4xi32> -> tensor<2x4x4xf32>
  %t = nn.rope_table %positions {invFreq = array<f32: 1.0, 0.5>} : tensor<2x4xi32> -> tensor<2x4x4xf32>
  // CHECK: nn.rope %{{.*}}, %{{.*}} {headDim = 4 : i64, inverse} : tensor<2x4x8xbf16>, tensor<2x4x4xf32> -> tensor<2x4x8xbf16>
  %q = nn.rope %n, %t {headDim = 4, inverse} : tensor<2x4x8xbf16>, tensor<2x4x4xf32> -> tensor<2x4x8xbf16>
  // CHECK: nn.attention %{{.*}}, %{{.*}}, %{{.*}} segments(%{{.*}} : tensor<2x4xi32>) {headDim = 4 : i64, heads = 2 : i64, kvHeads = 2 : i64, scale = 5.000000e-01 : f64, window = 3 : i64}
  %o, %lse = nn.attention %q, %n, %n segments(%segments : tensor<2x4xi32>) {heads = 2, kvHeads = 2, headDim = 4, scale = 0.5, window = 3} : tensor<2x4x8xbf16>, tensor<2x4x8xbf16> -> tensor<2x4x8xbf16>, tensor<2x8xf32>
  // CHECK: nn.swiglu %{{.*}}, %{{.*}} : tensor<2x4x12xbf16> -> tensor<2x4x12xbf16>
  %g = nn.swiglu %y, %y : tensor<2x4x12xbf16> -> tensor<2x4x12xbf16>
  return
}

// CHECK-LABEL: func.func @gemma
func.func @gemma(%ids: tensor<2x4xi32>, %positions: tensor<2x4xi32>, %y: tensor<2x4x12xbf16>, %q: tensor<2x4x8xbf16>) {
  // CHECK: nn.embed %{{.*}}, @table {scale = 3.000000e+00 : f64} : tensor<2x4xi32> -> tensor<2x4x8xf32>
  %x = nn.embed %ids, @table {scale = 3.0} : tensor<2x4xi32> -> tensor<2x4x8xf32>
  // CHECK: nn.rms_norm %{{.*}}, @norm residual(%{{.*}} : tensor<2x4x8xf32>) {epsilon = 5.000000e-01 : f64, weightOffset = 1.000000e+00 : f64} : tensor<2x4x8xbf16> -> tensor<2x4x8xf32>, tensor<2x4x1xf32>
  %n, %rstd = nn.rms_norm %q, @norm residual(%x : tensor<2x4x8xf32>) {epsilon = 0.5, weightOffset = 1.0} : tensor<2x4x8xbf16> -> tensor<2x4x8xf32>, tensor<2x4x1xf32>
  // CHECK: nn.attention %{{.*}} {headDim = 4 : i64, heads = 2 : i64, kvHeads = 2 : i64, scale = 5.000000e-01 : f64, softcap = 2.000000e+01 : f64}
  %o, %lse = nn.attention %q, %q, %q {heads = 2, kvHeads = 2, headDim = 4, scale = 0.5, softcap = 20.0} : tensor<2x4x8xbf16>, tensor<2x4x8xbf16> -> tensor<2x4x8xbf16>, tensor<2x8xf32>
  // CHECK: nn.geglu %{{.*}}, %{{.*}} : tensor<2x4x12xbf16> -> tensor<2x4x12xbf16>
  %g = nn.geglu %y, %y : tensor<2x4x12xbf16> -> tensor<2x4x12xbf16>
  // CHECK: nn.softcap %{{.*}} {cap = 3.000000e+01 : f64} : tensor<2x4x8xf32>
  %c = nn.softcap %n {cap = 30.0} : tensor<2x4x8xf32>
  // CHECK: nn.rope_table %{{.*}} {attentionFactor = 1.500000e+00 : f64, invFreq = array<f32: 1.000000e+00>, longInvFreq = array<f32: 5.000000e-01>, shortPositions = 9 : i64}
  %t = nn.rope_table %positions {invFreq = array<f32: 1.0>, longInvFreq = array<f32: 0.5>, shortPositions = 9, attentionFactor = 1.5} : tensor<2x4xi32> -> tensor<2x4x2xf32>
  // CHECK: nn.split %{{.*}} : tensor<2x4x12xbf16> -> tensor<2x4x6xbf16>, tensor<2x4x3xbf16>, tensor<2x4x3xbf16>
  %p:3 = nn.split %y : tensor<2x4x12xbf16> -> tensor<2x4x6xbf16>, tensor<2x4x3xbf16>, tensor<2x4x3xbf16>
  // CHECK: nn.concat %{{.*}}, %{{.*}}, %{{.*}} : tensor<2x4x6xbf16>, tensor<2x4x3xbf16>, tensor<2x4x3xbf16> -> tensor<2x4x12xbf16>
  %j = nn.concat %p#0, %p#1, %p#2 : tensor<2x4x6xbf16>, tensor<2x4x3xbf16>, tensor<2x4x3xbf16> -> tensor<2x4x12xbf16>
  // CHECK: nn.softcap_grad %{{.*}}, %{{.*}} {cap = 3.000000e+01 : f64} : tensor<2x4x8xbf16>, tensor<2x4x8xf32>
  %dc = nn.softcap_grad %q, %c {cap = 30.0} : tensor<2x4x8xbf16>, tensor<2x4x8xf32>
  // CHECK: nn.geglu_grad
  %dg, %du = nn.geglu_grad %y, %g, %y : tensor<2x4x12xbf16> -> tensor<2x4x12xbf16>, tensor<2x4x12xbf16>
  // CHECK: nn.embed_dw %{{.*}}, %{{.*}} into @table.grad {scale = 3.000000e+00 : f64}
  nn.embed_dw %ids, %x into @table.grad {scale = 3.0} : tensor<2x4xi32>, tensor<2x4x8xf32>
  return
}

// CHECK-LABEL: func.func @backward
func.func @backward(%ids: tensor<2x4xi32>, %x: tensor<2x4x8xbf16>, %dy: tensor<2x4x12xbf16>, %sum: tensor<2x4x8xf32>, %rstd: tensor<2x4x1xf32>, %lse: tensor<2x8xf32>) {
  // CHECK: nn.linear_dx %{{.*}}, @w init(%{{.*}} : tensor<2x4x8xf32>) {scale = 2.000000e+00 : f64} : tensor<2x4x12xbf16> -> tensor<2x4x8xf32>
  %dx = nn.linear_dx %dy, @w init(%sum : tensor<2x4x8xf32>) {scale = 2.0} : tensor<2x4x12xbf16> -> tensor<2x4x8xf32>
  // CHECK: nn.linear_dw %{{.*}}, %{{.*}} into @w.grad : tensor<2x4x12xbf16>, tensor<2x4x8xbf16>
  nn.linear_dw %dy, %x into @w.grad : tensor<2x4x12xbf16>, tensor<2x4x8xbf16>
  // CHECK: nn.rms_norm_dx
  %dn = nn.rms_norm_dx %x, %sum, %rstd, @norm init(%sum : tensor<2x4x8xf32>) : tensor<2x4x8xbf16>, tensor<2x4x8xf32>, tensor<2x4x1xf32> -> tensor<2x4x8xf32>
  // CHECK: nn.rms_norm_dw
  nn.rms_norm_dw %x, %sum, %rstd into @norm.grad : tensor<2x4x8xbf16>, tensor<2x4x8xf32>, tensor<2x4x1xf32>
  // CHECK: nn.attention_grad
  %dq, %dk, %dv = nn.attention_grad %x, %x, %x, %x, %x, %lse {heads = 2, kvHeads = 2, headDim = 4, scale = 0.5} : tensor<2x4x8xbf16>, tensor<2x4x8xbf16>, tensor<2x4x8xbf16>, tensor<2x8xf32> -> tensor<2x4x8xbf16>, tensor<2x4x8xbf16>, tensor<2x4x8xbf16>
  // CHECK: nn.swiglu_grad
  %dg, %du = nn.swiglu_grad %dy, %dy, %dy : tensor<2x4x12xbf16> -> tensor<2x4x12xbf16>, tensor<2x4x12xbf16>
  // CHECK: nn.embed_dw
  nn.embed_dw %ids, %sum into @table.grad {paddingIdx = 0} : tensor<2x4xi32>, tensor<2x4x8xf32>
  // CHECK: nn.add
  %a = nn.add %x, %sum : tensor<2x4x8xbf16>, tensor<2x4x8xf32> -> tensor<2x4x8xf32>
  // CHECK: nn.cast %{{.*}} : tensor<2x4x8xf32> -> tensor<2x4x8xbf16>
  %c = nn.cast %a : tensor<2x4x8xf32> -> tensor<2x4x8xbf16>
  return
}

// CHECK-LABEL: func.func @chunks
func.func @chunks(%labels: tensor<2x4xi32>, %segments: tensor<2x4xi32>, %x: tensor<2x4x8xbf16>) {
  // CHECK: nn.compact_rows %{{.*}} segments(%{{.*}} : tensor<2x4xi32>) {vocab = 16 : i64} : tensor<2x4xi32> -> tensor<8xi32>, tensor<8xi32>, tensor<1xi32>
  %index, %target, %count = nn.compact_rows %labels segments(%segments : tensor<2x4xi32>) {vocab = 16} : tensor<2x4xi32> -> tensor<8xi32>, tensor<8xi32>, tensor<1xi32>
  // CHECK: nn.count_tokens %{{.*}} into @tokens : tensor<1xi32>
  nn.count_tokens %count into @tokens : tensor<1xi32>
  // CHECK: nn.zeros : tensor<2x4x8xf32>
  %zeros = nn.zeros : tensor<2x4x8xf32>
  // CHECK: nn.chunk %{{.*}}, %{{.*}} inits(%{{.*}} : tensor<2x4x8xf32>) attributes {rows = 4 : i64, start = 0 : i64}
  %grad = nn.chunk %index, %count inits(%zeros : tensor<2x4x8xf32>) attributes {start = 0, rows = 4} : tensor<8xi32>, tensor<1xi32> -> tensor<2x4x8xf32> {
    // CHECK: nn.gather_rows
    %rows = nn.gather_rows %x, %index : tensor<2x4x8xbf16>, tensor<8xi32> -> tensor<4x8xbf16>
    %logits = nn.linear %rows, @table : tensor<4x8xbf16> -> tensor<4x16xf32>
    // CHECK: nn.cross_entropy %{{.*}}, %{{.*}} into @loss_sum : tensor<4x16xf32>, tensor<8xi32> -> tensor<4x16xbf16>
    %dlogits = nn.cross_entropy %logits, %target into @loss_sum : tensor<4x16xf32>, tensor<8xi32> -> tensor<4x16xbf16>
    %drows = nn.linear_dx %dlogits, @table : tensor<4x16xbf16> -> tensor<4x8xf32>
    // CHECK: nn.scatter_rows
    %scattered = nn.scatter_rows %drows into %zeros : tensor<4x8xf32>, tensor<2x4x8xf32>
    // CHECK: nn.yield %{{.*}} : tensor<2x4x8xf32>
    nn.yield %scattered : tensor<2x4x8xf32>
  }
  return
}

// CHECK-LABEL: func.func @update
func.func @update(%v: tensor<2x8xf32>) {
  // CHECK: nn.accumulate @table.grad into @w.grad
  nn.accumulate @table.grad into @w.grad
  // CHECK: nn.norm_square @w.grad into @loss_sum
  nn.norm_square @w.grad into @loss_sum
  // CHECK: nn.finish_step{{$}}
  nn.finish_step
  // CHECK: nn.finish_step scaled by @loss_scale
  nn.finish_step scaled by @loss_scale
  // CHECK: nn.adjust_loss_scale{{$}}
  nn.adjust_loss_scale
  // CHECK: nn.adjust_loss_scale {growthInterval = 5 : i64}
  nn.adjust_loss_scale {growthInterval = 5}
  // CHECK: nn.adamw @w, @w.grad, @w.grad, @w.grad {decay}
  nn.adamw @w, @w.grad, @w.grad, @w.grad {decay}
  // CHECK: nn.clear @w.grad
  nn.clear @w.grad
  // CHECK: nn.store %{{.*}} into @out : tensor<2x8xf32>
  nn.store %v into @out : tensor<2x8xf32>
  return
}
