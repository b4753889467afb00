//===- AttentionShape.h - who sees whom, in blocks --------------*- C++ -*-===//
//
// What both attention kernels and both their forms (plain and simd) agree on:
// the 64 x 64 blocks, which of them are visited, which need a mask, and the
// constants of the online softmax. A skipped block and a visited one whose keys
// are all masked could differ in the sign of a zero, hence one decision here.
//
//===----------------------------------------------------------------------===//
#ifndef PEFT_CPU_ATTENTIONSHAPE_H
#define PEFT_CPU_ATTENTIONSHAPE_H

#include "Math.h"

namespace peft::cpu::PEFT_PATH {

constexpr uint64_t blockSize = 64;

/// Below every true score; finite, so that m - m is zero and not NaN.
constexpr float lowestScore = -1e30f;

struct AttentionShape {
  uint64_t batch, seq, heads, kvHeads, headDim, window, blocks;
  float scale;
  float scale2; ///< scale x log2(e): softmax in base 2
  /// With a soft cap: scale / softcap, and tiles of scores hold the hyperbolic
  /// tangents, of which scale2 is softcap x log2(e). 0: no cap.
  float capScale;
  const int32_t *segments;

  uint64_t group() const { return heads / kvHeads; }
  /// headDim rounded up to whole lanes.
  uint64_t paddedDim() const { return (headDim + 15) / 16 * 16; }
  uint64_t paddedSeq() const { return blocks * blockSize; }
  uint64_t blockEnd(uint64_t block) const {
    uint64_t end = (block + 1) * blockSize;
    return end < seq ? end : seq;
  }
};

/// `op` is kernels::attention_fwd or _bwd by its enumerators.
struct AttentionAttributes {
  int seq, heads, kvHeads, headDim, window, scale, softcap;
};

inline AttentionShape attentionShape(const Call &call, uint64_t rows,
                                     const Operand &segments,
                                     AttentionAttributes at) {
  auto number = [&](int attribute) {
    return static_cast<uint64_t>(call.integer(attribute));
  };
  AttentionShape shape;
  shape.seq = number(at.seq);
  shape.batch = rows / shape.seq;
  shape.heads = number(at.heads);
  shape.kvHeads = number(at.kvHeads);
  shape.headDim = number(at.headDim);
  shape.window = number(at.window);
  shape.blocks = (shape.seq + blockSize - 1) / blockSize;
  shape.scale = static_cast<float>(call.real(at.scale));
  const float softcap = static_cast<float>(call.real(at.softcap));
  shape.capScale = softcap > 0 ? shape.scale / softcap : 0;
  // Zero times a masked score, minus infinity, would be NaN.
  float scale2 = (softcap > 0 ? softcap : shape.scale) * log2e;
  shape.scale2 = scale2 > 1e-30f ? scale2 : 1e-30f;
  shape.segments = segments.as<int32_t>();
  return shape;
}

enum class Visibility { none, some, all };

/// Least and greatest segment of [begin, end).
struct SegmentRange {
  int32_t least, most;
};
inline SegmentRange segmentRange(const int32_t *segments, uint64_t begin,
                                 uint64_t end) {
  SegmentRange range = {segments[begin], segments[begin]};
  for (uint64_t i = begin; i < end; ++i) {
    range.least = segments[i] < range.least ? segments[i] : range.least;
    range.most = segments[i] > range.most ? segments[i] : range.most;
  }
  return range;
}

/// Whether queries of one block see keys of another, in batch row `row`.
inline Visibility visibility(const AttentionShape &shape, uint64_t row,
                             uint64_t queryBlock, uint64_t keyBlock) {
  if (keyBlock > queryBlock)
    return Visibility::none;
  const uint64_t query = queryBlock * blockSize, key = keyBlock * blockSize;
  const uint64_t queryEnd = shape.blockEnd(queryBlock),
                 keyEnd = shape.blockEnd(keyBlock);
  bool all = keyBlock < queryBlock;
  if (shape.window) {
    if (keyEnd <= query && query - (keyEnd - 1) >= shape.window)
      return Visibility::none;
    all &= queryEnd - 1 - key < shape.window;
  }
  if (shape.segments) {
    const int32_t *segments = shape.segments + row * shape.seq;
    const SegmentRange a = segmentRange(segments, query, queryEnd);
    const SegmentRange b = segmentRange(segments, key, keyEnd);
    if (a.most < b.least || b.most < a.least)
      return Visibility::none;
    all &= a.least == a.most && b.least == b.most;
  }
  return all ? Visibility::all : Visibility::some;
}

/// Whether the query sees the key; positions inside batch row `row`. Positions
/// past seq (the padding of the last block) are never stored.
inline bool sees(const AttentionShape &shape, uint64_t row, uint64_t query,
                 uint64_t key) {
  if (key > query || (shape.window && query - key >= shape.window))
    return false;
  if (!shape.segments || query >= shape.seq)
    return true;
  const int32_t *segments = shape.segments + row * shape.seq;
  return segments[query] == segments[key];
}

/// Scores become what their softmax and its gradient read: with a soft cap,
/// tanh(score x capScale). Before the mask.
inline void capScores(const AttentionShape &shape, float *scores) {
  if (shape.capScale == 0)
    return;
  const Lanes factor = broadcast(shape.capScale);
  for (uint64_t i = 0; i < blockSize * blockSize; i += laneCount) {
    F32 *at = reinterpret_cast<F32 *>(scores + i);
    store(at, tanh(load(at) * factor));
  }
}

/// The derivative of a capped score, over that of the score itself, given its
/// tanh; zero for a masked one, which is minus infinity.
PEFT_INLINE Lanes capSlope(Lanes capped) {
  return maximum(broadcast(0), fma(broadcast(0) - capped, capped,
                                   broadcast(1)));
}

} // namespace peft::cpu::PEFT_PATH

#endif // PEFT_CPU_ATTENTIONSHAPE_H
