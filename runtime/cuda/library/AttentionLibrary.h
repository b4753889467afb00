//===- AttentionLibrary.h - attention by a card's library -------*- C++ -*-===//
//
// cuDNN as the rest of the device sees it: a problem becomes a graph, which
// says what workspace it wants and can be enqueued. Cudnn.h has the one of
// cards; tests have one of plain loops.
//
//===----------------------------------------------------------------------===//
#ifndef PEFT_CUDA_LIBRARY_ATTENTIONLIBRARY_H
#define PEFT_CUDA_LIBRARY_ATTENTIONLIBRARY_H

#include "cuda/Call.h"

#include <compare>
#include <memory>
#include <string>

namespace peft::cuda {

/// All that decides which engine of a library computes an attention, and how:
/// kernels.def's attention_fwd or attention_bwd without segments.
struct AttentionProblem {
  bool backward = false;
  bool deterministic = true; ///< of a backward: the same bits every time
  DType type = DType::bf16;
  uint64_t batch = 1, seq = 1, heads = 1, kvHeads = 1, headDim = 64;
  uint64_t window = 0; ///< 0: none
  double scale = 1;
  auto operator<=>(const AttentionProblem &) const = default;

  uint64_t rows() const { return batch * seq; }
};

/// Device memory, laid out as kernels.def's operands but for the numbers of
/// each query, which are f32 [batch, heads, seq].
struct AttentionMemory {
  std::byte *q = nullptr, *k = nullptr, *v = nullptr, *o = nullptr;
  std::byte *dO = nullptr, *dq = nullptr, *dk = nullptr, *dv = nullptr;
  float *lse = nullptr; ///< written by the forward, read by the backward
};

/// A problem as a library solves it.
class AttentionGraph {
public:
  virtual ~AttentionGraph() = default;
  virtual uint64_t workspaceBytes() const = 0;
  /// The library's own name for it: "eng2_k24=7".
  virtual std::string engine() const = 0;
  /// Enqueues it on the call's stream; nothing else of the call is read. It is
  /// enqueued whether or not the call's gate is open.
  virtual Status run(const Call &call, const AttentionMemory &memory,
                     std::byte *workspace) const = 0;
};

class AttentionLibrary {
public:
  virtual ~AttentionLibrary() = default;
  /// "cuDNN 9.19.0": a tuning file names it.
  virtual std::string name() const = 0;
  /// Error unsuitable: the library has no engine for it, with its reason.
  virtual Expected<std::shared_ptr<AttentionGraph>>
  build(const AttentionProblem &problem) = 0;
  /// The card answers no more: nothing is freed.
  virtual void abandon() {}
};

/// The library of the current card. Error unsuitable, in a few words: it is
/// missing, too old, or this build knows none.
Expected<std::unique_ptr<AttentionLibrary>> openAttentionLibrary();

} // namespace peft::cuda

#endif // PEFT_CUDA_LIBRARY_ATTENTIONLIBRARY_H
