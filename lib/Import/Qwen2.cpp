//===- Qwen2.cpp - qwen2 --------------------------------------------------===//
//
// Qwen2 and Qwen2.5: biases on q, k and v; with use_sliding_window the upper
// layers slide.
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

const Family peftc::qwen2Family = {"qwen2", buildLayer};
