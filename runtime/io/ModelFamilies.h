//===- ModelFamilies.h - class defaults by model_type -----------*- C++ -*-===//
//
// transformers leaves a field out of config.json when it equals the default of
// its class. 4.x and 5.x agree on all that stand here.
//
//===----------------------------------------------------------------------===//
#ifndef PEFT_IO_MODELFAMILIES_H
#define PEFT_IO_MODELFAMILIES_H

#include "RopeConfig.h"
#include "peft/ModelConfig.h"

#include <span>
#include <string_view>

namespace peft {

struct ModelFamily {
  const char *modelType;
  const char *architecture;
  int64_t vocab;
  int64_t hidden = 4096;
  int64_t intermediate;
  int64_t layers = 32;
  int64_t heads = 32;
  std::optional<int64_t> kvHeads; ///< absent: as many as heads
  std::optional<int64_t> headDim; ///< absent: hidden / heads
  int64_t maxPositions;
  double rmsEpsilon = 1e-6;
  bool tied = false;
  bool qkvBias = false; ///< always; else `attention_bias` decides
  bool attentionBiasField = false;
  bool mlpBiasField = false;
  bool qkNorm = false;
  Activation activation = Activation::silu;
  /// Weights of norms stored less one, scaled embeddings, a scale of scores of
  /// its own; soft caps where `reads` has them.
  bool gemma = false;
  std::optional<double> attentionSoftcap, logitSoftcap;
  /// never; all layers; from max_window_layers on; all but every `period`-th
  enum class Sliding { never, always, byLayer, periodic } sliding;
  int64_t window = 4096; ///< 0: none
  int64_t period = 0;
  bool slidingPatternField = false; ///< `sliding_window_pattern` is the period
  RopeRules rope;
  std::optional<int64_t> beginToken, endToken, padToken;
  /// Fields that change the arithmetic and that this family reads.
  std::vector<std::string_view> reads;
  /// Where the fields are those of `text_config`: its model_type and the
  /// architecture that it may name.
  const char *textModelType = nullptr;
  const char *textArchitecture = nullptr;
};

std::span<const ModelFamily> modelFamilies();

} // namespace peft

#endif // PEFT_IO_MODELFAMILIES_H
