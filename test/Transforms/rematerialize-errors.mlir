// RUN: peft-opt %s --split-input-file --peft-rematerialize --verify-diagnostics

nn.param @table : tensor<16x8xbf16>
func.func @not_a_list(%ids: tensor<1x4xi32>) {
  // expected-error @+1 {{nn.not_kept is true, needed are result numbers as array<i64: 0>}}
  %x = nn.embed %ids, @table {nn.not_kept = true} : tensor<1x4xi32> -> tensor<1x4x8xf32>
  return
}

// -----

nn.param @table : tensor<16x8xbf16>
func.func @no_such_result(%ids: tensor<1x4xi32>) {
  // expected-error @+1 {{nn.not_kept names result 1, the op has 1}}
  %x = nn.embed %ids, @table {nn.not_kept = array<i64: 1>} : tensor<1x4xi32> -> tensor<1x4x8xf32>
  return
}

// -----

func.func @backward() {
  // expected-error @+1 {{is no op of the forward pass: its results cannot be recomputed in backward}}
  %z = nn.zeros {nn.not_kept = array<i64: 0>} : tensor<1x4x8xf32>
  return
}
