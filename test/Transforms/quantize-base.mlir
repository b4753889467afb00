// RUN: peft-opt %s --peft-quantize-base="type=nf4 nested" | FileCheck %s --check-prefixes=CHECK,NF4
// RUN: peft-opt %s --peft-quantize-base="type=fp4 block=128" | FileCheck %s --check-prefixes=CHECK,FP4
// RUN: peft-opt %s --peft-quantize-base="type=int8 head" | FileCheck %s --check-prefixes=HEAD
// RUN: peft-opt %s --peft-quantize-base="type=nf4 include=.*\.q exclude=layers\.1\..*" | FileCheck %s --check-prefixes=SOME
// RUN: peft-opt %s --peft-quantize-base="type=nf4 include=lm_head" | FileCheck %s --check-prefix=TIED

// A tied head counts as the head, and has its name as well.
// TIED: nn.param @embed.weight : tensor<16x8x!qw.nf4<block = 64>> {sourceType = bf16}
// TIED: nn.param @layers.0.q.weight : tensor<8x8xbf16>
// CHECK: nn.param @embed.weight : tensor<16x8xbf16>
// HEAD: nn.param @embed.weight : tensor<16x8x!qw.int8> {sourceType = bf16}
// SOME: nn.param @embed.weight : tensor<16x8xbf16>
nn.param @embed.weight : tensor<16x8xbf16>
// CHECK: nn.param @norm : tensor<8xbf16>
// HEAD: nn.param @norm : tensor<8xbf16>
nn.param @norm : tensor<8xbf16>
// NF4: nn.param @layers.0.q.weight : tensor<8x8x!qw.nf4<block = 64, nested = 256>> {sourceType = bf16}
// FP4: nn.param @layers.0.q.weight : tensor<8x8x!qw.fp4<block = 128>> {sourceType = bf16}
// HEAD: nn.param @layers.0.q.weight : tensor<8x8x!qw.int8> {sourceType = bf16}
// SOME: nn.param @layers.0.q.weight : tensor<8x8x!qw.nf4<block = 64>>
nn.param @layers.0.q.weight : tensor<8x8xbf16>
// CHECK: nn.param @layers.0.q.bias : tensor<8xbf16>
nn.param @layers.0.q.bias : tensor<8xbf16>
// What the file's type was before another pass changed it is kept.
// NF4: nn.param @layers.1.q.weight : tensor<8x8x!qw.nf4<block = 64, nested = 256>> {sourceType = f16}
// SOME: nn.param @layers.1.q.weight : tensor<8x8xf32>
nn.param @layers.1.q.weight : tensor<8x8xf32> {sourceType = f16}
// NF4: nn.param @layers.1.k.weight : tensor<8x8x!qw.nf4<block = 64, nested = 256>>
// SOME: nn.param @layers.1.k.weight : tensor<8x8xbf16>
nn.param @layers.1.k.weight : tensor<8x8xbf16>
// What trains stays a master.
// CHECK: nn.param @layers.1.v.weight : tensor<8x8xf32> {sourceType = bf16, trainable}
nn.param @layers.1.v.weight : tensor<8x8xf32> {sourceType = bf16, trainable}
// CHECK: nn.param @a : tensor<2x8xf32> {trainable}
nn.param @a : tensor<2x8xf32> {trainable}
nn.param @b : tensor<8x2xf32> {trainable}

func.func @body(%ids: tensor<1x2xi32>) -> tensor<1x2x8xbf16> {
  %x = nn.embed %ids, @embed.weight : tensor<1x2xi32> -> tensor<1x2x8xf32>
  %n, %r = nn.rms_norm %x, @norm {epsilon = 1.0e-6} : tensor<1x2x8xf32> -> tensor<1x2x8xbf16>, tensor<1x2x1xf32>
  %q, %t = lora.linear %n, @layers.0.q.weight bias @layers.0.q.bias a @a b @b {module = "layers.0.q", scale = 1.0} : tensor<1x2x8xbf16> -> tensor<1x2x8xbf16>, tensor<1x2x2xbf16>
  %y = nn.linear %q, @layers.1.q.weight : tensor<1x2x8xbf16> -> tensor<1x2x8xbf16>
  %z = nn.linear %y, @layers.1.k.weight : tensor<1x2x8xbf16> -> tensor<1x2x8xbf16>
  %v = nn.linear %z, @layers.1.v.weight : tensor<1x2x8xbf16> -> tensor<1x2x8xbf16>
  return %v : tensor<1x2x8xbf16>
}
func.func @head(%x: tensor<?x8xbf16>) -> tensor<?x16xf32> {
  %y = nn.linear %x, @embed.weight : tensor<?x8xbf16> -> tensor<?x16xf32>
  return %y : tensor<?x16xf32>
}
