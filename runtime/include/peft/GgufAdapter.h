//===- GgufAdapter.h - an adapter for llama.cpp -----------------*- C++ -*-===//
#ifndef PEFT_GGUFADAPTER_H
#define PEFT_GGUFADAPTER_H

#include "peft/Merge.h"

namespace peft {

struct GgufReport {
  size_t modules = 0;
  std::string architecture; ///< as llama.cpp calls it
  float alpha = 0;
};

/// Writes `adapter`, an adapter of `model`, as the GGUF file that llama.cpp
/// loads with --lora. Its format has one alpha, and a scale of alpha over each
/// module's own rank: what PEFT's scale is otherwise (rsLoRA, rank_pattern,
/// alpha_pattern) is multiplied into B. Rows of q and k are in the order that
/// llama.cpp has them in for the architecture. Errors by name: what the format
/// cannot say (DoRA, embeddings, tensors saved whole), a module without a name
/// there, a family that is not known.
Expected<GgufReport> exportGgufAdapter(const AdapterDirectory &adapter,
                                       const ModelDirectory &model,
                                       const ScaleOfModule &scaleOf,
                                       const std::string &output);

} // namespace peft

#endif // PEFT_GGUFADAPTER_H
