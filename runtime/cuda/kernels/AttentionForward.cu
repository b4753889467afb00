//===- AttentionForward.cu - softmax(scale q k^T) v on tensor cores -------===//
//
// One block per tile of queries; every warp owns some of its rows and goes over
// the keys with an online softmax. Keys and values have one buffer each: while
// the scores of a tile are computed its values arrive, and while its values are
// added the next keys do.
//
//===----------------------------------------------------------------------===//
#include "AttentionEngines.h"
#include "AttentionTile.h"

namespace peft::cuda {

namespace {

template <typename T> struct ForwardPointers {
  const T *q, *k, *v;
  T *o;
  float *lse;
};

/// A warp has rowTiles x 16 queries.
template <typename Element, unsigned headDim, unsigned warpCount,
          unsigned rowTileCount, unsigned keyCount>
struct ForwardTiling {
  using T = Element;
  static constexpr unsigned dim = headDim, warps = warpCount,
                            rowTiles = rowTileCount, keys = keyCount;
  static constexpr unsigned queries = warps * rowTiles * 16;
  using QueryTile = HeadTile<T, queries, dim>;
  using KeyTile = HeadTile<T, keys, dim>;
  static constexpr size_t sharedBytes =
      (QueryTile::elements + 2 * KeyTile::elements) * sizeof(T);
};

/// The softmax so far of the lane's two rows of a row tile.
struct RunningSoftmax {
  float top[2] = {lowestScore, lowestScore};
  float total[2] = {0, 0}; ///< of the lane's own columns
};

/// Turns scores into probabilities against the new maximum and rescales what
/// was summed against the old one.
template <typename Tiling>
__device__ inline void updateSoftmax(RunningSoftmax &running,
                                     Sums<Tiling::keys> &scores,
                                     Sums<Tiling::dim> &output, float scale2) {
#pragma unroll
  for (unsigned half = 0; half < 2; ++half) {
    float most = scores[0][half * 2];
#pragma unroll
    for (unsigned n = 0; n < Tiling::keys / 8; ++n)
      most = fmaxf(most, fmaxf(scores[n][half * 2], scores[n][half * 2 + 1]));
    most = fmaxf(most, __shfl_xor_sync(0xffffffffu, most, 1));
    most = fmaxf(most, __shfl_xor_sync(0xffffffffu, most, 2));
    const float now = fmaxf(running.top[half], most * scale2);
    const float shrink = exp2f(running.top[half] - now);
    float total = running.total[half] * shrink;
#pragma unroll
    for (unsigned n = 0; n < Tiling::keys / 8; ++n)
#pragma unroll
      for (unsigned i = half * 2; i < half * 2 + 2; ++i) {
        scores[n][i] = exp2f(fmaf(scores[n][i], scale2, -now));
        total += scores[n][i];
      }
    running.top[half] = now;
    running.total[half] = total;
#pragma unroll
    for (unsigned n = 0; n < Tiling::dim / 8; ++n) {
      output[n][half * 2] *= shrink;
      output[n][half * 2 + 1] *= shrink;
    }
  }
}

/// Divides by the sums and stores o and lse of the 16 rows from `position` on.
template <typename Tiling>
__device__ inline void
finishQueries(const AttentionShape &shape, RunningSoftmax &running,
              const Sums<Tiling::dim> &output, typename Tiling::T *o,
              float *lse, uint32_t position) {
  const unsigned lane = threadIdx.x % 32;
  float inverse[2];
#pragma unroll
  for (unsigned half = 0; half < 2; ++half) {
    float total = running.total[half];
    total += __shfl_xor_sync(0xffffffffu, total, 1);
    total += __shfl_xor_sync(0xffffffffu, total, 2);
    inverse[half] = 1.0f / total;
    const uint32_t row = position + lane / 4 + half * 8;
    if (lane % 4 == 0 && row < shape.seq)
      lse[row] = fmaf(running.top[half], ln2, logf(total));
  }
  storeSums<typename Tiling::T, Tiling::dim>(output, o, shape.queryStride(),
                                             shape.headDim, position, shape.seq,
                                             0, inverse);
}

template <typename Tiling>
__global__ void __launch_bounds__(Tiling::warps * 32)
    attentionForward(Gate gate, AttentionShape shape,
                     ForwardPointers<typename Tiling::T> at) {
  if (closed(gate))
    return;
  using T = typename Tiling::T;
  const AttentionBlock block =
      attentionBlock(shape, shape.heads, Tiling::queries, blockIdx.x, true);
  const TileWalk walk = walkKeys(shape, block, Tiling::keys);
  const uint64_t queryAt = shape.queryAt(block.row, block.head);
  const uint64_t keyAt = shape.keyAt(block.row, block.head / shape.group());
  const typename Tiling::QueryTile q{sharedMemory<T>()};
  const typename Tiling::KeyTile keyTile{q.data + q.elements};
  const typename Tiling::KeyTile valueTile{keyTile.data + keyTile.elements};
  const unsigned warpRow = threadIdx.x / 32 * Tiling::rowTiles * 16;
  RunningSoftmax running[Tiling::rowTiles];
  Sums<Tiling::dim> output[Tiling::rowTiles];
  for (unsigned i = 0; i < Tiling::rowTiles; ++i)
    clearSums<Tiling::dim>(output[i]);

  q.load(at.q + queryAt, shape.queryStride(), shape.headDim, block.own);
  uint32_t key = walk.from(shape, walk.all.begin);
  keyTile.load(at.k + keyAt, shape.keyStride(), shape.headDim,
               walk.tileAt(key));
  closeCopies();
  while (key < walk.all.end) {
    const Span keys = walk.tileAt(key);
    awaitCopies<0>();
    __syncthreads(); // the keys are here, and nobody reads the values any more
    valueTile.load(at.v + keyAt, shape.keyStride(), shape.headDim, keys);
    closeCopies();
    Sums<Tiling::keys> scores[Tiling::rowTiles];
#pragma unroll
    for (unsigned i = 0; i < Tiling::rowTiles; ++i)
      clearSums<Tiling::keys>(scores[i]);
    multiplyHeads<T, Tiling::rowTiles>(scores, q, warpRow, keyTile);
    const bool masked = needsMask(shape, block.row, block.own, keys,
                                  Tiling::queries, Tiling::keys);
#pragma unroll
    for (unsigned i = 0; i < Tiling::rowTiles; ++i) {
      capScores<Tiling::keys>(shape, scores[i]);
      if (masked)
        hideUnseen<Tiling::keys>(shape, block.segments, scores[i],
                                 block.own.begin + warpRow + i * 16, key);
      updateSoftmax<Tiling>(running[i], scores[i], output[i], shape.scale2);
    }
    key = walk.from(shape, key + Tiling::keys);
    awaitCopies<0>();
    __syncthreads(); // the values are here, and nobody reads the keys any more
    if (key < walk.all.end)
      keyTile.load(at.k + keyAt, shape.keyStride(), shape.headDim,
                   walk.tileAt(key));
    closeCopies();
    multiplyValues<T, Tiling::dim, Tiling::rowTiles>(output, scores, valueTile,
                                                     0);
  }
#pragma unroll
  for (unsigned i = 0; i < Tiling::rowTiles; ++i)
    finishQueries<Tiling>(shape, running[i], output[i],
                          at.o + queryAt,
                          at.lse + shape.numberAt(block.row, block.head),
                          block.own.begin + warpRow + i * 16);
}

template <typename Tiling>
Status run(const Call &call, const AttentionShape &shape,
           const ForwardOperands &operands) {
  using T = typename Tiling::T;
  static_assert(Tiling::sharedBytes <= 64 << 10, "every card has 64 KiB");
  return launch(call,
                Grid{.x = attentionBlocks(shape, shape.heads, Tiling::queries),
                     .threads = Tiling::warps * 32,
                     .sharedBytes = Tiling::sharedBytes},
                attentionForward<Tiling>, shape,
                ForwardPointers<T>{operands.q.as<T>(), operands.k.as<T>(),
                                   operands.v.as<T>(), operands.o.as<T>(),
                                   operands.lse.as<float>()});
}

template <typename T>
Status runFor(const Call &call, const AttentionShape &shape,
              const ForwardOperands &operands) {
  if (shape.headDim <= 64)
    return run<ForwardTiling<T, 64, 4, 2, 64>>(call, shape, operands);
  if (shape.headDim <= 96)
    return run<ForwardTiling<T, 96, 4, 2, 64>>(call, shape, operands);
  if (shape.headDim <= 128)
    return run<ForwardTiling<T, 128, 4, 2, 64>>(call, shape, operands);
  return run<ForwardTiling<T, 256, 4, 1, 32>>(call, shape, operands);
}

} // namespace

Status tensorForward(const Call &call, const AttentionShape &shape,
                     const ForwardOperands &operands) {
  if (operands.q.type == DType::bf16)
    return runFor<BF16>(call, shape, operands);
  return runFor<F16>(call, shape, operands);
}

} // namespace peft::cuda
