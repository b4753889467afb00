//===- Merge.h - a base and an adapter as one model -------------*- C++ -*-===//
//
// W' = W + s B A for every module that the adapter changes (with DoRA each row
// brought to its magnitude), and the tensors that the adapter holds whole.
// Knows names and shapes only, so it serves every Hugging Face architecture
// whose adapted weights are stored as torch.nn.Linear and torch.nn.Embedding
// store them, or as bitsandbytes quantized those; then W is what the codes stand
// for, and the merged model is not quantized. Tensors are made and written one at a time.
//
//===----------------------------------------------------------------------===//
#ifndef PEFT_MERGE_H
#define PEFT_MERGE_H

#include "peft/AdapterConfig.h"
#include "peft/ModelWriter.h"

#include <functional>
#include <optional>
#include <string>

namespace peft {

/// What PEFT makes of rank_pattern, alpha_pattern and use_rslora for a module.
struct ModuleScale {
  int64_t rank = 0;
  double scale = 0;
};
using ScaleOfModule =
    std::function<Expected<ModuleScale>(const std::string &module)>;

struct MergeOptions {
  std::string model, adapter; ///< directories
  std::string output;         ///< a directory, absent or empty
  /// Another form of the same model (the original of a quantized one, say), or
  /// empty: the report says how far merging onto it would be from base and
  /// adapter.
  std::string compare;
  std::optional<DType> dtype; ///< absent: each tensor as the model has it
  /// A tied head may become a tensor of its own, where the adapter changes only
  /// one side of it.
  bool untie = false;
  uint64_t shardBytes = peft::shardBytes;
  /// Called before each tensor is made, if set.
  std::function<void(const std::string &name, size_t index, size_t count)>
      onTensor;
};

/// What storing sums in their type loses. Sums are taken over all values.
struct RoundingLoss {
  double maximum = 0;        ///< largest |stored - exact|
  double lossSquares = 0;    ///< sum of (stored - exact)^2
  double exactSquares = 0;   ///< sum of exact^2
  double changeSquares = 0;  ///< sum of (exact - base)^2
  std::string worst;         ///< the tensor of the maximum

  void add(const RoundingLoss &other);
  double relative() const;         ///< |loss| / |exact|, 2-norms
  double relativeToChange() const; ///< |loss| / |change|
};

struct MergeReport {
  size_t merged = 0;    ///< modules with low-rank factors
  size_t replaced = 0;  ///< tensors that the adapter holds whole
  size_t copied = 0;    ///< the others, perhaps in another type
  size_t dequantized = 0; ///< tensors of the base that were quantized
  uint64_t bytes = 0;   ///< of all tensors written
  bool untied = false;
  RoundingLoss loss;    ///< of the merged weights
  RoundingLoss otherLoss; ///< of them, had they been merged onto `compare`
  RoundingLoss copyLoss; ///< of tensors that only changed their type
};

/// Writes a model directory that transformers loads. Errors leave no directory
/// that looks like a model behind: config.json is written last.
Expected<MergeReport> mergeAdapter(const MergeOptions &options,
                                   const AdapterDirectory &adapter,
                                   const ScaleOfModule &scaleOf);

} // namespace peft

#endif // PEFT_MERGE_H
