// RUN: peft-opt %s --peft-differentiate="head-chunk-bytes=1024" --peft-convert-to-plan="max-threads=2" | FileCheck %s

// CHECK: plan.program {adapter_config = "{}"
// CHECK-SAME: batch = 1 : i64, compute = bf16, header_hash = "0123", max_threads = 2 : i64, model_config = "config"
// CHECK-SAME: seq = 32 : i64
// CHECK-SAME: vocab = 16 : i64
module attributes {nn.model = {name = "tiny", config = "config", header_hash = "0123", vocab = 16 : i64}, nn.adapter_config = "{}", nn.batch = 1 : i64, nn.seq = 32 : i64, nn.compute = bf16} {

// Offsets come later.
// CHECK: plan.arena "device" persistent 0 size 0

// Frozen weights are the mapping of their tensor; trained ones are f32 masters
// that start from it, from random numbers, or from zero.
// CHECK-NEXT: plan.weight "embed" : tensor<16x8xbf16>
// CHECK-NEXT: plan.weight "norm" : tensor<8xbf16>
// CHECK-NEXT: plan.weight "q" : tensor<8x8xbf16>
// CHECK-NEXT: plan.weight "q.bias" : tensor<8xbf16>
// CHECK-NEXT: plan.weight "k" : tensor<8x8xbf16>
// CHECK-NEXT: %[[EMBED:.*]] = plan.buffer "embed" "base" weight 0 : tensor<16x8xbf16>
nn.param @embed : tensor<16x8xbf16>
nn.param @norm : tensor<8xbf16>
nn.param @q : tensor<8x8xbf16>
// CHECK: %[[BIAS:.*]] = plan.buffer "q.bias" "adapter" arena 0 : tensor<8xf32>
nn.param @q.bias : tensor<8xf32> {trainable, noDecay, sourceType = bf16, savedName = "base_model.model.q.bias", module = "q"}
// CHECK: %[[K:.*]] = plan.buffer "k" "base" weight 4
nn.param @k : tensor<8x8xbf16>
// CHECK: %[[A:.*]] = plan.buffer "A" "adapter" arena 0 : tensor<2x8xf32>
nn.param @A : tensor<2x8xf32> {trainable, init = "kaiming_uniform", zeroGradientAtStart, module = "q"}
// CHECK: %[[B:.*]] = plan.buffer "B" "adapter" arena 0 : tensor<8x2xf32>
nn.param @B : tensor<8x2xf32> {trainable, init = "zeros", module = "q"}

// CHECK: %[[LOSS:.*]] = plan.buffer "loss_sum" "scalar" arena 0 : tensor<1xf64>
// CHECK: %[[STEP:.*]] = plan.buffer "step" "scalar"
// CHECK: %[[SEED:.*]] = plan.buffer "seed" "scalar"
// CHECK: %[[FIRSTROW:.*]] = plan.buffer "first_row" "scalar"
// CHECK: %[[ADAM:.*]] = plan.buffer "adam" "scalar" arena 0 : tensor<8xf64>
// CHECK: %[[APPLY:.*]] = plan.buffer "apply" "scalar"
// CHECK: plan.buffer "optimizer_step" "optimizer"
// CHECK: %[[LOGITS:.*]] = plan.buffer "logits_output" "scalar" arena 0 : tensor<1x16xf32>
// CHECK: %[[DA:.*]] = plan.buffer "A.grad" "gradient" arena 0 : tensor<2x8xf32>
// CHECK: %[[MA:.*]] = plan.buffer "A.m" "optimizer"
// CHECK: %[[VA:.*]] = plan.buffer "A.v" "optimizer"
// CHECK: %[[DB:.*]] = plan.buffer "B.grad" "gradient"

// [batch, seq] is [rows] in a plan.
// CHECK: %[[IDS:.*]] = plan.buffer "input_ids" "input" arena 0 : tensor<32xi32>
// CHECK: %[[CHOSEN:.*]] = plan.buffer "logit_rows" "input" arena 0 : tensor<1xi32>

// CHECK: plan.initialize %[[BIAS]] "weight" {weight = 3 : i64}
// CHECK-NEXT: plan.initialize %[[A]] "kaiming_uniform" {stream = {{-?[0-9]+}} : i64}
// CHECK-NEXT: plan.group "default" loss %[[LOSS]]
// CHECK-NEXT: plan.parameter "base_model.model.q.bias" of "q" %[[BIAS]] {{.*}} {group = 0 : i64, sourceType = bf16}
// CHECK-NEXT: plan.parameter "A" of "q" %[[A]] gradients(%[[DA]]) moments(%[[MA]], %[[VA]]) {decay, group = 0 : i64, sourceType = f32, zeroGradientAtStart}
// CHECK: plan.port "input" "input_ids" %[[IDS]]
// CHECK: plan.port "output" "loss_sum" %[[LOSS]]
// CHECK: plan.port "scalar" "step" %[[STEP]]
// CHECK: plan.port "output" "logits" %[[LOGITS]]
// CHECK: plan.stream "compute"
// CHECK-NEXT: plan.stream "compute"

// CHECK: plan.entry "micro_step"
// [batch, seq, features] is [rows, features]; buffers stand before all items.
// CHECK: %[[X:.*]] = plan.buffer "{{.*}}/embed_fwd.y" "activation" arena 0 : tensor<32x8xf32>
// CHECK: plan.buffer "{{.*}}/rms_norm_fwd.rstd" "activation" arena 0 : tensor<32xf32>
// CHECK: %[[COUNT:.*]] = plan.buffer "loss/compact_rows.count" "activation" arena 0 : tensor<1xi32>
// CHECK: %[[DH:.*]] = plan.buffer "loss/fill_zero.y" "activation" arena 0 : tensor<32x8xbf16>
// CHECK: "embed_fwd" on 0(%[[IDS]], %[[EMBED]], %[[X]]) present 7
// lora.linear is two launches; dropout is keyed by module, seed, step and row.
// CHECK: "lora_down_fwd" on 0(%{{.*}}, %[[A]], %[[SEED]], %[[STEP]], %[[FIRSTROW]], %[[T:.*]]) present 243 {{.*}} {dropout = 1.000000e-01 : f64, module_key = {{-?[0-9]+}} : i64, scale = 2.000000e+00 : f64, seq = 32 : i64}
// CHECK: "linear_lora_fwd" on 0(%{{.*}}, %{{.*}}, %[[BIAS]], %[[T]], %[[B]], %{{.*}}) present 159
// CHECK: "linear_fwd" on 0(%{{.*}}, %[[K]], %[[X]], %{{.*}}) present 43
// CHECK: "compact_rows" on 0
// Sums go to stream 1.
// CHECK: "count_tokens" on 1(%[[COUNT]]
// CHECK: "fill_zero" on 0(%[[DH]])
// Launches of a chunk run if it has rows; both chunks scatter into one buffer.
// CHECK: "gather_rows" on 0({{.*}}) present 15 if %[[COUNT]] of "loss" {}
// CHECK: "cross_entropy_fwd_bwd" on 0({{.*}}) present 31 if %[[COUNT]] of "loss" {}
// CHECK: "loss_sum" on 1(%{{.*}}, %[[COUNT]], %[[LOSS]])
// CHECK: "scatter_rows" on 0(%{{.*}}, %{{.*}}, %[[COUNT]], %[[DH]]) present 15 if %[[COUNT]]
// CHECK: "gather_rows" on 0({{.*}}) present 15 if %[[COUNT]] of "loss" {row_start = 16 : i64} {above = 16 : i64}
// CHECK: "scatter_rows" on 0(%{{.*}}, %{{.*}}, %[[COUNT]], %[[DH]]) present 15 if %[[COUNT]] of "loss" {row_start = 16 : i64} {above = 16 : i64}
// CHECK: "rms_norm_dx" on 0(%[[DH]]
// CHECK: "linear_dw" on 1({{.*}}, %[[DB]])
// CHECK: "lora_down_dw" on 1({{.*}}, %[[DA]])

// CHECK: plan.entry "update"
// CHECK: "norm_square" on 0(%[[DA]]
// CHECK: "finish_step" on 0(%[[LOSS]]
// CHECK: "adamw" on 1(%[[A]], %[[DA]], %[[MA]], %[[VA]], %[[ADAM]]) present 31 if %[[APPLY]] of {{.*}} {decay = 1 : i64}
// CHECK: "fill_zero" on 1(%[[DA]]) present 1 if %[[APPLY]]

// CHECK: plan.entry "eval"
// CHECK-NOT: dropout
// CHECK: "cross_entropy_fwd" on 0({{.*}}) present 15 if

// The value that is stored is computed where the host reads it.
// CHECK: plan.entry "logits"
// CHECK: "gather_rows" on 0(%{{.*}}, %[[CHOSEN]], %{{.*}}) present 11 of
// CHECK: "linear_fwd" on 0(%{{.*}}, %[[EMBED]], %[[LOGITS]])

// Nothing of the step is left.
// CHECK-NOT: nn.state
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
}
