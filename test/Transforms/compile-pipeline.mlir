// RUN: peft-opt %s --peft-compile='until=adapted seq=8 config={{"peft_type": "LORA", "r": 2, "target_modules": ["q_proj"]}}' | FileCheck %s --check-prefix=ADAPTED
// RUN: peft-opt %s --peft-compile='until=step seq=8 compute=f32 config={{"peft_type": "LORA", "r": 2, "target_modules": ["q_proj"]}}' | FileCheck %s --check-prefix=STEP
// RUN: peft-opt %s --peft-compile='until=converted seq=8 train-all' | FileCheck %s --check-prefix=CONVERTED
// RUN: peft-opt %s --peft-compile='seq=8 config={{"peft_type": "LORA", "r": 2, "target_modules": ["q_proj"]}}' | FileCheck %s --check-prefix=PLANNED
// RUN: peft-opt %s --peft-compile='seq=8 train-all' --mlir-print-ir-after-all -o /dev/null 2>&1 | FileCheck %s --check-prefix=DUMP
// RUN: not peft-opt %s --peft-compile='until=adapted config={{"peft_type": "LORA", "target_modules": ["v_proj"]}}' 2>&1 | FileCheck %s --check-prefix=ERROR
// RUN: not peft-opt %s --peft-compile='until=nowhere train-all' 2>&1 | FileCheck %s --check-prefix=UNTIL

// Each stage leaves what the next one takes.
// ADAPTED: nn.seq = 8
// ADAPTED: lora.linear {{.*}} : tensor<1x8x8xbf16> -> tensor<1x8x8xbf16>, tensor<1x8x2xbf16>
// STEP: func.func @micro_step
// STEP: lora.linear {{.*}} : tensor<1x8x8xf32> -> tensor<1x8x8xf32>, tensor<1x8x2xf32>
// STEP: func.func @update
// CONVERTED: plan.program
// CONVERTED: plan.arena "device" persistent 0 size 0
// PLANNED: plan.program
// PLANNED: plan.buffer {{.*}} arena 0 offset 0
// PLANNED: plan.entry "micro_step"
// DUMP: IR Dump After TrainAllParameters
// DUMP: IR Dump After SpecializeModel
// DUMP: IR Dump After Differentiate
// DUMP: IR Dump After ConvertToPlan
// DUMP: IR Dump After PlanMemory
// DUMP: IR Dump After InsertWaits
// ERROR: error: target_modules: 'v_proj' matches no module of the model
// UNTIL: 'nowhere' is no stage: take adapted, step, converted or planned

module attributes {nn.model = {model_type = "llama", name = "tiny", tied = false, vocab = 32 : i64, hidden = 8 : i64, layers = 1 : i64, config = "{}", header_hash = ""}} {
  nn.param @model.embed_tokens.weight : tensor<32x8xbf16> {module = "model.embed_tokens"}
  nn.param @model.layers.0.self_attn.q_proj.weight : tensor<8x8xbf16> {module = "model.layers.0.self_attn.q_proj"}
  nn.param @model.layers.0.self_attn.o_proj.weight : tensor<8x8xbf16> {module = "model.layers.0.self_attn.o_proj"}
  nn.param @model.norm.weight : tensor<8xbf16> {module = "model.norm"}
  nn.param @lm_head.weight : tensor<32x8xbf16> {module = "lm_head"}
  func.func @body(%ids: tensor<?x?xi32>, %positions: tensor<?x?xi32>, %segments: tensor<?x?xi32>) -> tensor<?x?x8xf32> {
    %x = nn.embed %ids, @model.embed_tokens.weight : tensor<?x?xi32> -> tensor<?x?x8xf32>
    %n, %r0 = nn.rms_norm %x, @model.norm.weight {epsilon = 0.5} : tensor<?x?x8xf32> -> tensor<?x?x8xf32>, tensor<?x?x1xf32>
    %q = nn.linear %n, @model.layers.0.self_attn.q_proj.weight : tensor<?x?x8xf32> -> tensor<?x?x8xf32>
    %o, %lse = nn.attention %q, %q, %q segments(%segments : tensor<?x?xi32>) {heads = 2, kvHeads = 2, headDim = 4, scale = 0.5} : tensor<?x?x8xf32>, tensor<?x?x8xf32> -> tensor<?x?x8xf32>, tensor<2x?xf32>
    %h = nn.linear %o, @model.layers.0.self_attn.o_proj.weight residual(%x : tensor<?x?x8xf32>) : tensor<?x?x8xf32> -> tensor<?x?x8xf32>
    %y, %r1 = nn.rms_norm %h, @model.norm.weight {epsilon = 0.5} : tensor<?x?x8xf32> -> tensor<?x?x8xf32>, tensor<?x?x1xf32>
    return %y : tensor<?x?x8xf32>
  }
  func.func @head(%rows: tensor<?x8xf32>) -> tensor<?x32xf32> {
    %logits = nn.linear %rows, @lm_head.weight : tensor<?x8xf32> -> tensor<?x32xf32>
    return %logits : tensor<?x32xf32>
  }
}
