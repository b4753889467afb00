// RUN: split-file %s %t
// RUN: not peft-opt %t/one.mlir --peft-quantize-base="type=bf16" 2>&1 | FileCheck %s --check-prefix=TYPE
// RUN: not peft-opt %t/one.mlir --peft-quantize-base="type=int8 nested" 2>&1 | FileCheck %s --check-prefix=NESTED
// RUN: not peft-opt %t/one.mlir --peft-quantize-base="type=nf4 block=0" 2>&1 | FileCheck %s --check-prefix=BLOCK
// RUN: not peft-opt %t/one.mlir --peft-quantize-base="type=nf4 include=nothing" 2>&1 | FileCheck %s --check-prefix=NOTHING
// RUN: not peft-opt %t/one.mlir --peft-quantize-base="type=nf4 exclude=(" 2>&1 | FileCheck %s --check-prefix=REGEX
// RUN: not peft-opt %t/stored.mlir --peft-quantize-base="type=nf4" 2>&1 | FileCheck %s --check-prefix=STORED
// RUN: peft-opt %t/stored.mlir --peft-quantize-base="type=fp4" | FileCheck %s --check-prefix=SAME
// RUN: not peft-opt %t/stored.mlir --peft-convert-base="type=bf16" 2>&1 | FileCheck %s --check-prefix=CONVERT
// RUN: not peft-opt %t/stored.mlir --peft-train-all-parameters 2>&1 | FileCheck %s --check-prefix=TRAIN

// TYPE: error: type 'bf16' is none of nf4, fp4, int8
// NESTED: error: int8 has one scale per row
// BLOCK: error: a block of 0 elements is not between 1 and 2147483647
// NOTHING: error: no frozen weight was chosen to be stored as nf4: check --quantize-include
// REGEX: error: {{.*}}(
// STORED: error: is stored as fp4 in blocks of 64, asked for is nf4 in blocks of 64: codes cannot be turned into other codes
// SAME: nn.param @q.weight : tensor<8x8x!qw.fp4<block = 64>>{{$}}
// CONVERT: error: is stored as fp4 in blocks of 64, which is not turned into bf16
// TRAIN: error: is stored as fp4 in blocks of 64 and cannot train

//--- one.mlir
nn.param @q.weight : tensor<8x8xbf16>
func.func @body(%x: tensor<1x2x8xbf16>) -> tensor<1x2x8xbf16> {
  %y = nn.linear %x, @q.weight : tensor<1x2x8xbf16> -> tensor<1x2x8xbf16>
  return %y : tensor<1x2x8xbf16>
}

//--- stored.mlir
nn.param @q.weight : tensor<8x8x!qw.fp4<block = 64>>
func.func @body(%x: tensor<1x2x8xbf16>) -> tensor<1x2x8xbf16> {
  %y = nn.linear %x, @q.weight : tensor<1x2x8xbf16> -> tensor<1x2x8xbf16>
  return %y : tensor<1x2x8xbf16>
}
