// RUN: peft-opt %s --peft-train-all-parameters | FileCheck %s


// f32 masters that remember how they are stored; vectors do not decay.
// CHECK: nn.param @model.embed_tokens.weight : tensor<32x8xf32> {module = "model.embed_tokens", paddingIdx = 3 : i64, sourceType = bf16, trainable}
nn.param @model.embed_tokens.weight : tensor<32x8xbf16> {module = "model.embed_tokens", paddingIdx = 3}
// CHECK: nn.param @model.norm.weight : tensor<8xf32> {noDecay, sourceType = f16, trainable}
nn.param @model.norm.weight : tensor<8xf16>
// CHECK: nn.param @q_proj.bias : tensor<8xf32> {noDecay, sourceType = f32, trainable}
nn.param @q_proj.bias : tensor<8xf32>
