// What a card changes: the frozen weights lie in the arena, those that matrix
// products read in the compute type, and the CPU device's scratch in a second
// arena.
// RUN: peft-opt %s --peft-differentiate --peft-convert-to-plan="max-threads=2 target=t device=cuda convert-weights" | FileCheck %s
// RUN: peft-opt %s --peft-differentiate --peft-convert-to-plan="max-threads=2 target=t device=cuda" | FileCheck %s --check-prefix=STORED
// RUN: not peft-opt %s --peft-differentiate --peft-convert-to-plan="device=tpu" 2>&1 | FileCheck %s --check-prefix=KIND
// KIND: error: device 'tpu' is none of cpu, cuda

// CHECK: plan.program {{.*}}device_kind = "cuda"{{.*}}target = "t"
module attributes {nn.model = {name = "tiny", config = "config", header_hash = "0123", vocab = 16 : i64}, nn.adapter_config = "{}", nn.batch = 1 : i64, nn.seq = 32 : i64, nn.compute = bf16} {
// CHECK: plan.arena "device" persistent 0 size 0
// CHECK-NEXT: plan.arena "pageable" persistent 0 size 0

// The embedding reads its rows as they are stored, the head's product rounds
// them: f32 is not bf16, so there are two.
// CHECK: %[[EMBED:.*]] = plan.buffer "embed" "base" arena 0 : tensor<16x8xf32>
// CHECK-NEXT: %[[HEAD:.*]] = plan.buffer "embed/bf16" "base" arena 0 : tensor<16x8xbf16>
// STORED: %[[EMBED:.*]] = plan.buffer "embed" "base" arena 0 : tensor<16x8xf32>
// STORED-NOT: "base" arena 0 : {{.*}}bf16
nn.param @embed : tensor<16x8xf32>
// A norm weight stays as it is, a bias is rounded like a weight.
// CHECK-NEXT: %[[NORM:.*]] = plan.buffer "norm" "base" arena 0 : tensor<8xf32>
nn.param @norm : tensor<8xf32>
// CHECK-NEXT: %[[Q:.*]] = plan.buffer "q" "base" arena 0 : tensor<8x8xbf16>
nn.param @q : tensor<8x8xf32>
// CHECK-NEXT: %[[BIAS:.*]] = plan.buffer "q.bias" "base" arena 0 : tensor<8xbf16>
nn.param @q.bias : tensor<8xf32>
// What trains stays an f32 master.
// CHECK-NEXT: plan.buffer "A" "adapter" arena 0 : tensor<2x8xf32>
nn.param @A : tensor<2x8xf32> {trainable, init = "kaiming_uniform", zeroGradientAtStart, module = "q"}
nn.param @B : tensor<8x2xf32> {trainable, init = "zeros", module = "q"}

// CHECK: plan.initialize %[[EMBED]] "weight" {weight = 0 : i64}
// CHECK-NEXT: plan.initialize %[[HEAD]] "weight" {weight = 0 : i64}
// CHECK-NEXT: plan.initialize %[[NORM]] "weight" {weight = 1 : i64}
// CHECK-NEXT: plan.initialize %[[Q]] "weight" {weight = 2 : i64}
// CHECK-NEXT: plan.initialize %[[BIAS]] "weight" {weight = 3 : i64}

// CHECK: plan.entry "micro_step"
// CHECK: %[[SHARED:.*]] = plan.buffer "{{.*}}/linear_lora_fwd.shared" "workspace" arena 0
// CHECK: %[[THREAD:.*]] = plan.buffer "{{.*}}/linear_lora_fwd.thread" "workspace" arena 1
// CHECK: plan.buffer "stream 1.shared" "workspace" arena 0
// CHECK: plan.buffer "stream 1.thread" "workspace" arena 1
// CHECK: "embed_fwd" on 0(%{{.*}}, %[[EMBED]], %{{.*}})
// CHECK: "linear_lora_fwd" on 0(%{{.*}}, %[[Q]], %[[BIAS]], {{.*}} shared %[[SHARED]] thread %[[THREAD]]
// CHECK: "linear_fwd" on 0(%{{.*}}, %[[HEAD]],
func.func @body(%ids: tensor<1x32xi32>, %positions: tensor<1x32xi32>, %segments: tensor<1x32xi32>) -> tensor<1x32x8xbf16> {
  %x = nn.embed %ids, @embed : tensor<1x32xi32> -> tensor<1x32x8xf32>
  %n, %r = nn.rms_norm %x, @norm {epsilon = 1.0e-05} : tensor<1x32x8xf32> -> tensor<1x32x8xbf16>, tensor<1x32x1xf32>
  %q, %t = lora.linear %n, @q bias @q.bias a @A b @B {scale = 2.0, module = "q"} : tensor<1x32x8xbf16> -> tensor<1x32x8xbf16>, tensor<1x32x2xbf16>
  return %q : tensor<1x32x8xbf16>
}

func.func @head(%rows: tensor<?x8xbf16>) -> tensor<?x16xf32> {
  %logits = nn.linear %rows, @embed : tensor<?x8xbf16> -> tensor<?x16xf32>
  return %logits : tensor<?x16xf32>
}
}
