// RUN: peft-opt %s --split-input-file --verify-diagnostics

// expected-error@+1 {{block must be between 1 and 2147483647 elements, is 0}}
nn.param @w : tensor<4x8x!qw.nf4<block = 0>>

// -----
// expected-error@+1 {{nested must be between 0 (none) and 2147483647 scales, is -1}}
nn.param @w : tensor<4x8x!qw.fp4<block = 64, nested = -1>>

// -----
// expected-error@+1 {{needs two dimensions to be quantized}}
nn.param @w : tensor<8x!qw.nf4<block = 64>>

// -----
// expected-error@+1 {{cannot train: only stored weights are quantized}}
nn.param @w : tensor<8x8x!qw.int8> {trainable}
