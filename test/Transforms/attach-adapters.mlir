// RUN: peft-opt %s --peft-attach-adapters='config={{"peft_type": "LORA", "r": 2, "lora_alpha": 4, "lora_dropout": 0.5, "target_modules": ["q_proj"]}}' 2>&1 | FileCheck %s --check-prefix=LIST
// RUN: not peft-opt %s --peft-attach-adapters='config={{"peft_type": "LORA", "target_modules": null}}' 2>&1 | FileCheck %s --check-prefix=DEFAULTS
// RUN: peft-opt %s --peft-attach-adapters='config={{"peft_type": "LORA", "r": 4, "target_modules": "all-linear", "exclude_modules": ["layers.1.mlp.down_proj"]}}' 2>&1 | FileCheck %s --check-prefix=ALL
// RUN: peft-opt %s --peft-attach-adapters='config={{"peft_type": "LORA", "target_modules": ".*\\.(?:0|1)\\.self_attn\\.[qk]_proj"}}' 2>&1 | FileCheck %s --check-prefix=REGEX
// RUN: peft-opt %s --peft-attach-adapters='config={{"peft_type": "LORA", "target_modules": "(?i).*\\.Q_PROJ|.*\\.[]|K]_PROJ"}}' 2>&1 | FileCheck %s --check-prefix=REGEX
// RUN: peft-opt %s --peft-attach-adapters='config={{"peft_type": "LORA", "target_modules": ["q_proj"], "layers_to_transform": [1]}}' 2>&1 | FileCheck %s --check-prefix=LAYERS
// RUN: peft-opt %s --peft-attach-adapters='config={{"peft_type": "LORA", "r": 2, "lora_alpha": 8, "target_modules": ["q_proj", "down_proj"], "rank_pattern": {"layers.1.mlp.down_proj": 4}, "alpha_pattern": {"self_attn.q_proj": 2}, "use_rslora": true}}' 2>&1 | FileCheck %s --check-prefix=PATTERNS
// RUN: peft-opt %s --peft-attach-adapters='config={{"peft_type": "LORA", "target_modules": ["q_proj"], "bias": "all"}}' 2>&1 | FileCheck %s --check-prefix=BIAS
// RUN: peft-opt %s --peft-attach-adapters='config={{"peft_type": "LORA", "target_modules": ["q_proj"], "bias": "lora_only"}}' 2>&1 | FileCheck %s --check-prefix=ONLY
// RUN: peft-opt %s --peft-attach-adapters='config={{"peft_type": "LORA", "target_modules": ["q_proj", "k_proj"], "modules_to_save": ["lm_head", "norm", "layers.0.self_attn"]}}' 2>&1 | FileCheck %s --check-prefix=SAVE
// RUN: peft-opt %s --peft-attach-adapters='config={{"peft_type": "LORA", "target_modules": ["q_proj", "lm_head"], "init_lora_weights": "gaussian", "r": 4}}' 2>&1 | FileCheck %s --check-prefix=GAUSSIAN
// RUN: peft-opt %s --peft-attach-adapters='config={{"peft_type": "LORA", "target_modules": ["q_proj"], "init_lora_weights": false}}' 2>&1 | FileCheck %s --check-prefix=RANDOM

// RUN: peft-opt %s --peft-attach-adapters='config={{"peft_type": "LORA", "target_modules": ["q_proj"], "bias": "all"}} lora-plus-ratio=16 lora-fa=true' 2>&1 | FileCheck %s --check-prefix=TRAINED
// RUN: peft-opt %s --peft-attach-adapters='config={{"peft_type": "LORA", "r": 2, "target_modules": ["q_proj"], "init_lora_weights": "pissa"}}' 2>&1 | FileCheck %s --check-prefix=PISSA
// RUN: peft-opt %s --peft-attach-adapters='config={{"peft_type": "LORA", "r": 2, "target_modules": ["q_proj"], "use_dora": true, "lora_dropout": 0.5}}' 2>&1 | FileCheck %s --check-prefix=DORA

// A list names a module by its whole path or its end; only those change.
// LIST: remark: {{.*}}2 x q_proj [8 -> 8] rank 2: 64 parameters
// LIST: remark: {{.*}}2 modules adapted; 64 of 1,016 parameters train (6.2992 %)
// LIST: nn.adapter_config = "{{.*}}\22target_modules\22: [\0A    \22q_proj\22\0A  ]
// LIST: nn.param @model.layers.0.self_attn.q_proj.weight : tensor<8x8xbf16> {module = "model.layers.0.self_attn.q_proj"}
// LIST: nn.param @base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight : tensor<2x8xf32> {init = "kaiming_uniform", module = "model.layers.0.self_attn.q_proj", trainable, zeroGradientAtStart}
// LIST-NEXT: nn.param @base_model.model.model.layers.0.self_attn.q_proj.lora_B.weight : tensor<8x2xf32> {init = "zeros", module = "model.layers.0.self_attn.q_proj", trainable}
// LIST: lora.linear %{{.*}}, @model.layers.0.self_attn.q_proj.weight bias @model.layers.0.self_attn.q_proj.bias a @base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight b @base_model.model.model.layers.0.self_attn.q_proj.lora_B.weight {dropout = 5.000000e-01 : f64, module = "model.layers.0.self_attn.q_proj", scale = 2.000000e+00 : f64} : tensor<?x?x8xf32> -> tensor<?x?x8xf32>, tensor<?x?x2xf32>
// LIST: nn.linear %{{.*}}, @model.layers.0.self_attn.k_proj.weight
// LIST: lora.linear %{{.*}}, @model.layers.1.self_attn.q_proj.weight
// LIST: nn.linear %{{.*}}, @lm_head.weight

// Without target_modules PEFT has a default for each family: q_proj, v_proj.
// DEFAULTS: error: {{.*}}target_modules: 'v_proj' matches no module of the model

// all-linear leaves the head out, and is written as the names it stands for.
// ALL: remark: {{.*}}2 x q_proj [8 -> 8] rank 4
// ALL: remark: {{.*}}2 x k_proj [8 -> 8] rank 4
// ALL: remark: {{.*}}1 x down_proj [8 -> 8] rank 4
// ALL: remark: {{.*}}1 module excluded: model.layers.1.mlp.down_proj
// ALL: \22target_modules\22: [\0A    \22down_proj\22,\0A    \22k_proj\22,\0A    \22q_proj\22\0A  ]
// ALL-SAME: nn.adapter_excluded = ["model.layers.1.mlp.down_proj"]
// ALL: lora.linear %{{.*}}, @model.layers.0.mlp.down_proj.weight {{.*}} residual(
// ALL: nn.linear %{{.*}}, @model.layers.1.mlp.down_proj.weight
// ALL: nn.linear %{{.*}}, @lm_head.weight

// REGEX: 2 x q_proj
// REGEX: 2 x k_proj
// REGEX: 4 modules adapted

// LAYERS: 1 x q_proj
// LAYERS: 1 module adapted
// LAYERS: nn.linear %{{.*}}, @model.layers.0.self_attn.q_proj.weight
// LAYERS: lora.linear %{{.*}}, @model.layers.1.self_attn.q_proj.weight

// The scale is alpha / sqrt(rank) with the module's own alpha and rank.
// PATTERNS: lora.linear %{{.*}}, @model.layers.0.self_attn.q_proj.weight {{.*}} scale = 1.4142135623730949 : f64} {{.*}} tensor<?x?x2xf32>
// PATTERNS: lora.linear %{{.*}}, @model.layers.0.mlp.down_proj.weight {{.*}} scale = 5.65685424949{{.*}} tensor<?x?x2xf32>
// PATTERNS: lora.linear %{{.*}}, @model.layers.1.self_attn.q_proj.weight {{.*}} scale = 1.41
// PATTERNS: lora.linear %{{.*}}, @model.layers.1.mlp.down_proj.weight {{.*}} scale = 4.000000e+00 : f64} {{.*}} tensor<?x?x4xf32>

// PEFT calls the linear inside an adapted module base_layer.
// BIAS: nn.param @model.layers.0.self_attn.q_proj.bias : tensor<8xf32> {module = "model.layers.0.self_attn.q_proj", noDecay, savedName = "base_model.model.model.layers.0.self_attn.q_proj.base_layer.bias", sourceType = bf16, trainable}
// BIAS: nn.param @model.layers.0.self_attn.k_proj.bias : tensor<8xf32> {module = "model.layers.0.self_attn.k_proj", noDecay, savedName = "base_model.model.model.layers.0.self_attn.k_proj.bias", sourceType = bf16, trainable}
// ONLY: nn.param @model.layers.0.self_attn.q_proj.bias : tensor<8xf32> {{.*}} trainable
// ONLY: nn.param @model.layers.0.self_attn.k_proj.bias : tensor<8xbf16> {module = "model.layers.0.self_attn.k_proj"}

// modules_to_save takes every path with that end (input_layernorm, too), with
// all parameters below it, and no adapter inside it.
// SAVE: remark: {{.*}}1 x q_proj
// SAVE: remark: {{.*}}1 x k_proj
// SAVE: remark: {{.*}}8 tensors of the model train (model.layers.0.input_layernorm.weight, ...)
// SAVE: remark: {{.*}}2 modules excluded: model.layers.0.self_attn.q_proj, model.layers.0.self_attn.k_proj
// SAVE: nn.param @model.layers.0.input_layernorm.weight : tensor<8xf32> {module = "model.layers.0.input_layernorm", noDecay, savedName = "base_model.model.model.layers.0.input_layernorm.weight", sourceType = bf16, trainable}
// SAVE: nn.param @model.layers.0.self_attn.q_proj.weight : tensor<8x8xf32> {module = "model.layers.0.self_attn.q_proj", savedName = "base_model.model.model.layers.0.self_attn.q_proj.weight", sourceType = bf16, trainable}
// SAVE: nn.param @model.layers.0.mlp.down_proj.weight : tensor<8x8xbf16>
// SAVE: nn.param @model.norm.weight : tensor<8xf32>
// SAVE: nn.param @lm_head.weight : tensor<32x8xf32>

// GAUSSIAN: nn.param @base_model.model.lm_head.lora_A.weight : tensor<4x8xf32> {init = "gaussian", module = "lm_head", stddev = 2.500000e-01 : f64, trainable, zeroGradientAtStart}
// GAUSSIAN: lora.linear %{{.*}}, @lm_head.weight {{.*}}module = "lm_head"

// PEFT's init_lora_weights: false leaves both factors random.
// RANDOM: lora_A.weight : tensor<8x8xf32> {init = "kaiming_uniform", module = "model.layers.0.self_attn.q_proj", trainable}
// RANDOM: lora_B.weight : tensor<8x8xf32> {init = "kaiming_uniform", module = "model.layers.0.self_attn.q_proj", trainable}

// LoRA+ gives B and everything with one dimension a rate of their own; with
// LoRA-FA A is saved and does not train.
// TRAINED: remark: {{.*}}2 x q_proj [8 -> 8] rank 8: 128 parameters
// TRAINED: nn.param @model.layers.0.self_attn.q_proj.bias : {{.*}}rateFactor = 1.600000e+01 : f64
// TRAINED: lora_A.weight : tensor<8x8xf32> {init = "kaiming_uniform", module = "model.layers.0.self_attn.q_proj", saved}
// TRAINED: lora_B.weight : tensor<8x8xf32> {init = "zeros", module = "model.layers.0.self_attn.q_proj", rateFactor = 1.600000e+01 : f64, trainable}

// PiSSA: the frozen pair rides in a product of twice the rank.
// PISSA: remark: {{.*}}2 x q_proj [8 -> 8] rank 2: 64 parameters
// PISSA: nn.param @[[M:.*]].lora_A.weight : tensor<2x8xf32> {init = "given", module = "model.layers.0.self_attn.q_proj", trainable}
// PISSA-NEXT: nn.param @[[M]].lora_B.weight : tensor<8x2xf32> {init = "given"
// PISSA-NEXT: nn.param @[[M]].lora_A.start : tensor<2x8xf32> {init = "given", module = "model.layers.0.self_attn.q_proj", saved}
// PISSA-NEXT: nn.param @[[M]].lora_A.joined : tensor<4x8xf32> {init = "given", joined = [@[[M]].lora_A.weight, @[[M]].lora_A.start]
// PISSA-NEXT: nn.param @[[M]].lora_B.start : tensor<8x2xf32>
// PISSA-NEXT: nn.param @[[M]].lora_B.joined : tensor<8x4xf32>
// PISSA: lora.linear %{{.*}} a @[[M]].lora_A.joined b @[[M]].lora_B.joined trains @[[M]].lora_A.weight, @[[M]].lora_B.weight {{.*}} tensor<?x?x4xf32>

// DoRA: a magnitude for each output feature.
// DORA: remark: {{.*}}2 x q_proj [8 -> 8] rank 2: 80 parameters
// DORA: nn.param @[[M:.*]].lora_magnitude_vector : tensor<8xf32> {init = "row_norms", module = "model.layers.0.self_attn.q_proj", trainable}
// DORA: lora.dora_linear %{{.*}} bias @{{.*}} a @[[M]].lora_A.weight b @[[M]].lora_B.weight magnitude @[[M]].lora_magnitude_vector {dropout = 5.000000e-01 : f64, {{.*}} -> tensor<?x?x8xf32>, tensor<?x?x2xf32>, tensor<?x?x8xf32>, tensor<8xf32>

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
