//===- Qwen3.cpp - qwen3 --------------------------------------------------===//
//
// Qwen3: query and key are normalized per head before they are rotated.
//
//===----------------------------------------------------------------------===//
#include "Decoder.h"

using namespace mlir;
using namespace peftc;

static Value buildLayer(Decoder &decoder, Value hidden, int64_t layer) {
  std::string name = Decoder::layerName(layer);
  Value input = decoder.norm(hidden, name + ".input_layernorm");
  std::string attention = name + ".self_attn";
  Projections projections = decoder.project(input, attention);
  int64_t head = decoder.getConfig().headDim;
  projections.query =
      decoder.norm(projections.query, attention + ".q_norm", head);
  projections.key = decoder.norm(projections.key, attention + ".k_norm", head);
  hidden = decoder.attend(projections, attention,
                          decoder.getConfig().slidingWindow[layer], hidden);
  input = decoder.norm(hidden, name + ".post_attention_layernorm");
  return decoder.swigluMlp(input, name + ".mlp", hidden);
}

const Family peftc::qwen3Family = {"qwen3", buildLayer};
