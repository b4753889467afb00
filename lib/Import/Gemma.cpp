//===- Gemma.cpp - gemma2 and the text of gemma3 --------------------------===//
//
// Four norms a layer: one before and one behind attention and MLP, the latter
// before the sum. Weights of norms are stored less one, embeddings scaled, the
// gate goes through gelu. Gemma2 caps scores and logits; gemma3 normalizes
// query and key instead and has a RoPE of its own for the layers that slide.
//
//===----------------------------------------------------------------------===//
#include "Decoder.h"

using namespace mlir;
using namespace peftc;

static Value buildLayer(Decoder &decoder, Value hidden, int64_t layer) {
  std::string name = decoder.layerName(layer);
  std::string attention = name + ".self_attn";
  Value branch = decoder.norm(hidden, name + ".input_layernorm");
  branch = decoder.attend(decoder.project(branch, attention), attention, layer,
                          Value());
  hidden =
      decoder.norm(branch, name + ".post_attention_layernorm", 0, hidden);
  branch = decoder.norm(hidden, name + ".pre_feedforward_layernorm");
  branch = decoder.gatedMlp(branch, name + ".mlp", Value());
  return decoder.norm(branch, name + ".post_feedforward_layernorm", 0, hidden);
}

const Family peftc::gemma2Family = {"gemma2", buildLayer};
const Family peftc::gemma3TextFamily = {"gemma3_text", buildLayer};
const Family peftc::gemma3Family = {"gemma3", buildLayer,
                                    "model.language_model"};
