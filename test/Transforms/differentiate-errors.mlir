// RUN: peft-opt %s --split-input-file --peft-differentiate --verify-diagnostics

// expected-error @+1 {{needs the functions @body and @head of a model, found no @head}}
module {
  func.func @body() { return }
}

// -----

module {
  // expected-error @+1 {{must have one block, found 0}}
  func.func private @body()
  func.func @head() { return }
}

// -----

module {
  // expected-error @+1 {{must take ids, positions and segments and give one result}}
  func.func @body() { return }
  func.func @head() { return }
}

// -----

module {
  // expected-error @+1 {{needs static shapes, found}}
  func.func @body(%ids: tensor<?x?xi32>, %positions: tensor<?x?xi32>, %segments: tensor<?x?xi32>) -> tensor<?x?x8xf32> {
    %x = nn.embed %ids, @e : tensor<?x?xi32> -> tensor<?x?x8xf32>
    return %x : tensor<?x?x8xf32>
  }
  func.func @head(%x: tensor<?x8xf32>) -> tensor<?x16xf32> {
    %y = nn.linear %x, @e : tensor<?x8xf32> -> tensor<?x16xf32>
    return %y : tensor<?x16xf32>
  }
  nn.param @e : tensor<16x8xf32> {trainable}
}

// -----

// expected-error @+1 {{has no trainable parameter: attach an adapter or train all parameters first}}
module {
  nn.param @e : tensor<16x8xf32>
  func.func @body(%ids: tensor<1x4xi32>, %positions: tensor<1x4xi32>, %segments: tensor<1x4xi32>) -> tensor<1x4x8xf32> {
    %x = nn.embed %ids, @e : tensor<1x4xi32> -> tensor<1x4x8xf32>
    return %x : tensor<1x4x8xf32>
  }
  func.func @head(%x: tensor<?x8xf32>) -> tensor<?x16xf32> {
    %y = nn.linear %x, @e : tensor<?x8xf32> -> tensor<?x16xf32>
    return %y : tensor<?x16xf32>
  }
}

// -----

module {
  nn.param @e : tensor<16x8xf32> {trainable}
  // expected-error @+1 {{is trainable, but nothing reads it}}
  nn.param @lost : tensor<8xf32> {trainable}
  func.func @body(%ids: tensor<1x4xi32>, %positions: tensor<1x4xi32>, %segments: tensor<1x4xi32>) -> tensor<1x4x8xf32> {
    %x = nn.embed %ids, @e : tensor<1x4xi32> -> tensor<1x4x8xf32>
    return %x : tensor<1x4x8xf32>
  }
  func.func @head(%x: tensor<?x8xf32>) -> tensor<?x16xf32> {
    %y = nn.linear %x, @e : tensor<?x8xf32> -> tensor<?x16xf32>
    return %y : tensor<?x16xf32>
  }
}

// -----

module {
  nn.param @e : tensor<16x8xf32> {trainable}
  func.func @body(%ids: tensor<1x4xi32>, %positions: tensor<1x4xi32>, %segments: tensor<1x4xi32>) -> tensor<1x4x8xbf16> {
    %x = nn.embed %ids, @e : tensor<1x4xi32> -> tensor<1x4x8xf32>
    // expected-error @+1 {{has no backward rule; ops of @body and @head must be Differentiable}}
    %y = nn.cast %x : tensor<1x4x8xf32> -> tensor<1x4x8xbf16>
    return %y : tensor<1x4x8xbf16>
  }
  func.func @head(%x: tensor<?x8xbf16>) -> tensor<?x16xf32> {
    %y = nn.linear %x, @e : tensor<?x8xbf16> -> tensor<?x16xf32>
    return %y : tensor<?x16xf32>
  }
}
