//===- Tuning.h - measured choices of a card's libraries --------*- C++ -*-===//
//
// What `peft-run --tune` measures and `--tuned` uses: for every shape which of
// the library's candidates was the fastest. A file of it is for one card and
// one version of each library; Device::load refuses another. Candidates are
// named by their place in the library's own list, which is a pure function of
// library, card and shape; what the library says about the algorithm stands
// beside it and has to be the same when it is used.
//
//===----------------------------------------------------------------------===//
#ifndef PEFT_TUNING_H
#define PEFT_TUNING_H

#include "peft/DType.h"
#include "peft/Status.h"

#include <array>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace peft {

/// A matrix product as a library sees it (runtime/cuda/library/Linear.h).
struct TunedProduct {
  uint64_t rows = 0, columns = 0, depth = 0;
  DType in = DType::f32, out = DType::f32;
  bool leftTransposed = false, rightTransposed = false;
  bool addend = false, bias = false;
  uint64_t workspaceBytes = 0;
  uint32_t candidate = 0; ///< of those whose sums have one order
  /// Algorithm, tile, stages, split of the depth, reduction, swizzle, variant,
  /// inner shape, cluster shape.
  std::array<uint32_t, 9> algorithm{};
  double seconds = 0;      ///< of the candidate
  double firstSeconds = 0; ///< of the first one, which is taken untuned
  bool operator==(const TunedProduct &) const = default;
};

struct TunedAttention {
  bool backward = false, deterministic = true;
  DType type = DType::bf16;
  uint64_t batch = 1, seq = 1, heads = 1, kvHeads = 1, headDim = 1;
  uint64_t window = 0; ///< 0: none
  bool byLibrary = false;
  double ownSeconds = 0, librarySeconds = 0;
  bool operator==(const TunedAttention &) const = default;
};

struct Tuning {
  std::string card;             ///< "NVIDIA H200"
  std::string productLibrary;   ///< "cuBLASLt 13.1.0"
  std::string attentionLibrary; ///< "cuDNN 9.19.0"; empty: none was measured
  std::vector<TunedProduct> products;
  std::vector<TunedAttention> attentions;
  bool operator==(const Tuning &) const = default;
};

/// The most candidates of a product that are looked at.
constexpr uint32_t mostCandidates = 32;

/// As a file, with a line for each shape.
std::string formatTuning(const Tuning &tuning);

/// Reads what formatTuning wrote; `what` names it in errors. Errors: badInput
/// naming the entry and the field.
Expected<Tuning> parseTuning(std::string_view text, const std::string &what);

} // namespace peft

#endif // PEFT_TUNING_H
