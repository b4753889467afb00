// RUN: peft-opt %s --split-input-file --peft-train-all-parameters --verify-diagnostics

// expected-error @+1 {{'nn.param' op trains already: adapters and full fine-tuning exclude each other}}
nn.param @a : tensor<2x8xf32> {trainable}

// -----

// expected-error @+1 {{the model has no parameter to train}}
module {
}
