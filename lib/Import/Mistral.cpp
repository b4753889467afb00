//===- Mistral.cpp - mistral ----------------------------------------------===//
//
// Mistral and Mistral Nemo: llama's layer whose attention may slide.
//
//===----------------------------------------------------------------------===//
#include "Decoder.h"

using namespace mlir;
using namespace peftc;

static Value buildLayer(Decoder &decoder, Value hidden, int64_t layer) {
  std::string name = Decoder::layerName(layer);
  Value input = decoder.norm(hidden, name + ".input_layernorm");
  std::string attention = name + ".self_attn";
  hidden = decoder.attend(decoder.project(input, attention), attention,
                          decoder.getConfig().slidingWindow[layer], hidden);
  input = decoder.norm(hidden, name + ".post_attention_layernorm");
  return decoder.swigluMlp(input, name + ".mlp", hidden);
}

const Family peftc::mistralFamily = {"mistral", buildLayer};
