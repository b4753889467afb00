//===- Libraries.h - the library handles of one card ------------*- C++ -*-===//
#ifndef PEFT_CUDA_LIBRARY_LIBRARIES_H
#define PEFT_CUDA_LIBRARY_LIBRARIES_H

#include "CublasLt.h"
#include "Linear.h"

#include <map>
#include <memory>

namespace peft::cuda {

/// How a product is computed: the first candidate of the library's heuristic
/// that fits the workspace and adds up in a fixed order. A pure function of
/// library version, card and shape; nothing is timed.
struct ProductChoice {
  bool found = false; ///< false: the library has none, our own kernel does it
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

  /// Chooses for every product of `work`; once per shape. To be called before
  /// anything is captured.
  Status prepare(const LinearWork &work, uint64_t workspaceBytes);

  const CublasLt *lt = nullptr;
  cublasLtHandle_t handle = nullptr;
  bool abandoned = false; ///< the card answers no more: nothing is freed
  std::map<ProductShape, ProductChoice> choices;
};

} // namespace peft::cuda

#endif // PEFT_CUDA_LIBRARY_LIBRARIES_H
