// RUN: peft-opt %s --split-input-file --peft-convert-to-plan --verify-diagnostics

// expected-error @+1 {{needs the attributes nn.model, nn.batch, nn.seq and nn.compute; run the import and peft-specialize-model first}}
module {
}

// -----

module attributes {nn.model = {}, nn.batch = 1 : i64, nn.seq = 4 : i64, nn.compute = bf16} {
  // expected-error @+1 {{is frozen, but not stored in the model}}
  nn.param @w : tensor<4x8xf32> {init = "zeros"}
}

// -----

module attributes {nn.model = {}, nn.batch = 1 : i64, nn.seq = 4 : i64, nn.compute = bf16} {
  nn.state @loss_sum : tensor<1xf64> {role = "sum"}
  nn.state @tokens : tensor<1xi64> {role = "sum"}
  nn.state @norm_square : tensor<1xf64> {role = "counter"}
  // expected-error @+1 {{argument 0 is no port of a plan}}
  func.func @update(%x: tensor<4xi32>) { return }
}

// -----

module attributes {nn.model = {}, nn.batch = 1 : i64, nn.seq = 4 : i64, nn.compute = bf16} {
  nn.state @loss_sum : tensor<1xf64> {role = "sum"}
  nn.state @tokens : tensor<1xi64> {role = "sum"}
  nn.state @norm_square : tensor<1xf64> {role = "counter"}
  func.func @update(%x: tensor<4xi32> {nn.port = "x"}) {
    // expected-error @+1 {{has no kernel: it cannot be in a step}}
    %y = builtin.unrealized_conversion_cast %x : tensor<4xi32> to tensor<4xf32>
    return
  }
}

// -----

// A kernel that cannot serve an op is named with what does not fit.
module attributes {nn.model = {}, nn.batch = 1 : i64, nn.seq = 4 : i64, nn.compute = bf16} {
  nn.state @loss_sum : tensor<1xf64> {role = "sum"}
  nn.state @tokens : tensor<1xi64> {role = "sum"}
  nn.state @norm_square : tensor<1xf64> {role = "counter"}
  func.func @micro_step(%ids: tensor<1x4xi32> {nn.port = "input_ids"}) {
    %a = nn.zeros : tensor<4x8xf32>
    %b = nn.zeros : tensor<4x6xf32>
    // expected-error @+1 {{kernel 'add_fwd' cannot serve this op}}
    %c = nn.add %a, %b : tensor<4x8xf32>, tensor<4x6xf32> -> tensor<4x8xf32>
    return
  }
}

// -----

// So is an attribute outside the kernel's range.
module attributes {nn.model = {}, nn.batch = 1 : i64, nn.seq = 4 : i64, nn.compute = bf16} {
  nn.state @loss_sum : tensor<1xf64> {role = "sum"}
  nn.state @tokens : tensor<1xi64> {role = "sum"}
  nn.state @norm_square : tensor<1xf64> {role = "counter"}
  func.func @micro_step(%positions: tensor<1x4xi32> {nn.port = "position_ids"}) {
    // expected-error @+1 {{kernel 'rope_table' cannot serve this op: attribute 'attention_factor' is 2000000.000000, allowed is 0.000000 to 1000000.000000}}
    %t = nn.rope_table %positions {invFreq = array<f32: 1.0, 0.5>, attentionFactor = 2.0e6 : f64} : tensor<1x4xi32> -> tensor<1x4x4xf32>
    return
  }
}

// -----

// expected-error @+1 {{needs the state @loss_sum; run peft-differentiate first}}
module attributes {nn.model = {}, nn.batch = 1 : i64, nn.seq = 4 : i64, nn.compute = bf16} {
}

// -----

module attributes {nn.model = {}, nn.batch = 1 : i64, nn.seq = 4 : i64, nn.compute = bf16} {
  nn.state @loss_sum : tensor<1xf64> {role = "sum"}
  nn.state @tokens : tensor<1xi64> {role = "sum"}
  nn.state @norm_square : tensor<1xf64> {role = "counter"}
  // expected-error @+1 {{is trainable, but has no gradient or no moments; run peft-differentiate first}}
  nn.param @w : tensor<4x8xf32> {trainable}
}
