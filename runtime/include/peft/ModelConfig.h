//===- ModelConfig.h - config.json, normalised ------------------*- C++ -*-===//
//
// Reads config.json of the families llama, mistral, qwen2, qwen3, gemma2, gemma3
// and phi3 as transformers 4 and 5 write it, with the class defaults for fields that were
// left out. Whatever would change the arithmetic and is not implemented is an
// error that names the field, its value and what is supported; fields that
// cannot matter are ignored.
//
//===----------------------------------------------------------------------===//
#ifndef PEFT_MODELCONFIG_H
#define PEFT_MODELCONFIG_H

#include "peft/DType.h"
#include "peft/Quantize.h"
#include "peft/Status.h"

#include <cstdint>
#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace peft {

struct ModelDirectory;

enum class RopeType : uint8_t { standard, linear, llama3, longrope };

/// "default", "linear", "llama3" or "longrope", as config.json says it.
std::string_view name(RopeType type);

struct RopeConfig {
  RopeType type = RopeType::standard;
  double theta = 10000;
  double factor = 1;               ///< linear, llama3
  double lowFrequencyFactor = 1;   ///< llama3
  double highFrequencyFactor = 4;  ///< llama3
  double originalMaxPositions = 0; ///< llama3, longrope
  /// Part of a head's features that rotates, the first ones.
  double partialRotaryFactor = 1;
  double attentionFactor = 1; ///< of cosines and sines; longrope
  /// One per pair of features that rotates, with the scaling applied: the angle
  /// of pair i at position p is float(p) * invFreq[i]. Computed in f32 in
  /// torch's order.
  std::vector<float> invFreq;
  /// longrope: the same for rows of more than originalMaxPositions tokens.
  std::vector<float> longInvFreq;
};

/// What config.json says about a model that bitsandbytes quantized. Which
/// tensors are quantized, and how exactly, the tensors themselves say
/// (QuantizedTensor.h); where the two disagree, they count.
struct QuantizationConfig {
  QuantFormat format; ///< blocks of 64: config.json does not say
  std::vector<std::string> skipModules;
};
/// What the gate of an MLP goes through; geluTanh is "gelu_pytorch_tanh".
enum class Activation : uint8_t { silu, geluTanh };

struct ModelConfig {
  std::string modelType;    ///< "llama", "gemma3_text", ...
  std::string architecture; ///< "LlamaForCausalLM", ...
  int64_t vocab = 0;
  int64_t hidden = 0;
  int64_t intermediate = 0;
  int64_t layers = 0;
  int64_t heads = 0;
  int64_t kvHeads = 0; ///< divides heads
  int64_t headDim = 0; ///< even; not always hidden / heads
  double rmsEpsilon = 1e-6;
  bool qkvBias = false;    ///< on q_proj, k_proj and v_proj
  bool outputBias = false; ///< on o_proj
  bool mlpBias = false;    ///< on gate_proj, up_proj and down_proj
  bool tied = false;       ///< lm_head is the embedding table
  bool qkNorm = false;     ///< RMSNorm per head on q and k, before RoPE
  Activation activation = Activation::silu;
  double attentionScale = 1;   ///< of q k
  double attentionSoftcap = 0; ///< 0: none
  double logitSoftcap = 0;     ///< 0: none
  double normOffset = 0;       ///< added to every norm's weight
  double embeddingScale = 1;   ///< before it is rounded to the compute type
  /// [layers]; 0 = full attention, else a query sees that many keys, its own
  /// included.
  std::vector<int64_t> slidingWindow;
  RopeConfig rope;
  /// gemma3: of the layers that slide; `rope` is then that of the others.
  std::optional<RopeConfig> localRope;
  int64_t maxPositions = 0;
  /// What the checkpoint says it is stored as; the tensors' own types decide.
  std::optional<DType> dtype;
  /// Absent: the model is not quantized.
  std::optional<QuantizationConfig> quantization;
  /// A row of the embedding, for which transformers computes no gradient (as
  /// config.json states it; generation_config.json may replace it for answers).
  std::optional<int64_t> padTokenId;
  std::optional<int64_t> bosTokenId;
  /// Every token that ends an answer: of generation_config.json when it has
  /// any, else of config.json.
  std::vector<int64_t> eosTokenIds;
};

/// Parses the text of a config.json; `what` is its path in errors.
Expected<ModelConfig> parseModelConfig(std::string_view text,
                                       const std::string &what);

/// Whether a config.json says that bitsandbytes quantized the weights; `what`
/// is its path in errors. An error by name where something else did.
Expected<bool> isQuantized(const nlohmann::json &config,
                           const std::string &what);

/// Takes the eos, bos and pad ids that a generation_config.json states.
Status applyGenerationConfig(std::string_view text, const std::string &what,
                             ModelConfig &config);

/// Reads config.json and generation_config.json of an opened model.
Expected<ModelConfig> readModelConfig(const ModelDirectory &model);

} // namespace peft

#endif // PEFT_MODELCONFIG_H
