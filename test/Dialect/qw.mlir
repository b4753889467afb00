// RUN: peft-opt %s | peft-opt | FileCheck %s

// Without nested scales the number is not written.
// CHECK: nn.param @q : tensor<4x100x!qw.nf4<block = 64>>
nn.param @q : tensor<4x100x!qw.nf4<block = 64>>
// CHECK: nn.param @k : tensor<4x100x!qw.nf4<block = 64, nested = 256>>
nn.param @k : tensor<4x100x!qw.nf4<block = 64, nested = 256>>
// CHECK: nn.param @v : tensor<4x100x!qw.fp4<block = 128, nested = 256>>
nn.param @v : tensor<4x100x!qw.fp4<block = 128, nested = 256>>
// CHECK: nn.param @o : tensor<4x100x!qw.int8>
nn.param @o : tensor<4x100x!qw.int8>

// What looks at shapes alone works on them unchanged.
// CHECK: nn.linear %{{.*}}, @q : tensor<1x2x100xbf16> -> tensor<1x2x4xbf16>
func.func @body(%x: tensor<1x2x100xbf16>) -> tensor<1x2x4xbf16> {
  %y = nn.linear %x, @q : tensor<1x2x100xbf16> -> tensor<1x2x4xbf16>
  return %y : tensor<1x2x4xbf16>
}
