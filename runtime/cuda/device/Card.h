//===- Card.h - one card of this machine ------------------------*- C++ -*-===//
#ifndef PEFT_CUDA_DEVICE_CARD_H
#define PEFT_CUDA_DEVICE_CARD_H

#include "peft/Status.h"

#include <cstdint>
#include <string>

namespace peft::cuda {

struct Card {
  unsigned index = 0;
  std::string name;   ///< "NVIDIA H200"
  int capability = 0; ///< 90 for sm_90
  int driver = 0;     ///< 13000 for 13.0

  /// "cuda:0, NVIDIA H200, sm_90, driver 13.0"
  std::string describe() const;
};

/// Makes card `index` current for this thread. Error unsuitable, in a few
/// words: no driver, a driver older than this build, no such card, a card of an
/// architecture that this build has no code for.
Expected<Card> openCard(unsigned index);

/// Bytes of the current card that nobody uses.
Expected<uint64_t> freeBytes();

} // namespace peft::cuda

#endif // PEFT_CUDA_DEVICE_CARD_H
