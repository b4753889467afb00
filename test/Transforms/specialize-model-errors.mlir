// RUN: not peft-opt %s --split-input-file --peft-specialize-model="batch=0" 2>&1 | FileCheck %s --check-prefix=BATCH
// RUN: not peft-opt %s --split-input-file --peft-specialize-model="batch=65536 seq=65536" 2>&1 | FileCheck %s --check-prefix=TOKENS
// RUN: not peft-opt %s --split-input-file --peft-specialize-model="compute=f64" 2>&1 | FileCheck %s --check-prefix=COMPUTE
// RUN: peft-opt %s --split-input-file --peft-specialize-model --verify-diagnostics

// BATCH: error: batch and seq must be at least 1, are 0 and 2048
// TOKENS: error: batch 65536 x seq 65536 is more than 2147483647 tokens; take a smaller micro-batch
// COMPUTE: error: compute type 'f64' is not supported: take bf16, f16 or f32

// expected-error @+1 {{needs a function 'body', as an imported model has}}
module {
}

// -----

// expected-error @+1 {{needs a function 'head', as an imported model has}}
module {
  func.func @body(%ids: tensor<?x?xi32>, %positions: tensor<?x?xi32>, %segments: tensor<?x?xi32>) {
    return
  }
}

// -----

// expected-error @+1 {{the model is specialized already}}
module attributes {nn.batch = 1 : i64} {
}

// -----

module {
  // expected-error @+1 {{'body' has 1 arguments, needs 3}}
  func.func @body(%ids: tensor<?x?xi32>) {
    return
  }
}

// -----

module {
  func.func @body(%ids: tensor<?x?xi32>, %positions: tensor<?x?xi32>, %segments: tensor<?x?xi32>) {
    // expected-error @+1 {{'nn.zeros' op cannot be specialized: only forward ops of an imported model can}}
    %z = nn.zeros : tensor<2x8xf32>
    return
  }
}
