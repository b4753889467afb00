//===- AttentionShape.h - who sees whom, on the card ------------*- C++ -*-===//
//
// What every attention kernel knows: sizes, strides, and which keys a query
// sees: those of its batch row with key <= query, query - key < window and,
// with segments, of its segment. Whole tiles that cannot meet are skipped.
//
//===----------------------------------------------------------------------===//
#ifndef PEFT_CUDA_ATTENTIONSHAPE_H
#define PEFT_CUDA_ATTENTIONSHAPE_H

#include "cuda/Numbers.h"
#include "schema/CudaParts.h"

namespace peft::cuda {

/// Below every true score; finite, so that m - m is zero and not NaN.
constexpr float lowestScore = -1e30f;
constexpr float log2e = 1.44269504f, ln2 = 0.693147181f;

/// Positions that share one entry of AttentionShape::ranges; a warp reads them.
constexpr uint32_t rangeSize = uint32_t(cudaSegmentRange);
static_assert(rangeSize == 32);

/// Least and greatest segment of `rangeSize` positions.
struct SegmentRange {
  int32_t least, most;
};

struct AttentionShape {
  uint32_t batch, seq, heads, kvHeads, headDim;
  uint32_t window; ///< 1 .. seq
  float scale;
  float scale2;            ///< scale x log2(e): softmax in base 2
  /// With a soft cap: scale / softcap, and scores become hyperbolic tangents, of
  /// which scale2 is softcap x log2(e). 0: no cap.
  float capScale;
  const int32_t *segments; ///< [batch][seq], or null
  /// [batch][ceil(seq / rangeSize)], filled by a kernel before; with segments.
  SegmentRange *ranges;

  __host__ __device__ uint32_t group() const { return heads / kvHeads; }
  __host__ __device__ uint64_t rows() const { return uint64_t(batch) * seq; }
  /// Elements from one position to the next.
  __host__ __device__ uint64_t queryStride() const {
    return uint64_t(heads) * headDim;
  }
  __host__ __device__ uint64_t keyStride() const {
    return uint64_t(kvHeads) * headDim;
  }
  __host__ __device__ uint32_t rangesOfRow() const {
    return (seq + rangeSize - 1) / rangeSize;
  }
  /// The first element of a head at position 0 of a batch row.
  __device__ uint64_t queryAt(uint32_t row, uint32_t head) const {
    return row * (seq * queryStride()) + uint64_t(head) * headDim;
  }
  __device__ uint64_t keyAt(uint32_t row, uint32_t kvHead) const {
    return row * (seq * keyStride()) + uint64_t(kvHead) * headDim;
  }
  /// The first number of a head and batch row in [heads, rows].
  __device__ uint64_t numberAt(uint32_t row, uint32_t head) const {
    return head * rows() + uint64_t(row) * seq;
  }
};

/// Positions [begin, end) of one batch row, end <= seq.
struct Span {
  uint32_t begin, end;
};

__device__ inline uint32_t smaller(uint32_t a, uint32_t b) {
  return a < b ? a : b;
}

/// The keys that some query of `queries` may see, without segments.
__device__ inline Span keysOf(const AttentionShape &shape, Span queries) {
  const uint32_t reach = shape.window - 1;
  return {queries.begin > reach ? queries.begin - reach : 0, queries.end};
}
/// The queries that may see some key of `keys`, without segments.
__device__ inline Span queriesOf(const AttentionShape &shape, Span keys) {
  const uint64_t end = uint64_t(keys.end) - 1 + shape.window;
  return {keys.begin, end < shape.seq ? uint32_t(end) : shape.seq};
}

/// A range that holds the segments of `span`, perhaps of its neighbours too.
__device__ inline SegmentRange segmentsOf(const AttentionShape &shape,
                                          uint32_t row, Span span) {
  const SegmentRange *ranges =
      shape.ranges + uint64_t(row) * shape.rangesOfRow();
  SegmentRange all = ranges[span.begin / rangeSize];
  for (uint32_t i = span.begin / rangeSize + 1; i * rangeSize < span.end; ++i) {
    const SegmentRange next = ranges[i];
    all.least = next.least < all.least ? next.least : all.least;
    all.most = next.most > all.most ? next.most : all.most;
  }
  return all;
}
__device__ inline bool meet(SegmentRange a, SegmentRange b) {
  return a.least <= b.most && b.least <= a.most;
}

/// Whether some key of `keys` is hidden from some query of `queries`, or the
/// tiles (which may be longer than the spans) have rows past the end.
__device__ inline bool needsMask(const AttentionShape &shape, uint32_t row,
                                 Span queries, Span keys, uint32_t queryTile,
                                 uint32_t keyTile) {
  if (queries.end - queries.begin < queryTile ||
      keys.end - keys.begin < keyTile)
    return true;
  if (keys.end > queries.begin + 1 ||
      queries.end - 1 - keys.begin >= shape.window)
    return true;
  if (!shape.segments)
    return false;
  const SegmentRange a = segmentsOf(shape, row, queries);
  const SegmentRange b = segmentsOf(shape, row, keys);
  return a.least != a.most || b.least != b.most || a.least != b.least;
}

/// `segments` are those of the batch row, or null.
__device__ inline bool sees(const AttentionShape &shape,
                            const int32_t *segments, uint32_t query,
                            uint32_t key) {
  // Unsigned: a later key is farther away than any window.
  if (query >= shape.seq || query - key >= shape.window)
    return false;
  return !segments || segments[query] == segments[key];
}

/// A product q k as the softmax and its gradient read it, with a soft cap.
__device__ inline float capped(const AttentionShape &shape, float score) {
  return tanhf(score * shape.capScale);
}
/// The derivative of a capped score, over that of the score itself; zero for a
/// masked one, which is minus infinity.
__device__ inline float capSlope(float score) {
  return fmaxf(0.0f, fmaf(-score, score, 1.0f));
}

/// What a block owns: positions of one head of one batch row.
struct AttentionBlock {
  uint32_t row, head;
  Span own;
  const int32_t *segments; ///< of the batch row, or null
};

/// Block `number` of rows x heads x tiles of `size` positions. `descending`:
/// the last tiles first, for queries, whose last ones have most to do.
__device__ inline AttentionBlock attentionBlock(const AttentionShape &shape,
                                                uint32_t heads, uint32_t size,
                                                uint32_t number,
                                                bool descending) {
  const uint32_t tiles = (shape.seq + size - 1) / size;
  const uint32_t ascent = number % tiles;
  const uint32_t tile = descending ? tiles - 1 - ascent : ascent;
  AttentionBlock block;
  block.head = number / tiles % heads;
  block.row = number / tiles / heads;
  block.own = {tile * size, smaller((tile + 1) * size, shape.seq)};
  block.segments = shape.segments
                       ? shape.segments + uint64_t(block.row) * shape.seq
                       : nullptr;
  return block;
}
/// How many there are.
inline uint32_t attentionBlocks(const AttentionShape &shape, uint32_t heads,
                                uint32_t size) {
  return (shape.seq + size - 1) / size * heads * shape.batch;
}

/// The tiles of `size` positions in `all` whose segments can meet those of
/// `own`, in ascending order.
struct TileWalk {
  Span all; ///< begin is a multiple of `size`
  SegmentRange own;
  uint32_t row, size;

  __device__ Span tileAt(uint32_t begin) const {
    return {begin, smaller(begin + size, all.end)};
  }
  /// The begin of the first tile from `begin` on; all.end or more: none left.
  __device__ uint32_t from(const AttentionShape &shape, uint32_t begin) const {
    while (shape.segments && begin < all.end &&
           !meet(own, segmentsOf(shape, row, tileAt(begin))))
      begin += size;
    return begin;
  }
};

__device__ inline TileWalk walkTiles(const AttentionShape &shape,
                                     const AttentionBlock &block, Span all,
                                     uint32_t size) {
  TileWalk walk{{all.begin / size * size, all.end}, {0, 0}, block.row, size};
  if (shape.segments)
    walk.own = segmentsOf(shape, block.row, block.own);
  return walk;
}
/// The tiles of keys that a block of queries sees.
__device__ inline TileWalk walkKeys(const AttentionShape &shape,
                                    const AttentionBlock &block,
                                    uint32_t size) {
  return walkTiles(shape, block, keysOf(shape, block.own), size);
}
/// The tiles of queries that see a block of keys.
__device__ inline TileWalk walkQueries(const AttentionShape &shape,
                                       const AttentionBlock &block,
                                       uint32_t size) {
  return walkTiles(shape, block, queriesOf(shape, block.own), size);
}

} // namespace peft::cuda

#endif // PEFT_CUDA_ATTENTIONSHAPE_H
