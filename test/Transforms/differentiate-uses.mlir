// RUN: peft-opt %s --peft-differentiate | FileCheck %s

// A tied table has two uses: two sums, merged before the norm. Three readers of
// one value: its gradient is one f32 sum that the kernels continue.

nn.param @embed : tensor<16x8xf32> {trainable, paddingIdx = 3}
nn.param @q : tensor<8x8xf32> {trainable}
nn.param @k : tensor<8x8xf32> {trainable}
nn.param @v : tensor<8x8xf32> {trainable}

// CHECK: nn.state @embed.grad : tensor<16x8xf32> {of = @embed, role = "gradient", use = 0 : i64}
// CHECK: nn.state @embed.grad.1 : tensor<16x8xf32> {of = @embed, role = "gradient", use = 1 : i64}

// CHECK-LABEL: func.func @micro_step
// CHECK: nn.chunk
// The head's use is number 1.
// CHECK: nn.linear_dw %{{.*}}, %{{.*}} into @embed.grad.1
// CHECK: %[[ADQ:.*]], %[[ADK:.*]], %[[ADV:.*]] = nn.attention_grad
// CHECK: %[[DV:.*]] = nn.linear_dx %[[ADV]], @v : tensor<1x4x8xbf16> -> tensor<1x4x8xf32>
// CHECK: %[[DK:.*]] = nn.linear_dx %[[ADK]], @k init(%[[DV]] : tensor<1x4x8xf32>)
// CHECK: %[[DQ:.*]] = nn.linear_dx %[[ADQ]], @q init(%[[DK]] : tensor<1x4x8xf32>) : tensor<1x4x8xbf16> -> tensor<1x4x8xf32>
// CHECK: %[[DX:.*]] = nn.rms_norm_dx %[[DQ]]
// CHECK: nn.embed_dw %{{.*}}, %[[DX]] into @embed.grad {paddingIdx = 3 : i64}

// CHECK-LABEL: func.func @update
// CHECK-NEXT: nn.accumulate @embed.grad.1 into @embed.grad
// CHECK-NEXT: nn.norm_square @embed.grad into @norm_square
// CHECK: nn.clear @embed.grad
// CHECK-NEXT: nn.clear @embed.grad.1
func.func @body(%ids: tensor<1x4xi32>, %positions: tensor<1x4xi32>, %segments: tensor<1x4xi32>) -> tensor<1x4x8xbf16> {
  %x = nn.embed %ids, @embed : tensor<1x4xi32> -> tensor<1x4x8xf32>
  %n, %r = nn.rms_norm %x, @norm {epsilon = 1.0e-05} : tensor<1x4x8xf32> -> tensor<1x4x8xbf16>, tensor<1x4x1xf32>
  %q = nn.linear %n, @q : tensor<1x4x8xbf16> -> tensor<1x4x8xbf16>
  %k = nn.linear %n, @k : tensor<1x4x8xbf16> -> tensor<1x4x8xbf16>
  %v = nn.linear %n, @v : tensor<1x4x8xbf16> -> tensor<1x4x8xbf16>
  %o, %lse = nn.attention %q, %k, %v segments(%segments : tensor<1x4xi32>) {heads = 1, kvHeads = 1, headDim = 8, scale = 0.5} : tensor<1x4x8xbf16>, tensor<1x4x8xbf16> -> tensor<1x4x8xbf16>, tensor<1x4xf32>
  return %o : tensor<1x4x8xbf16>
}
nn.param @norm : tensor<8xbf16>

func.func @head(%rows: tensor<?x8xbf16>) -> tensor<?x16xf32> {
  %logits = nn.linear %rows, @embed : tensor<?x8xbf16> -> tensor<?x16xf32>
  return %logits : tensor<?x16xf32>
}
