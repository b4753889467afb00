// RUN: peft-opt %s --split-input-file --verify-diagnostics

// lora_c1: the projection has the rows of the input.
nn.param @w : tensor<8x6xbf16>
nn.param @a : tensor<2x6xf32>
nn.param @b : tensor<8x2xf32>
func.func @rows(%x: tensor<1x4x6xbf16>) {
  // expected-error @+1 {{projection needs the same leading dimensions, has 'tensor<1x4x6xbf16>' and 'tensor<1x5x2xbf16>'}}
  %y, %t = lora.linear %x, @w a @a b @b {scale = 2.0, module = "q"} : tensor<1x4x6xbf16> -> tensor<1x4x8xbf16>, tensor<1x5x2xbf16>
  return
}

// -----

// lora_c2: with a residual the result is its type.
nn.param @w : tensor<8x6xbf16>
nn.param @a : tensor<2x6xf32>
nn.param @b : tensor<8x2xf32>
func.func @residual(%x: tensor<1x4x6xbf16>, %r: tensor<1x4x8xf32>) {
  // expected-error @+1 {{with a residual of 'tensor<1x4x8xf32>' needs a result of that type, has 'tensor<1x4x8xbf16>'}}
  %y, %t = lora.linear %x, @w a @a b @b residual(%r : tensor<1x4x8xf32>) {scale = 2.0, module = "q"} : tensor<1x4x6xbf16> -> tensor<1x4x8xbf16>, tensor<1x4x2xbf16>
  return
}

// -----

// lora_c3: dropout is a probability below one.
nn.param @w : tensor<8x6xbf16>
nn.param @a : tensor<2x6xf32>
nn.param @b : tensor<8x2xf32>
func.func @dropout(%x: tensor<1x4x6xbf16>) {
  // expected-error @+1 {{dropout 1.000000e+00 must lie in [0, 1)}}
  %y, %t = lora.linear %x, @w a @a b @b {scale = 2.0, dropout = 1.0, module = "q"} : tensor<1x4x6xbf16> -> tensor<1x4x8xbf16>, tensor<1x4x2xbf16>
  return
}

// -----

// lora_c4: A is [rank, in] and B [out, rank].
nn.param @w : tensor<8x6xbf16>
nn.param @a : tensor<2x6xf32>
// expected-note @+1 {{declared here}}
nn.param @b : tensor<2x8xf32>
func.func @factors(%x: tensor<1x4x6xbf16>) {
  // expected-error @+1 {{'lora.linear' op needs @b as tensor<8x2>, found 'tensor<2x8xf32>'}}
  %y, %t = lora.linear %x, @w a @a b @b {scale = 2.0, module = "q"} : tensor<1x4x6xbf16> -> tensor<1x4x8xbf16>, tensor<1x4x2xbf16>
  return
}
