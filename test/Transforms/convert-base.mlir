// RUN: peft-opt %s --peft-convert-base="type=bf16" | FileCheck %s
// RUN: peft-opt %s --peft-convert-base="type=bf16" --peft-convert-base="type=f32" | FileCheck %s --check-prefix=TWICE

// A frozen weight gets the type; what its file has is remembered, however often
// it changes.
// CHECK: nn.param @w : tensor<4x8xbf16> {sourceType = f32}
// TWICE: nn.param @w : tensor<4x8xf32> {sourceType = f32}
nn.param @w : tensor<4x8xf32>
// CHECK: nn.param @h : tensor<4x8xbf16> {sourceType = f16}
// TWICE: nn.param @h : tensor<4x8xf32> {sourceType = f16}
nn.param @h : tensor<4x8xf16>

// It has the type already.
// CHECK: nn.param @norm : tensor<8xbf16>{{$}}
// TWICE: nn.param @norm : tensor<8xf32> {sourceType = bf16}
nn.param @norm : tensor<8xbf16>

// Masters stay f32.
// CHECK: nn.param @a : tensor<2x8xf32> {init = "zeros", trainable}
// TWICE: nn.param @a : tensor<2x8xf32> {init = "zeros", trainable}
nn.param @a : tensor<2x8xf32> {trainable, init = "zeros"}
