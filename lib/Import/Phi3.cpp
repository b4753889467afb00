//===- Phi3.cpp - phi3 ----------------------------------------------------===//
//
// Phi-3, 3.5 and 4: llama's layer whose attention may slide, with q, k and v in
// one linear and gate and up in another.
//
//===----------------------------------------------------------------------===//
#include "Decoder.h"

using namespace mlir;
using namespace peftc;

static Value buildLayer(Decoder &decoder, Value hidden, int64_t layer) {
  std::string name = decoder.layerName(layer);
  Value input = decoder.norm(hidden, name + ".input_layernorm");
  std::string attention = name + ".self_attn";
  hidden = decoder.attend(decoder.projectFused(input, attention), attention,
                          layer, hidden);
  input = decoder.norm(hidden, name + ".post_attention_layernorm");
  return decoder.gatedMlpFused(input, name + ".mlp", hidden);
}

const Family peftc::phi3Family = {"phi3", buildLayer};
