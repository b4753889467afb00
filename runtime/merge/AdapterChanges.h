//===- AdapterChanges.h - what an adapter does to its base ------*- C++ -*-===//
#ifndef PEFT_MERGE_ADAPTERCHANGES_H
#define PEFT_MERGE_ADAPTERCHANGES_H

#include "peft/Merge.h"

#include <functional>
#include <map>
#include <string>

namespace peft {

/// The low-rank change of one weight. Tensors are the adapter file's.
struct LowRankChange {
  std::string module; ///< Hugging Face path
  const TensorHeader *a = nullptr; ///< [rank, in]; of an embedding [rank, rows]
  const TensorHeader *b = nullptr; ///< [out, rank]; of an embedding [hidden, rank]
  const TensorHeader *magnitude = nullptr; ///< [out], with DoRA
  const TensorHeader *bias = nullptr;      ///< lora_B.bias, [out]
  bool embedding = false;
  int64_t rank = 0;
  double scale = 0;
};

struct AdapterChanges {
  /// By the name of the weight, "X.weight".
  std::map<std::string, LowRankChange> lowRank;
  /// Tensors that the adapter holds whole, by the name in the model.
  std::map<std::string, const TensorHeader *> whole;

  bool touches(const std::string &tensor) const {
    return lowRank.contains(tensor) || whole.contains(tensor);
  }

  /// Puts each tensor under the name that `nameOf` gives for its present one.
  void rename(const std::function<std::string(const std::string &)> &nameOf);
};

/// Sorts the tensors of an adapter by what they are for. Errors by name: an
/// unconverted PiSSA or OLoRA adapter, a key that is no part of a LoRA adapter,
/// a factor without its partner, shapes that do not fit together or do not have
/// the rank the config says.
Expected<AdapterChanges> readChanges(const AdapterDirectory &adapter,
                                     const ScaleOfModule &scaleOf);

/// The values of one of the adapter's tensors; an error unless all are finite.
Expected<std::vector<float>> readValues(const SafetensorsFile &file,
                                        const TensorHeader &tensor);

} // namespace peft

#endif // PEFT_MERGE_ADAPTERCHANGES_H
