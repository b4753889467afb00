// RUN: peft-opt %s | peft-opt | FileCheck %s
// RUN: peft-opt %s --mlir-print-op-generic | peft-opt | FileCheck %s

nn.param @w : tensor<8x6xbf16>
nn.param @bias : tensor<8xbf16>
nn.param @a : tensor<2x6xf32> {trainable}
nn.param @b : tensor<8x2xf32> {trainable}
nn.param @m : tensor<8xf32> {trainable}
nn.state @m.grad : tensor<8xf32> {role = "gradient"}
nn.state @a.grad : tensor<2x6xf32> {role = "gradient"}

// CHECK-LABEL: func.func @all
func.func @all(%x: tensor<1x4x6xbf16>, %r: tensor<1x4x8xf32>) {
  // CHECK: lora.linear %{{.*}}, @w bias @bias a @a b @b residual(%{{.*}} : tensor<1x4x8xf32>) {dropout = 1.000000e-01 : f64, module = "q_proj", scale = 2.000000e+00 : f64} : tensor<1x4x6xbf16> -> tensor<1x4x8xf32>, tensor<1x4x2xbf16>
  %y, %t = lora.linear %x, @w bias @bias a @a b @b residual(%r : tensor<1x4x8xf32>) {scale = 2.0, dropout = 0.1, module = "q_proj"} : tensor<1x4x6xbf16> -> tensor<1x4x8xf32>, tensor<1x4x2xbf16>
  // CHECK: lora.linear %{{.*}}, @w a @a b @b {module = "q_proj", scale = 2.000000e+00 : f64}
  %y2, %t2 = lora.linear %x, @w a @a b @b {scale = 2.0, module = "q_proj"} : tensor<1x4x6xbf16> -> tensor<1x4x8xbf16>, tensor<1x4x2xbf16>
  // CHECK: lora.down %{{.*}}, @a {module = "q_proj", scale = 2.000000e+00 : f64} : tensor<1x4x6xbf16> -> tensor<1x4x2xbf16>
  %t3 = lora.down %x, @a {scale = 2.0, module = "q_proj"} : tensor<1x4x6xbf16> -> tensor<1x4x2xbf16>
  // CHECK: lora.linear_dx %{{.*}}, @w, %{{.*}}, @a {module = "q_proj"} : tensor<1x4x8xbf16>, tensor<1x4x2xbf16> -> tensor<1x4x6xbf16>
  %dx = lora.linear_dx %y2, @w, %t2, @a {module = "q_proj"} : tensor<1x4x8xbf16>, tensor<1x4x2xbf16> -> tensor<1x4x6xbf16>
  // CHECK: lora.down_dw %{{.*}}, %{{.*}} into @a.grad {dropout = 1.000000e-01 : f64, module = "q_proj"} : tensor<1x4x2xbf16>, tensor<1x4x6xbf16>
  lora.down_dw %t2, %x into @a.grad {dropout = 0.1, module = "q_proj"} : tensor<1x4x2xbf16>, tensor<1x4x6xbf16>
  // CHECK: lora.dora_linear %{{.*}}, @w bias @bias a @a b @b magnitude @m residual(%{{.*}} : tensor<1x4x8xf32>) {dropout = 1.000000e-01 : f64, module = "q_proj", scale = 2.000000e+00 : f64} : tensor<1x4x6xbf16> -> tensor<1x4x8xf32>, tensor<1x4x2xbf16>, tensor<1x4x8xbf16>, tensor<8xf32>
  %y3, %t4, %z, %n = lora.dora_linear %x, @w bias @bias a @a b @b magnitude @m residual(%r : tensor<1x4x8xf32>) {scale = 2.0, dropout = 0.1, module = "q_proj"} : tensor<1x4x6xbf16> -> tensor<1x4x8xf32>, tensor<1x4x2xbf16>, tensor<1x4x8xbf16>, tensor<8xf32>
  // CHECK: lora.dora_scale %{{.*}}, @m, %{{.*}} {less} : tensor<1x4x8xbf16>, tensor<8xf32> -> tensor<1x4x8xbf16>
  %dz = lora.dora_scale %y2, @m, %n {less} : tensor<1x4x8xbf16>, tensor<8xf32> -> tensor<1x4x8xbf16>
  // CHECK: lora.dora_dw %{{.*}}, %{{.*}}, %{{.*}} into @m.grad : tensor<1x4x8xbf16>, tensor<1x4x8xbf16>, tensor<8xf32>
  lora.dora_dw %y2, %z, %n into @m.grad : tensor<1x4x8xbf16>, tensor<1x4x8xbf16>, tensor<8xf32>
  // CHECK: lora.dropout %{{.*}} init(%{{.*}} : tensor<1x4x8xf32>) {dropout = 1.000000e-01 : f64, module = "q_proj"} : tensor<1x4x8xf32> -> tensor<1x4x8xf32>
  %d = lora.dropout %r init(%y : tensor<1x4x8xf32>) {dropout = 0.1, module = "q_proj"} : tensor<1x4x8xf32> -> tensor<1x4x8xf32>
  // CHECK: lora.first_features %{{.*}} : tensor<1x4x2xbf16> -> tensor<1x4x1xbf16>
  %f = lora.first_features %t2 : tensor<1x4x2xbf16> -> tensor<1x4x1xbf16>
  // CHECK: lora.dora_start @w a @a b @b into @m {scale = 2.000000e+00 : f64}
  lora.dora_start @w a @a b @b into @m {scale = 2.0}
  return
}
