//===- Libraries.h - the library handles of one card ------------*- C++ -*-===//
#ifndef PEFT_CUDA_LIBRARY_LIBRARIES_H
#define PEFT_CUDA_LIBRARY_LIBRARIES_H

#include "CublasLt.h"
#include "Linear.h"
#include "peft/Tuning.h"

#include <map>
#include <memory>

namespace peft::cuda {

/// How a product is computed: the first candidate of the library's heuristic
/// that fits the workspace and adds up in a fixed order, or the one that a
/// tuning names. A pure function of library version, card, shape and tuning;
/// nothing is timed.
struct ProductChoice {
  bool found = false; ///< false: the library has none, our own kernel does it
  bool tuned = false;
  uint32_t candidate = 0;                 ///< its place in `candidates`
  std::array<uint32_t, 9> description{};  ///< as TunedProduct::algorithm
  cublasLtMatmulAlgo_t algorithm{};
  uint64_t workspaceBytes = 0;
};

struct Libraries {
  Libraries() = default;
  ~Libraries();
  Libraries(const Libraries &) = delete;
  Libraries &operator=(const Libraries &) = delete;

  /// On the current card.
  static Expected<std::unique_ptr<Libraries>> create();

  /// "cuBLASLt 13.1.0"
  std::string name() const;

  /// The algorithms for a product that fit its workspace and add up in a fixed
  /// order, among the first `most` that the library proposes, in its order.
  Expected<std::vector<ProductChoice>> candidates(const ProductShape &shape,
                                                  uint32_t most) const;

  /// Chooses for every product of `work`; once per shape. To be called before
  /// anything is captured.
  /// Error unsuitable: the tuning names an algorithm that the library does not
  /// propose.
  Status prepare(const LinearWork &work, uint64_t workspaceBytes);
  size_t tunedCount() const; ///< shapes whose algorithm a tuning names
  size_t ownCount() const;   ///< shapes that our own kernel multiplies

  const CublasLt *lt = nullptr;
  cublasLtHandle_t handle = nullptr;
  bool abandoned = false; ///< the card answers no more: nothing is freed
  std::map<ProductShape, ProductChoice> choices;
  const Tuning *tuning = nullptr; ///< null: none
};

/// Ok if `tuning` was measured on this card with these versions. Error
/// unsuitable with both.
Status checkTuning(const Tuning &tuning, const std::string &card,
                   const std::string &productLibrary,
                   const std::string &attentionLibrary);

} // namespace peft::cuda

#endif // PEFT_CUDA_LIBRARY_LIBRARIES_H
