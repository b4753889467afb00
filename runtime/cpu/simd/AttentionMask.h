//===- AttentionMask.h - hides the keys a query does not see ----*- C++ -*-===//
#ifndef PEFT_CPU_SIMD_ATTENTIONMASK_H
#define PEFT_CPU_SIMD_ATTENTIONMASK_H

#include "../AttentionShape.h"
#include "Tile.h"

namespace peft::cpu::PEFT_PATH {

/// Minus infinity in scores[key][query] wherever sees() says no. A query past
/// the end of the row gets what is convenient: nothing of it is stored.
inline void maskScores(const AttentionShape &shape, uint64_t row,
                       uint64_t queryBlock, uint64_t keyBlock, float *scores) {
  const Lanes hidden = broadcast(-std::bit_cast<float>(0x7f800000u));
  const int32_t *segments =
      shape.segments ? shape.segments + row * shape.seq : nullptr;
  const Ints nearest = broadcastInts(
      shape.window ? static_cast<int32_t>(shape.window - 1) : INT32_MAX);
  const uint64_t keys = shape.blockEnd(keyBlock) - keyBlock * blockSize;
  for (uint64_t j = 0; j < blockSize; j += laneCount) {
    int32_t positions[laneCount], ownSegments[laneCount] = {};
    for (unsigned i = 0; i < laneCount; ++i) {
      const uint64_t query = queryBlock * blockSize + j + i;
      positions[i] = static_cast<int32_t>(query);
      if (segments && query < shape.seq)
        ownSegments[i] = segments[query];
    }
    const Ints query = loadInts(positions), own = loadInts(ownSegments);
    for (uint64_t i = 0; i < keys; ++i) {
      const uint64_t position = keyBlock * blockSize + i;
      const Ints key = broadcastInts(static_cast<int32_t>(position));
      Mask seen = lessEqual(key, query) & lessEqual(query - key, nearest);
      if (segments)
        seen = seen & equal(own, broadcastInts(segments[position]));
      float *at = scores + i * blockSize + j;
      storeSums(at, select(seen, loadSums(at), hidden));
    }
    for (uint64_t i = keys; i < blockSize; ++i)
      storeSums(scores + i * blockSize + j, hidden);
  }
}

} // namespace peft::cpu::PEFT_PATH

#endif // PEFT_CPU_SIMD_ATTENTIONMASK_H
