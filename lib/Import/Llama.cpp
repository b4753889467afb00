//===- Llama.cpp - llama, mistral, qwen2, qwen3 ---------------------------===//
//
// Llama 2, 3 and 3.1-3.3, SmolLM, TinyLlama: pre-norm, grouped-query attention,
// SwiGLU. Mistral and Mistral Nemo slide; Qwen2 and Qwen2.5 have biases on q, k
// and v; Qwen3 normalizes query and key per head before they are rotated. All
// of that stands in config.json, so they share one layer.
//
//===----------------------------------------------------------------------===//
#include "Decoder.h"

using namespace mlir;
using namespace peftc;

static Value buildLayer(Decoder &decoder, Value hidden, int64_t layer) {
  std::string name = decoder.layerName(layer);
  Value input = decoder.norm(hidden, name + ".input_layernorm");
  std::string attention = name + ".self_attn";
  hidden = decoder.attend(decoder.project(input, attention), attention, layer,
                          hidden);
  input = decoder.norm(hidden, name + ".post_attention_layernorm");
  return decoder.gatedMlp(input, name + ".mlp", hidden);
}

const Family peftc::llamaFamily = {"llama", buildLayer};
const Family peftc::mistralFamily = {"mistral", buildLayer};
const Family peftc::qwen2Family = {"qwen2", buildLayer};
const Family peftc::qwen3Family = {"qwen3", buildLayer};
