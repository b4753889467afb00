//===- Llama.cpp - llama --------------------------------------------------===//
//
// Llama 2, 3 and 3.1-3.3, SmolLM, TinyLlama: pre-norm, grouped-query attention
// over all keys, SwiGLU; biases where config.json says so.
//
//===----------------------------------------------------------------------===//
#include "Decoder.h"

using namespace mlir;
using namespace peftc;

static Value buildLayer(Decoder &decoder, Value hidden, int64_t layer) {
  std::string name = Decoder::layerName(layer);
  Value input = decoder.norm(hidden, name + ".input_layernorm");
  std::string attention = name + ".self_attn";
  hidden =
      decoder.attend(decoder.project(input, attention), attention, 0, hidden);
  input = decoder.norm(hidden, name + ".post_attention_layernorm");
  return decoder.swigluMlp(input, name + ".mlp", hidden);
}

const Family peftc::llamaFamily = {"llama", buildLayer};
