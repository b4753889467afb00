// RUN: peft-opt %s --peft-differentiate="head-chunk-bytes=1024" | FileCheck %s
// RUN: peft-opt %s --peft-differentiate="head-chunk-bytes=1024" | FileCheck %s --check-prefix=FROZEN

nn.param @embed : tensor<16x8xbf16>
nn.param @norm : tensor<8xbf16>
nn.param @q : tensor<8x8xbf16>
nn.param @q.bias : tensor<8xf32> {trainable, noDecay}
nn.param @k : tensor<8x8xbf16>
nn.param @A : tensor<2x8xf32> {trainable, init = "kaiming_uniform", zeroGradientAtStart}
nn.param @B : tensor<8x2xf32> {trainable, init = "zeros"}

// Each trainable parameter has a sum and two moments.
// CHECK-DAG: nn.state @loss_sum : tensor<1xf64> {role = "sum"}
// CHECK-DAG: nn.state @tokens : tensor<1xi64> {role = "sum"}
// CHECK-DAG: nn.state @logits_output : tensor<1x16xf32> {nn.port = "logits", role = "output"}
// CHECK-DAG: nn.state @A.grad : tensor<2x8xf32> {of = @A, role = "gradient", use = 0 : i64}
// CHECK-DAG: nn.state @A.m : tensor<2x8xf32> {of = @A, role = "moment"}
// CHECK-DAG: nn.state @A.v : tensor<2x8xf32> {of = @A, role = "moment"}

// Frozen weights have no gradient and no sum.
// FROZEN-NOT: @embed.grad
// FROZEN-NOT: @norm.grad
// FROZEN-NOT: @q.grad

// CHECK-LABEL: func.func @micro_step
// CHECK-SAME: %[[IDS:.*]]: tensor<1x32xi32> {nn.port = "input_ids"}, %[[LABELS:.*]]: tensor<1x32xi32> {nn.port = "labels"}
// CHECK: %[[X:.*]] = nn.embed %[[IDS]]
// CHECK: %[[N:.*]], %[[RSTD:.*]] = nn.rms_norm %[[X]]
// CHECK: %[[Q:.*]], %[[T:.*]] = lora.linear %[[N]]
// CHECK-SAME: dropout = 1.000000e-01
// CHECK: %[[Y:.*]] = nn.linear %[[Q]], @k residual(%[[X]]
// CHECK: %[[H:.*]], %[[RSTD2:.*]] = nn.rms_norm %[[Y]]
// CHECK: %[[INDEX:.*]], %[[TARGET:.*]], %[[COUNT:.*]] = nn.compact_rows %[[LABELS]] segments
// CHECK: nn.count_tokens %[[COUNT]] into @tokens

// Two chunks of 16 rows, 16 x 16 x 4 bytes of logits each; the second one goes
// on where the first one scattered.
// CHECK: %[[ZEROS:.*]] = nn.zeros : tensor<1x32x8xbf16>
// CHECK: %[[FIRST:.*]] = nn.chunk %[[INDEX]], %[[COUNT]] inits(%[[ZEROS]] : {{.*}}rows = 16 : i64, start = 0 : i64
// CHECK: %[[ROWS:.*]] = nn.gather_rows %[[H]], %[[INDEX]] : {{.*}} -> tensor<16x8xbf16>
// CHECK: %[[LOGITS:.*]] = nn.linear %[[ROWS]], @embed : tensor<16x8xbf16> -> tensor<16x16xf32>
// CHECK: %[[DLOGITS:.*]] = nn.cross_entropy %[[LOGITS]], %[[TARGET]] into @loss_sum : {{.*}} -> tensor<16x16xbf16>
// CHECK: %[[DROWS:.*]] = nn.linear_dx %[[DLOGITS]], @embed
// CHECK: %[[PUT:.*]] = nn.scatter_rows %[[DROWS]] into %[[ZEROS]]
// CHECK: nn.yield %[[PUT]]
// CHECK: %[[DH:.*]] = nn.chunk %[[INDEX]], %[[COUNT]] inits(%[[FIRST]] : {{.*}}rows = 16 : i64, start = 16 : i64
// CHECK: }

// The residual stream's gradient is f32; a linear reads it rounded. The weight
// gradients stand right behind the dY they read.
// CHECK: %[[DY:.*]] = nn.rms_norm_dx %[[DH]], %[[Y]], %[[RSTD2]], @norm : {{.*}} -> tensor<1x32x8xf32>
// CHECK: %[[DYC:.*]] = nn.cast %[[DY]] : tensor<1x32x8xf32> -> tensor<1x32x8xbf16>
// CHECK: %[[DQ:.*]] = nn.linear_dx %[[DYC]], @k
// CHECK: nn.bias_dw %[[DQ]] into @q.bias.grad
// CHECK: nn.linear_dw %[[DQ]], %[[T]] into @B.grad
// CHECK: %[[DT:.*]] = nn.linear_dx %[[DQ]], @B {scale = 2.000000e+00 : f64}
// CHECK: lora.down_dw %[[DT]], %[[N]] into @A.grad {dropout = 1.000000e-01 : f64, module = "q"}

// Nothing below the first trainable parameter has a gradient.
// CHECK-NOT: linear_dx
// CHECK-NOT: rms_norm_dx
// CHECK: return

// CHECK-LABEL: func.func @update
// CHECK: nn.norm_square @q.bias.grad into @norm_square
// CHECK: nn.norm_square @A.grad into @norm_square
// CHECK: nn.norm_square @B.grad into @norm_square
// CHECK: nn.finish_step
// CHECK: nn.adamw @q.bias, @q.bias.grad, @q.bias.m, @q.bias.v
// CHECK-NOT: decay
// CHECK: nn.clear @q.bias.grad
// CHECK: nn.adamw @A, @A.grad, @A.m, @A.v {decay}
// CHECK: nn.clear @A.grad

// The same forward pass, without dropout and gradients.
// CHECK-LABEL: func.func @eval
// CHECK: lora.linear
// CHECK-NOT: dropout
// CHECK: nn.count_tokens %{{.*}} into @eval_tokens
// CHECK: nn.chunk
// CHECK: nn.cross_entropy %{{.*}} into @eval_loss_sum : tensor<16x16xf32>, tensor<32xi32>{{$}}
// CHECK-NOT: _dx

// CHECK-LABEL: func.func @logits
// CHECK-SAME: %[[CHOSEN:arg[0-9]+]]: tensor<1xi32> {nn.port = "logit_rows"}
// CHECK: nn.gather_rows %{{.*}}, %[[CHOSEN]] : {{.*}} -> tensor<1x8xbf16>
// CHECK: nn.linear {{.*}} -> tensor<1x16xf32>
// CHECK: nn.store %{{.*}} into @logits_output

// The model's own functions are gone.
// CHECK-NOT: func.func
func.func @body(%ids: tensor<1x32xi32>, %positions: tensor<1x32xi32>, %segments: tensor<1x32xi32>) -> tensor<1x32x8xbf16> {
  %x = nn.embed %ids, @embed : tensor<1x32xi32> -> tensor<1x32x8xf32>
  %n, %r = nn.rms_norm %x, @norm {epsilon = 1.0e-05} : tensor<1x32x8xf32> -> tensor<1x32x8xbf16>, tensor<1x32x1xf32>
  %q, %t = lora.linear %n, @q bias @q.bias a @A b @B {scale = 2.0, dropout = 0.1, module = "q"} : tensor<1x32x8xbf16> -> tensor<1x32x8xbf16>, tensor<1x32x2xbf16>
  %y = nn.linear %q, @k residual(%x : tensor<1x32x8xf32>) : tensor<1x32x8xbf16> -> tensor<1x32x8xf32>
  %h, %s = nn.rms_norm %y, @norm {epsilon = 1.0e-05} : tensor<1x32x8xf32> -> tensor<1x32x8xbf16>, tensor<1x32x1xf32>
  return %h : tensor<1x32x8xbf16>
}

func.func @head(%rows: tensor<?x8xbf16>) -> tensor<?x16xf32> {
  %logits = nn.linear %rows, @embed : tensor<?x8xbf16> -> tensor<?x16xf32>
  return %logits : tensor<?x16xf32>
}
