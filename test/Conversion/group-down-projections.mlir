// Which adapters are projected down by one launch, and which are not.
// RUN: peft-opt %s --peft-convert-to-plan="max-threads=2" | FileCheck %s
// RUN: peft-opt %s --peft-convert-to-plan="max-threads=2 group-down-projections=false" | FileCheck %s --check-prefix=ALONE

module attributes {nn.model = {name = "tiny", config = "config", header_hash = "0123", vocab = 16 : i64}, nn.adapter_config = "{}", nn.batch = 1 : i64, nn.seq = 32 : i64, nn.compute = bf16} {
nn.state @loss_sum : tensor<1xf64> {role = "sum"}
nn.state @tokens : tensor<1xi64> {role = "sum"}
nn.state @norm_square : tensor<1xf64> {role = "scratch"}
nn.state @seed : tensor<1xi64> {role = "scalar"}
nn.state @step : tensor<1xi32> {role = "scalar"}
nn.state @first_row : tensor<1xi32> {role = "scalar"}
nn.param @embed : tensor<16x8xf32>
nn.param @norm : tensor<8xf32>
nn.param @w : tensor<8x8xbf16>
nn.param @qa : tensor<2x8xf32>
nn.param @ka : tensor<3x8xbf16>
nn.param @va : tensor<4x8xf32>
nn.param @b2 : tensor<8x2xf32>
nn.param @b3 : tensor<8x3xf32>
nn.param @b4 : tensor<8x4xf32>

// CHECK: %[[QA:.*]] = plan.buffer "qa"
// CHECK: %[[KA:.*]] = plan.buffer "ka"
// CHECK: %[[VA:.*]] = plan.buffer "va"
// CHECK: plan.entry "micro_step"

// The projections are named after their modules.
// CHECK-DAG: %[[QT:.*]] = plan.buffer "layer.q/lora_down_group_fwd.t0" {{.*}} : tensor<32x2xbf16>
// CHECK-DAG: %[[KT:.*]] = plan.buffer "layer.k/lora_down_group_fwd.t1" {{.*}} : tensor<32x3xbf16>
// CHECK-DAG: %[[VT:.*]] = plan.buffer "layer.v/lora_down_group_fwd.t2" {{.*}} : tensor<32x4xbf16>

// Ranks, scales and stored types may differ; every module has its own mask.
// CHECK: "lora_down_group_fwd" on 0(%[[X:.*]], %[[QA]], %[[KA]], %[[VA]], %{{.*}}, %{{.*}}, %{{.*}}, %[[QT]], %[[KT]], %[[VT]]) present {{.*}} of "layer" {dropout = 1.000000e-01 : f64, module_key0 = [[Q:-?[0-9]+]] : i64, module_key1 = [[K:-?[0-9]+]] : i64, module_key2 = [[V:-?[0-9]+]] : i64, scale0 = 2.000000e+00 : f64, scale1 = 3.000000e+00 : f64, scale2 = 5.000000e-01 : f64, seq = 32 : i64}
// CHECK-NEXT: "linear_lora_fwd" on 0(%[[X]], %{{.*}}, %[[QT]], %{{.*}}) {{.*}} of "layer.q"
// CHECK-NEXT: "linear_lora_fwd" on 0(%[[X]], %{{.*}}, %[[KT]], %{{.*}}) {{.*}} of "layer.k"
// CHECK-NEXT: "linear_lora_fwd" on 0(%[[X]], %{{.*}}, %[[VT]], %{{.*}}) {{.*}} of "layer.v"

// One without an adapter is none of them, and does not stand between; another
// dropout, another input, or the same adapter once more (an evaluation of its
// own) is not joined.
// CHECK-NEXT: "lora_down_group_fwd" on 0(%[[QT2:.*]], %[[QA]], %[[KA]], %{{.*}}, %{{.*}}) present {{.*}} of "layer" {}
// CHECK-NEXT: "linear_lora_fwd" {{.*}} of "layer.gate"
// CHECK-NEXT: "linear_fwd"
// CHECK-NEXT: "lora_down_fwd" {{.*}} of "layer.other" {dropout =
// CHECK-NEXT: "linear_lora_fwd" {{.*}} of "layer.other"
// CHECK-NEXT: "linear_lora_fwd" {{.*}} of "layer.up"
// CHECK-NEXT: "lora_down_fwd" {{.*}} of "layer.again" {}
// CHECK-NEXT: "linear_lora_fwd" {{.*}} of "layer.again"

// ALONE-NOT: lora_down_group_fwd
// ALONE-COUNT-7: "lora_down_fwd"
func.func @micro_step(%ids: tensor<1x32xi32> {nn.port = "input_ids"}) {
  %e = nn.embed %ids, @embed : tensor<1x32xi32> -> tensor<1x32x8xf32>
  %x, %r = nn.rms_norm %e, @norm {epsilon = 1.0e-05} : tensor<1x32x8xf32> -> tensor<1x32x8xbf16>, tensor<1x32x1xf32>
  %q, %qt = lora.linear %x, @w a @qa b @b2 {scale = 2.0, dropout = 0.1, module = "layer.q"} : tensor<1x32x8xbf16> -> tensor<1x32x8xbf16>, tensor<1x32x2xbf16> loc("layer.q")
  %k, %kt = lora.linear %x, @w a @ka b @b3 {scale = 3.0, dropout = 0.1, module = "layer.k"} : tensor<1x32x8xbf16> -> tensor<1x32x8xbf16>, tensor<1x32x3xbf16> loc("layer.k")
  %v, %vt = lora.linear %x, @w a @va b @b4 {scale = 0.5, dropout = 0.1, module = "layer.v"} : tensor<1x32x8xbf16> -> tensor<1x32x8xbf16>, tensor<1x32x4xbf16> loc("layer.v")
  %gate, %gatet = lora.linear %q, @w a @qa b @b2 {scale = 1.0, module = "layer.gate"} : tensor<1x32x8xbf16> -> tensor<1x32x8xbf16>, tensor<1x32x2xbf16> loc("layer.gate")
  %plain = nn.linear %q, @w : tensor<1x32x8xbf16> -> tensor<1x32x8xbf16> loc("layer.plain")
  %other, %othert = lora.linear %q, @w a @va b @b4 {scale = 1.0, dropout = 0.2, module = "layer.other"} : tensor<1x32x8xbf16> -> tensor<1x32x8xbf16>, tensor<1x32x4xbf16> loc("layer.other")
  %up, %upt = lora.linear %q, @w a @ka b @b3 {scale = 1.0, module = "layer.up"} : tensor<1x32x8xbf16> -> tensor<1x32x8xbf16>, tensor<1x32x3xbf16> loc("layer.up")
  %again, %againt = lora.linear %q, @w a @qa b @b2 {scale = 1.0, module = "layer.again"} : tensor<1x32x8xbf16> -> tensor<1x32x8xbf16>, tensor<1x32x2xbf16> loc("layer.again")
  return
}
}
