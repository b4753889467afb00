// RUN: peft-opt %s --peft-specialize-model="batch=2 seq=16" | FileCheck %s --check-prefixes=CHECK,BF16 -DC=bf16
// RUN: peft-opt %s --peft-specialize-model="batch=2 seq=16 compute=f32" | FileCheck %s --check-prefixes=CHECK,F32 -DC=f32
// RUN: peft-opt %s --peft-specialize-model="batch=2 seq=16 compute=f16" | FileCheck %s -DC=f16

// CHECK: module attributes
// CHECK-SAME: nn.batch = 2 : i64, nn.compute = [[C]], nn.seq = 16 : i64

nn.param @model.embed_tokens.weight : tensor<32x8xbf16>
nn.param @model.norm.weight : tensor<8xbf16>
nn.param @k_norm.weight : tensor<4xbf16>
nn.param @q_proj.weight : tensor<8x8xbf16>
nn.param @k_proj.weight : tensor<4x8xbf16>
nn.param @o_proj.weight : tensor<8x8xbf16>

// CHECK: func.func @body(%[[IDS:.*]]: tensor<2x16xi32>, %[[POSITIONS:.*]]: tensor<2x16xi32>, %[[SEGMENTS:.*]]: tensor<2x16xi32>) -> tensor<2x16x8x[[C]]>
func.func @body(%ids: tensor<?x?xi32>, %positions: tensor<?x?xi32>, %segments: tensor<?x?xi32>) -> tensor<?x?x8xf32> {
  // CHECK: nn.rope_table %[[POSITIONS]] {{.*}} -> tensor<2x16x4xf32>
  %table = nn.rope_table %positions {invFreq = array<f32: 1.0, 0.5>} : tensor<?x?xi32> -> tensor<?x?x4xf32>
  // The residual stream is f32 in every compute type.
  // CHECK: nn.embed %[[IDS]], {{.*}} -> tensor<2x16x8xf32>
  %x = nn.embed %ids, @model.embed_tokens.weight : tensor<?x?xi32> -> tensor<?x?x8xf32>
  // CHECK: nn.linear {{.*}} : tensor<2x16x8xf32> -> tensor<2x16x8x[[C]]>
  %q = nn.linear %x, @q_proj.weight : tensor<?x?x8xf32> -> tensor<?x?x8xf32>
  // CHECK: nn.linear {{.*}} -> tensor<2x16x4x[[C]]>
  %k = nn.linear %x, @k_proj.weight : tensor<?x?x8xf32> -> tensor<?x?x4xf32>
  // CHECK: nn.rms_norm {{.*}} -> tensor<2x16x4x[[C]]>, tensor<2x16x1xf32>
  %n, %r = nn.rms_norm %k, @k_norm.weight {epsilon = 0.5} : tensor<?x?x4xf32> -> tensor<?x?x4xf32>, tensor<?x?x1xf32>
  // CHECK: nn.rope {{.*}} -> tensor<2x16x8x[[C]]>
  %rq = nn.rope %q, %table {headDim = 4} : tensor<?x?x8xf32>, tensor<?x?x4xf32> -> tensor<?x?x8xf32>
  // CHECK: nn.attention {{.*}} -> tensor<2x16x8x[[C]]>, tensor<2x32xf32>
  %o, %lse = nn.attention %rq, %n, %k segments(%segments : tensor<?x?xi32>) {heads = 2, kvHeads = 1, headDim = 4, scale = 0.5} : tensor<?x?x8xf32>, tensor<?x?x4xf32> -> tensor<?x?x8xf32>, tensor<2x?xf32>
  // CHECK: nn.linear {{.*}} residual(%{{.*}} : tensor<2x16x8xf32>) : tensor<2x16x8x[[C]]> -> tensor<2x16x8xf32>
  %h = nn.linear %o, @o_proj.weight residual(%x : tensor<?x?x8xf32>) : tensor<?x?x8xf32> -> tensor<?x?x8xf32>
  // CHECK: nn.rms_norm {{.*}} : tensor<2x16x8xf32> -> tensor<2x16x8x[[C]]>, tensor<2x16x1xf32>
  %y, %rstd = nn.rms_norm %h, @model.norm.weight {epsilon = 0.5} : tensor<?x?x8xf32> -> tensor<?x?x8xf32>, tensor<?x?x1xf32>
  // CHECK: return %{{.*}} : tensor<2x16x8x[[C]]>
  return %y : tensor<?x?x8xf32>
}

// The rows of the head stay dynamic, its logits f32.
// CHECK: func.func @head(%{{.*}}: tensor<?x8x[[C]]>) -> tensor<?x32xf32>
func.func @head(%rows: tensor<?x8xf32>) -> tensor<?x32xf32> {
  // BF16: nn.linear {{.*}} : tensor<?x8xbf16> -> tensor<?x32xf32>
  // F32: nn.linear {{.*}} : tensor<?x8xf32> -> tensor<?x32xf32>
  %logits = nn.linear %rows, @model.embed_tokens.weight : tensor<?x8xf32> -> tensor<?x32xf32>
  return %logits : tensor<?x32xf32>
}
