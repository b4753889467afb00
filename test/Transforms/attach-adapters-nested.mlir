// RUN: peft-opt %s --peft-attach-adapters='config={{"peft_type": "LORA", "target_modules": ["q_proj"]}}' 2>/dev/null | FileCheck %s
// RUN: peft-opt %s --peft-attach-adapters='config={{"peft_type": "LORA", "target_modules": ".*q_proj"}}' 2>/dev/null | FileCheck %s
// RUN: peft-opt %s --peft-attach-adapters='config={{"peft_type": "LORA", "target_modules": "all-linear"}}' 2>/dev/null | FileCheck %s
// RUN: peft-opt %s --peft-attach-adapters='config={{"peft_type": "LORA", "target_modules": ["q_proj"], "layers_to_transform": [0]}}' 2>/dev/null | FileCheck %s --check-prefix=LAYER

// PEFT would take q_proj of the vision tower for a short name, too: the config
// of an adapter of a nested text model has the paths of its modules.
// CHECK: nn.adapter_config = "{{.*}}\22target_modules\22: [\0A    \22model.language_model.layers.0.self_attn.q_proj\22,\0A    \22model.language_model.layers.1.self_attn.q_proj\22\0A  ]
// LAYER: nn.adapter_config = "{{.*}}\22target_modules\22: [\0A    \22model.language_model.layers.0.self_attn.q_proj\22\0A  ]

module attributes {nn.model = {model_type = "gemma3", name = "tiny", tied = true}} {
  nn.param @model.language_model.embed_tokens.weight : tensor<32x8xbf16> {module = "model.language_model.embed_tokens"}
  nn.param @model.language_model.layers.0.self_attn.q_proj.weight : tensor<8x8xbf16> {module = "model.language_model.layers.0.self_attn.q_proj"}
  nn.param @model.language_model.layers.1.self_attn.q_proj.weight : tensor<8x8xbf16> {module = "model.language_model.layers.1.self_attn.q_proj"}
  func.func @body(%ids: tensor<?x?xi32>, %positions: tensor<?x?xi32>, %segments: tensor<?x?xi32>) -> tensor<?x?x8xf32> {
    %h = nn.embed %ids, @model.language_model.embed_tokens.weight : tensor<?x?xi32> -> tensor<?x?x8xf32>
    %q0 = nn.linear %h, @model.language_model.layers.0.self_attn.q_proj.weight : tensor<?x?x8xf32> -> tensor<?x?x8xf32>
    %q1 = nn.linear %q0, @model.language_model.layers.1.self_attn.q_proj.weight : tensor<?x?x8xf32> -> tensor<?x?x8xf32>
    return %q1 : tensor<?x?x8xf32>
  }
  func.func @head(%rows: tensor<?x8xf32>) -> tensor<?x32xf32> {
    %logits = nn.linear %rows, @model.language_model.embed_tokens.weight : tensor<?x8xf32> -> tensor<?x32xf32>
    return %logits : tensor<?x32xf32>
  }
}
