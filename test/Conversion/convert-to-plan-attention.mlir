// The engine of attention: the card's library, where it is deterministic and
// linear in the rows.
// RUN: peft-opt %s --peft-differentiate --peft-convert-to-plan="device=cuda capability=90" | FileCheck %s --check-prefixes=FORWARD,NOBACKWARD
// RUN: peft-opt %s --peft-differentiate --peft-convert-to-plan="device=cuda capability=100" | FileCheck %s --check-prefixes=FORWARD,BACKWARD
// RUN: peft-opt %s --peft-differentiate --peft-convert-to-plan="device=cuda capability=75" | FileCheck %s --check-prefix=OWN
// RUN: peft-opt %s --peft-differentiate --peft-convert-to-plan="device=cuda" | FileCheck %s --check-prefix=OWN

// NOBACKWARD-NOT: "attention_bwd"{{.*}}engine
// FORWARD: "attention_fwd"{{.*}}engine = 1
// NOBACKWARD-NOT: "attention_bwd"{{.*}}engine
// BACKWARD: "attention_bwd"{{.*}}engine = 1
// OWN: "attention_fwd"
// OWN-NOT: engine
module attributes {nn.model = {name = "tiny", config = "config", header_hash = "0123", vocab = 16 : i64}, nn.adapter_config = "{}", nn.batch = 1 : i64, nn.seq = 32 : i64, nn.compute = bf16} {
nn.param @embed : tensor<16x16xf32>
nn.param @norm : tensor<16xf32>
nn.param @q : tensor<16x16xf32>
nn.param @A : tensor<2x16xf32> {trainable, init = "kaiming_uniform", zeroGradientAtStart, module = "q"}
nn.param @B : tensor<16x2xf32> {trainable, init = "zeros", module = "q"}

func.func @body(%ids: tensor<1x32xi32>, %positions: tensor<1x32xi32>, %segments: tensor<1x32xi32>) -> tensor<1x32x16xbf16> {
  %x = nn.embed %ids, @embed : tensor<1x32xi32> -> tensor<1x32x16xf32>
  %n, %r = nn.rms_norm %x, @norm {epsilon = 1.0e-05} : tensor<1x32x16xf32> -> tensor<1x32x16xbf16>, tensor<1x32x1xf32>
  %q, %t = lora.linear %n, @q a @A b @B {scale = 2.0, module = "q"} : tensor<1x32x16xbf16> -> tensor<1x32x16xbf16>, tensor<1x32x2xbf16>
  %o, %lse = nn.attention %q, %q, %q segments(%segments : tensor<1x32xi32>) {heads = 2, kvHeads = 2, headDim = 8, scale = 0.5} : tensor<1x32x16xbf16>, tensor<1x32x16xbf16> -> tensor<1x32x16xbf16>, tensor<2x32xf32>
  return %o : tensor<1x32x16xbf16>
}

func.func @head(%rows: tensor<?x16xbf16>) -> tensor<?x16xf32> {
  %logits = nn.linear %rows, @embed : tensor<?x16xbf16> -> tensor<?x16xf32>
  return %logits : tensor<?x16xf32>
}
}
