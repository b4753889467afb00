// With a tied head neither side trains alone.
// RUN: not peft-opt %s --peft-attach-adapters='config={{"peft_type": "LORA", "target_modules": ["q_proj"], "modules_to_save": ["embed_tokens"]}}' 2>&1 | FileCheck %s --check-prefix=CASE0
// CASE0: error: {{.*}}modules_to_save: 'model.embed_tokens' is one side of the tied embedding (tie_word_embeddings); training one side would untie them, so leave it out or train everything (--train all)
// RUN: not peft-opt %s --peft-attach-adapters='config={{"peft_type": "LORA", "target_modules": ["q_proj"], "modules_to_save": ["lm_head"]}}' 2>&1 | FileCheck %s --check-prefix=CASE1
// CASE1: error: {{.*}}modules_to_save: 'lm_head' is one side of the tied embedding
// RUN: not peft-opt %s --peft-attach-adapters='config={{"peft_type": "LORA", "target_modules": ["q_proj", "lm_head"]}}' 2>&1 | FileCheck %s --check-prefix=CASE2
// CASE2: error: {{.*}}target_modules: 'lm_head' is one side of the tied embedding
// RUN: not peft-opt %s --peft-train-all-parameters --peft-attach-adapters='config={{"peft_type": "LORA"}}' 2>&1 | FileCheck %s --check-prefix=ALL
// ALL: error: 'nn.param' op trains already: adapters and full fine-tuning exclude each other
// RUN: peft-opt %s --peft-attach-adapters='config={{"peft_type": "LORA", "target_modules": "all-linear"}}' | FileCheck %s --check-prefix=FINE
// FINE: lora.linear
// FINE: nn.linear %{{.*}}, @model.embed_tokens.weight

module attributes {nn.model = {model_type = "qwen2", name = "tiny", tied = true}} {
  nn.param @model.embed_tokens.weight : tensor<32x8xbf16> {module = "model.embed_tokens"}
  nn.param @model.layers.0.input_layernorm.weight : tensor<8xbf16> {module = "model.layers.0.input_layernorm"}
  nn.param @model.layers.0.self_attn.q_proj.weight : tensor<8x8xbf16> {module = "model.layers.0.self_attn.q_proj"}
  nn.param @model.layers.0.self_attn.q_proj.bias : tensor<8xbf16> {module = "model.layers.0.self_attn.q_proj"}
  nn.param @model.layers.0.self_attn.k_proj.weight : tensor<8x8xbf16> {module = "model.layers.0.self_attn.k_proj"}
  nn.param @model.layers.0.self_attn.k_proj.bias : tensor<8xbf16> {module = "model.layers.0.self_attn.k_proj"}
  nn.param @model.layers.0.mlp.down_proj.weight : tensor<8x8xbf16> {module = "model.layers.0.mlp.down_proj"}
  nn.param @model.norm.weight : tensor<8xbf16> {module = "model.norm"}
  func.func @body(%ids: tensor<?x?xi32>, %positions: tensor<?x?xi32>, %segments: tensor<?x?xi32>) -> tensor<?x?x8xf32> {
    %h = nn.embed %ids, @model.embed_tokens.weight : tensor<?x?xi32> -> tensor<?x?x8xf32>
    %n0, %r0 = nn.rms_norm %h, @model.layers.0.input_layernorm.weight {epsilon = 0.5} : tensor<?x?x8xf32> -> tensor<?x?x8xf32>, tensor<?x?x1xf32>
    %q0 = nn.linear %n0, @model.layers.0.self_attn.q_proj.weight bias @model.layers.0.self_attn.q_proj.bias : tensor<?x?x8xf32> -> tensor<?x?x8xf32>
    %k0 = nn.linear %q0, @model.layers.0.self_attn.k_proj.weight bias @model.layers.0.self_attn.k_proj.bias : tensor<?x?x8xf32> -> tensor<?x?x8xf32>
    %h0 = nn.linear %k0, @model.layers.0.mlp.down_proj.weight residual(%h : tensor<?x?x8xf32>) : tensor<?x?x8xf32> -> tensor<?x?x8xf32>
    %y, %r = nn.rms_norm %h0, @model.norm.weight {epsilon = 0.5} : tensor<?x?x8xf32> -> tensor<?x?x8xf32>, tensor<?x?x1xf32>
    return %y : tensor<?x?x8xf32>
  }
  func.func @head(%rows: tensor<?x8xf32>) -> tensor<?x32xf32> {
    %logits = nn.linear %rows, @model.embed_tokens.weight : tensor<?x8xf32> -> tensor<?x32xf32>
    return %logits : tensor<?x32xf32>
  }
}
