// One bad config a line, and its message below it.
// RUN: not peft-opt %s --peft-attach-adapters='config={{"peft_type": "LORA", "target_modules": ["q_proj", "nothing"]}}' 2>&1 | FileCheck %s --check-prefix=CASE0
// CASE0: error: {{.*}}target_modules: 'nothing' matches no module of the model; its linear modules are down_proj, k_proj, lm_head, q_proj
// RUN: not peft-opt %s --peft-attach-adapters='config={{"peft_type": "LORA", "target_modules": "nothing.*"}}' 2>&1 | FileCheck %s --check-prefix=CASE1
// CASE1: error: {{.*}}target_modules: 'nothing.*' matches no module of the model
// RUN: not peft-opt %s --peft-attach-adapters='config={{"peft_type": "LORA", "target_modules": ".*q_proj|.*nothing"}}' 2>&1 | FileCheck %s --check-prefix=CASE2
// CASE2: error: {{.*}}target_modules: '.*nothing' matches no module of the model
// RUN: not peft-opt %s --peft-attach-adapters='config={{"peft_type": "LORA", "target_modules": ".*(q_proj"}}' 2>&1 | FileCheck %s --check-prefix=CASE3
// CASE3: error: {{.*}}regular expression '.*(q_proj': missing closing parenthesis at offset 9
// RUN: not peft-opt %s --peft-attach-adapters='config={{"peft_type": "LORA", "target_modules": ["q_proj"], "exclude_modules": ["nothing"]}}' 2>&1 | FileCheck %s --check-prefix=CASE4
// CASE4: error: {{.*}}exclude_modules: 'nothing' matches no module of the model
// RUN: not peft-opt %s --peft-attach-adapters='config={{"peft_type": "LORA", "target_modules": ["q_proj"], "exclude_modules": ".*_proj"}}' 2>&1 | FileCheck %s --check-prefix=CASE5
// CASE5: error: {{.*}}every target module (2) is excluded by exclude_modules or modules_to_save
// RUN: not peft-opt %s --peft-attach-adapters='config={{"peft_type": "LORA", "target_modules": ["self_attn"]}}' 2>&1 | FileCheck %s --check-prefix=CASE6
// CASE6: error: {{.*}}target_modules: 'model.layers.0.self_attn' is no linear layer; name the linears inside it
// RUN: not peft-opt %s --peft-attach-adapters='config={{"peft_type": "LORA", "target_modules": ["embed_tokens"]}}' 2>&1 | FileCheck %s --check-prefix=CASE7
// CASE7: error: {{.*}}target_modules: 'model.embed_tokens' is an embedding; adapters on embeddings are not in this version
// RUN: not peft-opt %s --peft-attach-adapters='config={{"peft_type": "LORA", "target_modules": ["q_proj"], "modules_to_save": ["nothing"]}}' 2>&1 | FileCheck %s --check-prefix=CASE8
// CASE8: error: {{.*}}modules_to_save: 'nothing' matches no module of the model
// RUN: not peft-opt %s --peft-attach-adapters='config={{"peft_type": "LORA", "target_modules": ["q_proj", "lm_head"], "modules_to_save": ["head"]}}' 2>&1 | FileCheck %s --check-prefix=CASE9
// CASE9: error: {{.*}}'lm_head' is both in target_modules and in modules_to_save; a module trains one way
// RUN: not peft-opt %s --peft-attach-adapters='config={{"peft_type": "LORA", "target_modules": ["q_proj"], "layers_to_transform": [0, 7]}}' 2>&1 | FileCheck %s --check-prefix=CASE10
// CASE10: error: {{.*}}layers_to_transform: layer 7 has no target module
// RUN: not peft-opt %s --peft-attach-adapters='config={{"peft_type": "LORA", "target_modules": ["q_proj"], "rank_pattern": {"k_proj": 4}}}' 2>&1 | FileCheck %s --check-prefix=CASE11
// CASE11: error: {{.*}}rank_pattern: 'k_proj' matches no adapted module
// RUN: not peft-opt %s --peft-attach-adapters='config={{"peft_type": "LORA", "target_modules": ["q_proj"], "alpha_pattern": {"k_proj": 4}}}' 2>&1 | FileCheck %s --check-prefix=CASE12
// CASE12: error: {{.*}}alpha_pattern: 'k_proj' matches no adapted module
// RUN: not peft-opt %s --peft-attach-adapters='config={{"peft_type": "LORA", "target_modules": ["q_proj"], "rank_pattern": {"q_proj": 4, ".*.q_proj": 2}}}' 2>&1 | FileCheck %s --check-prefix=CASE13
// CASE13: error: {{.*}}rank_pattern: 'q_proj' and '.*.q_proj' both match 'model.layers.0.self_attn.q_proj'; which one wins would change when the config is saved, so make them disjoint
// RUN: not peft-opt %s --peft-attach-adapters='config={{"peft_type": "LORA", "target_modules": ["q_proj"], "lora_bias": true}}' 2>&1 | FileCheck %s --check-prefix=CASE14
// CASE14: error: {{.*}}lora_bias
// RUN: not peft-opt %s --peft-attach-adapters='config={{"peft_type": "LORA", "target_modules": ["q_proj"], "lora_magic": 3}}' 2>&1 | FileCheck %s --check-prefix=CASE15
// CASE15: error: {{.*}}lora_magic
// RUN: not peft-opt %s --peft-attach-adapters='config={{"peft_type": "LORA", "target_modules": ["down_proj"], "bias": "all", "modules_to_save": ["self_attn"]}}' 2>&1 | FileCheck %s --check-prefix=CASE16
// CASE16: error: {{.*}}trains twice: bias is 'all', and modules_to_save contains 'model.layers.0.self_attn.q_proj'; take bias 'none' or 'lora_only'
// RUN: not peft-opt %s --peft-attach-adapters='config={{"peft_type": "LORA", "target_modules": ["q_proj"], "init_lora_weights": "pissa", "use_dora": true}}' 2>&1 | FileCheck %s --check-prefix=CASE17
// CASE17: error: {{.*}}init_lora_weights: pissa with DoRA is not in this version; take one of them
// RUN: not peft-opt %s --peft-attach-adapters='config={{"peft_type": "LORA", "target_modules": ["q_proj"], "init_lora_weights": "olora"}} lora-fa=true' 2>&1 | FileCheck %s --check-prefix=CASE18
// CASE18: error: {{.*}}LoRA-FA with an adapter that starts from the weights is not in this version
// RUN: not peft-opt %s --peft-attach-adapters='config={{"peft_type": "LORA", "target_modules": ["q_proj"], "lora_bias": true}}' 2>&1 | FileCheck %s --check-prefix=CASE19
// CASE19: error: {{.*}}lora_bias: true is not implemented; only adapters without it are trained

module attributes {nn.model = {model_type = "qwen2", name = "tiny", tied = false}} {
  nn.param @model.embed_tokens.weight : tensor<32x8xbf16> {module = "model.embed_tokens"}
  nn.param @model.layers.0.input_layernorm.weight : tensor<8xbf16> {module = "model.layers.0.input_layernorm"}
  nn.param @model.layers.0.self_attn.q_proj.weight : tensor<8x8xbf16> {module = "model.layers.0.self_attn.q_proj"}
  nn.param @model.layers.0.self_attn.q_proj.bias : tensor<8xbf16> {module = "model.layers.0.self_attn.q_proj"}
  nn.param @model.layers.0.self_attn.k_proj.weight : tensor<8x8xbf16> {module = "model.layers.0.self_attn.k_proj"}
  nn.param @model.layers.0.self_attn.k_proj.bias : tensor<8xbf16> {module = "model.layers.0.self_attn.k_proj"}
  nn.param @model.layers.0.mlp.down_proj.weight : tensor<8x8xbf16> {module = "model.layers.0.mlp.down_proj"}
  nn.param @model.layers.1.input_layernorm.weight : tensor<8xbf16> {module = "model.layers.1.input_layernorm"}
  nn.param @model.layers.1.self_attn.q_proj.weight : tensor<8x8xbf16> {module = "model.layers.1.self_attn.q_proj"}
  nn.param @model.layers.1.self_attn.q_proj.bias : tensor<8xbf16> {module = "model.layers.1.self_attn.q_proj"}
  nn.param @model.layers.1.self_attn.k_proj.weight : tensor<8x8xbf16> {module = "model.layers.1.self_attn.k_proj"}
  nn.param @model.layers.1.self_attn.k_proj.bias : tensor<8xbf16> {module = "model.layers.1.self_attn.k_proj"}
  nn.param @model.layers.1.mlp.down_proj.weight : tensor<8x8xbf16> {module = "model.layers.1.mlp.down_proj"}
  nn.param @model.norm.weight : tensor<8xbf16> {module = "model.norm"}
  nn.param @lm_head.weight : tensor<32x8xbf16> {module = "lm_head"}
  func.func @body(%ids: tensor<?x?xi32>, %positions: tensor<?x?xi32>, %segments: tensor<?x?xi32>) -> tensor<?x?x8xf32> {
    %h = nn.embed %ids, @model.embed_tokens.weight : tensor<?x?xi32> -> tensor<?x?x8xf32>
    %n0, %r0 = nn.rms_norm %h, @model.layers.0.input_layernorm.weight {epsilon = 0.5} : tensor<?x?x8xf32> -> tensor<?x?x8xf32>, tensor<?x?x1xf32>
    %q0 = nn.linear %n0, @model.layers.0.self_attn.q_proj.weight bias @model.layers.0.self_attn.q_proj.bias : tensor<?x?x8xf32> -> tensor<?x?x8xf32>
    %k0 = nn.linear %q0, @model.layers.0.self_attn.k_proj.weight bias @model.layers.0.self_attn.k_proj.bias : tensor<?x?x8xf32> -> tensor<?x?x8xf32>
    %h0 = nn.linear %k0, @model.layers.0.mlp.down_proj.weight residual(%h : tensor<?x?x8xf32>) : tensor<?x?x8xf32> -> tensor<?x?x8xf32>
    %n1, %r1 = nn.rms_norm %h0, @model.layers.1.input_layernorm.weight {epsilon = 0.5} : tensor<?x?x8xf32> -> tensor<?x?x8xf32>, tensor<?x?x1xf32>
    %q1 = nn.linear %n1, @model.layers.1.self_attn.q_proj.weight bias @model.layers.1.self_attn.q_proj.bias : tensor<?x?x8xf32> -> tensor<?x?x8xf32>
    %k1 = nn.linear %q1, @model.layers.1.self_attn.k_proj.weight bias @model.layers.1.self_attn.k_proj.bias : tensor<?x?x8xf32> -> tensor<?x?x8xf32>
    %h1 = nn.linear %k1, @model.layers.1.mlp.down_proj.weight residual(%h0 : tensor<?x?x8xf32>) : tensor<?x?x8xf32> -> tensor<?x?x8xf32>
    %y, %r = nn.rms_norm %h1, @model.norm.weight {epsilon = 0.5} : tensor<?x?x8xf32> -> tensor<?x?x8xf32>, tensor<?x?x1xf32>
    return %y : tensor<?x?x8xf32>
  }
  func.func @head(%rows: tensor<?x8xf32>) -> tensor<?x32xf32> {
    %logits = nn.linear %rows, @lm_head.weight : tensor<?x8xf32> -> tensor<?x32xf32>
    return %logits : tensor<?x32xf32>
  }
}
