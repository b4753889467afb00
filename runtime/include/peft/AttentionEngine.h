//===- AttentionEngine.h - who computes attention on a card -----*- C++ -*-===//
//
// Which launches a plan gives to the card's library (cuDNN): what its engines
// support by cuDNN 9.19, and only where they are deterministic and their
// workspace is linear in the rows. A test asks the library itself.
//
//===----------------------------------------------------------------------===//
#ifndef PEFT_ATTENTIONENGINE_H
#define PEFT_ATTENTIONENGINE_H

#include "peft/DType.h"

#include <cstdint>

namespace peft {

/// Values of the attribute `engine` of attention.
enum class AttentionEngine : int64_t { own = 0, library };

struct AttentionLaunch {
  int capability = 0; ///< of the card: 90 for 9.0; 0: not known
  DType type = DType::f32;
  uint64_t rows = 0; ///< tokens of the micro-batch
  uint64_t heads = 0, headDim = 0;
  bool backward = false;
  /// Scores are bent before the softmax.
  bool softcap = false;
};

constexpr AttentionEngine chooseAttentionEngine(const AttentionLaunch &of) {
  const bool sixteenBits = of.type == DType::bf16 || of.type == DType::f16;
  // Offsets of 31 bits are enough for every engine.
  const bool small = of.headDim != 0 && of.heads != 0 &&
                     of.rows <= INT32_MAX / of.headDim / of.heads;
  if (!sixteenBits || !small || of.softcap || of.headDim % 8 != 0)
    return AttentionEngine::own;
  // Elsewhere the deterministic backward keeps a part for every tile of keys:
  // heads x seq^2.
  const bool linearBackward = of.capability >= 100 && of.capability < 110;
  if (of.backward)
    return linearBackward && of.headDim <= 128 ? AttentionEngine::library
                                               : AttentionEngine::own;
  return of.capability >= 80 && of.headDim <= 256 ? AttentionEngine::library
                                                  : AttentionEngine::own;
}

} // namespace peft

#endif // PEFT_ATTENTIONENGINE_H
