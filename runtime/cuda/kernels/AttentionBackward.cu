//===- AttentionBackward.cu - gradients of attention on tensor cores ------===//
//
// Two passes, each of which computes the probabilities again from q, k and lse,
// so that every sum has one owner and one order: one block per tile of keys
// adds dk and dv over the heads of the group and their queries, one block per
// tile of queries adds dq over the keys. What stays in shared memory for the
// whole block is `resident`; what goes by has two buffers, one of which is
// filled while the other is read.
//
//===----------------------------------------------------------------------===//
#include "AttentionEngines.h"
#include "AttentionTile.h"

namespace peft::cuda {

namespace {

template <typename T> struct BackwardPointers {
  const T *q, *k, *v, *dO;
  T *dq, *dk, *dv;
  const QueryNumbers *numbers;
};

/// A warp has 16 resident rows. A block of the first pass sums `part` features
/// of dk and dv.
template <typename Element, unsigned headDim, unsigned partDim,
          unsigned warpCount, unsigned passingRows>
struct BackwardTiling {
  using T = Element;
  static constexpr unsigned dim = headDim, part = partDim, warps = warpCount,
                            passing = passingRows, resident = warps * 16;
  static constexpr unsigned parts = dim / part;
  using Resident = HeadTile<T, resident, dim>;
  using Passing = HeadTile<T, passing, dim>;
  static constexpr size_t sharedBytes =
      (2 * Resident::elements + 4 * Passing::elements) * sizeof(T);
};

/// The tiles of a block in shared memory: two that stay, and two times two that
/// go by.
template <typename Tiling> struct Tiles {
  using T = typename Tiling::T;
  typename Tiling::Resident first, second;
  T *passing;

  __device__ explicit Tiles(T *memory)
      : first{memory}, second{memory + Tiling::Resident::elements},
        passing(memory + 2 * Tiling::Resident::elements) {}

  __device__ typename Tiling::Passing passingTile(unsigned buffer,
                                                  unsigned which) const {
    return {passing + (buffer * 2 + which) * Tiling::Passing::elements};
  }
};

__device__ inline QueryNumbers numbersOf(const QueryNumbers *numbers,
                                         uint32_t query, uint32_t seq) {
  return query < seq ? numbers[query] : QueryNumbers{0, 0};
}

/// Where the first pass is: a tile of queries of one head.
struct GroupCursor {
  uint32_t head, query;
};

template <typename Tiling>
__device__ inline GroupCursor advance(const AttentionShape &shape,
                                      const TileWalk &walk, GroupCursor at) {
  at.query = walk.from(shape, at.query + Tiling::passing);
  if (at.query >= walk.all.end)
    at = {at.head + 1, walk.from(shape, walk.all.begin)};
  return at;
}

/// Scores [key, query] become probabilities, and their gradients `ds` (on entry
/// d_o v) those of the scores.
template <typename Tiling, bool capped>
__device__ inline void keyGradients(const AttentionShape &shape,
                                    const QueryNumbers *numbers, uint32_t query,
                                    Sums<Tiling::passing> &p,
                                    Sums<Tiling::passing> &ds) {
  const unsigned lane = threadIdx.x % 32;
#pragma unroll
  for (unsigned n = 0; n < Tiling::passing / 8; ++n)
#pragma unroll
    for (unsigned j = 0; j < 2; ++j) {
      const QueryNumbers of = numbersOf(
          numbers, query + n * 8 + lane % 4 * 2 + j, shape.seq);
#pragma unroll
      for (unsigned i = j; i < 4; i += 2) {
        const float score = p[n][i];
        p[n][i] = exp2f(fmaf(score, shape.scale2, -of.lse2));
        ds[n][i] = scoreGradient(p[n][i], ds[n][i], of.delta, shape.scale);
        if (capped)
          ds[n][i] *= capSlope(score);
      }
    }
}

/// One tile of queries into the sums of the warp's keys.
template <typename Tiling>
__device__ inline void
addQueries(const AttentionShape &shape, const Tiles<Tiling> &tiles,
           unsigned buffer, const QueryNumbers *numbers,
           const int32_t *segments, bool masked, uint32_t key, uint32_t query,
           unsigned firstFeature, Sums<Tiling::part> (&dk)[1],
           Sums<Tiling::part> (&dv)[1]) {
  using T = typename Tiling::T;
  const unsigned warpRow = threadIdx.x / 32 * 16;
  const auto q = tiles.passingTile(buffer, 0);
  const auto dO = tiles.passingTile(buffer, 1);
  Sums<Tiling::passing> p[1], ds[1];
  clearSums<Tiling::passing>(p[0]);
  clearSums<Tiling::passing>(ds[0]);
  multiplyHeads<T, 1>(p, tiles.first, warpRow, q);
  multiplyHeads<T, 1>(ds, tiles.second, warpRow, dO);
  capScores<Tiling::passing>(shape, p[0]);
  if (masked)
    forElements<Tiling::passing>(
        p[0], [&](float &score, unsigned i, unsigned j) {
          if (!sees(shape, segments, query + j, key + warpRow + i))
            score = -INFINITY;
        });
  if (shape.capScale != 0)
    keyGradients<Tiling, true>(shape, numbers, query, p[0], ds[0]);
  else
    keyGradients<Tiling, false>(shape, numbers, query, p[0], ds[0]);
  multiplyValues<T, Tiling::part, 1>(dv, p, dO, firstFeature);
  multiplyValues<T, Tiling::part, 1>(dk, ds, q, firstFeature);
}

template <typename Tiling>
__global__ void __launch_bounds__(Tiling::warps * 32)
    attentionKeyGradients(Gate gate, AttentionShape shape,
                          BackwardPointers<typename Tiling::T> at) {
  if (closed(gate))
    return;
  using T = typename Tiling::T;
  const AttentionBlock block =
      attentionBlock(shape, shape.kvHeads, Tiling::resident,
                     blockIdx.x / Tiling::parts, false);
  const unsigned firstFeature = blockIdx.x % Tiling::parts * Tiling::part / 16;
  const TileWalk walk = walkQueries(shape, block, Tiling::passing);
  const Tiles<Tiling> tiles(sharedMemory<T>());
  const uint64_t keyAt = shape.keyAt(block.row, block.head);
  tiles.first.load(at.k + keyAt, shape.keyStride(), shape.headDim,
                   block.own);
  tiles.second.load(at.v + keyAt, shape.keyStride(), shape.headDim,
                    block.own);
  auto fetch = [&](GroupCursor to, unsigned buffer) {
    const uint64_t from = shape.queryAt(block.row, to.head);
    const Span queries = walk.tileAt(to.query);
    tiles.passingTile(buffer, 0).load(at.q + from, shape.queryStride(),
                                      shape.headDim, queries);
    tiles.passingTile(buffer, 1).load(at.dO + from, shape.queryStride(),
                                      shape.headDim, queries);
  };
  Sums<Tiling::part> dk[1], dv[1];
  clearSums<Tiling::part>(dk[0]);
  clearSums<Tiling::part>(dv[0]);
  const uint32_t headEnd = (block.head + 1) * shape.group();
  GroupCursor now = {block.head * shape.group(),
                     walk.from(shape, walk.all.begin)};
  fetch(now, 0);
  closeCopies();
  for (unsigned buffer = 0; now.head < headEnd; buffer ^= 1) {
    awaitCopies<0>();
    __syncthreads(); // this buffer is here, and nobody reads the other one
    const GroupCursor next = advance<Tiling>(shape, walk, now);
    if (next.head < headEnd)
      fetch(next, buffer ^ 1);
    closeCopies();
    const Span queries = walk.tileAt(now.query);
    const bool masked = needsMask(shape, block.row, queries, block.own,
                                  Tiling::passing, Tiling::resident);
    addQueries<Tiling>(shape, tiles, buffer,
                       at.numbers + shape.numberAt(block.row, now.head),
                       block.segments, masked, block.own.begin, now.query,
                       firstFeature, dk, dv);
    now = next;
  }
  const uint32_t position = block.own.begin + threadIdx.x / 32 * 16;
  const float one[2] = {1, 1};
  storeSums<T, Tiling::part>(dk[0], at.dk + keyAt, shape.keyStride(),
                             shape.headDim, position, shape.seq, firstFeature,
                             one);
  storeSums<T, Tiling::part>(dv[0], at.dv + keyAt, shape.keyStride(),
                             shape.headDim, position, shape.seq, firstFeature,
                             one);
}

/// The gradients `ds` of scores [query, key], which on entry are d_o v; `of`
/// are the numbers of the lane's two rows.
template <unsigned columns, bool capped>
__device__ inline void queryGradients(const AttentionShape &shape,
                                      const QueryNumbers (&of)[2],
                                      const Sums<columns> &scores,
                                      Sums<columns> &ds) {
#pragma unroll
  for (unsigned n = 0; n < columns / 8; ++n)
#pragma unroll
    for (unsigned i = 0; i < 4; ++i) {
      const float p =
          exp2f(fmaf(scores[n][i], shape.scale2, -of[i / 2].lse2));
      ds[n][i] = scoreGradient(p, ds[n][i], of[i / 2].delta, shape.scale);
      if (capped)
        ds[n][i] *= capSlope(scores[n][i]);
    }
}

/// One tile of keys into dq of the warp's queries; `of` are the numbers of the
/// lane's two rows.
template <typename Tiling>
__device__ inline void
addKeys(const AttentionShape &shape, const Tiles<Tiling> &tiles,
        unsigned buffer, const QueryNumbers (&of)[2], const int32_t *segments,
        bool masked, uint32_t query, uint32_t key,
        Sums<Tiling::dim> (&dq)[1]) {
  using T = typename Tiling::T;
  const unsigned warpRow = threadIdx.x / 32 * 16;
  const auto k = tiles.passingTile(buffer, 0);
  const auto v = tiles.passingTile(buffer, 1);
  Sums<Tiling::passing> p[1], ds[1];
  clearSums<Tiling::passing>(p[0]);
  clearSums<Tiling::passing>(ds[0]);
  multiplyHeads<T, 1>(p, tiles.first, warpRow, k);
  multiplyHeads<T, 1>(ds, tiles.second, warpRow, v);
  capScores<Tiling::passing>(shape, p[0]);
  if (masked)
    hideUnseen<Tiling::passing>(shape, segments, p[0], query + warpRow, key);
  if (shape.capScale != 0)
    queryGradients<Tiling::passing, true>(shape, of, p[0], ds[0]);
  else
    queryGradients<Tiling::passing, false>(shape, of, p[0], ds[0]);
  multiplyValues<T, Tiling::dim, 1>(dq, ds, k, 0);
}

template <typename Tiling>
__global__ void __launch_bounds__(Tiling::warps * 32)
    attentionQueryGradients(Gate gate, AttentionShape shape,
                            BackwardPointers<typename Tiling::T> at) {
  if (closed(gate))
    return;
  using T = typename Tiling::T;
  const AttentionBlock block =
      attentionBlock(shape, shape.heads, Tiling::resident, blockIdx.x, true);
  const TileWalk walk = walkKeys(shape, block, Tiling::passing);
  const Tiles<Tiling> tiles(sharedMemory<T>());
  const uint64_t queryAt = shape.queryAt(block.row, block.head);
  const uint64_t keyAt = shape.keyAt(block.row, block.head / shape.group());
  tiles.first.load(at.q + queryAt, shape.queryStride(), shape.headDim,
                   block.own);
  tiles.second.load(at.dO + queryAt, shape.queryStride(), shape.headDim,
                    block.own);
  auto fetch = [&](uint32_t key, unsigned buffer) {
    const Span keys = walk.tileAt(key);
    tiles.passingTile(buffer, 0).load(at.k + keyAt, shape.keyStride(),
                                      shape.headDim, keys);
    tiles.passingTile(buffer, 1).load(at.v + keyAt, shape.keyStride(),
                                      shape.headDim, keys);
  };
  const uint32_t position = block.own.begin + threadIdx.x / 32 * 16;
  const unsigned lane = threadIdx.x % 32;
  const QueryNumbers *numbers =
      at.numbers + shape.numberAt(block.row, block.head);
  const QueryNumbers of[2] = {
      numbersOf(numbers, position + lane / 4, shape.seq),
      numbersOf(numbers, position + lane / 4 + 8, shape.seq)};
  Sums<Tiling::dim> dq[1];
  clearSums<Tiling::dim>(dq[0]);
  uint32_t now = walk.from(shape, walk.all.begin);
  fetch(now, 0);
  closeCopies();
  for (unsigned buffer = 0; now < walk.all.end; buffer ^= 1) {
    awaitCopies<0>();
    __syncthreads(); // this buffer is here, and nobody reads the other one
    const uint32_t next = walk.from(shape, now + Tiling::passing);
    if (next < walk.all.end)
      fetch(next, buffer ^ 1);
    closeCopies();
    const bool masked =
        needsMask(shape, block.row, block.own, walk.tileAt(now),
                  Tiling::resident, Tiling::passing);
    addKeys<Tiling>(shape, tiles, buffer, of, block.segments, masked,
                    block.own.begin, now, dq);
    now = next;
  }
  const float one[2] = {1, 1};
  storeSums<T, Tiling::dim>(dq[0], at.dq + queryAt, shape.queryStride(),
                            shape.headDim, position, shape.seq, 0, one);
}

template <typename Tiling>
Status run(const Call &call, const AttentionShape &shape,
           const BackwardOperands &from) {
  using T = typename Tiling::T;
  static_assert(Tiling::sharedBytes <= 64 << 10, "every card has 64 KiB");
  const BackwardPointers<T> pointers = {
      from.q.as<T>(),  from.k.as<T>(),  from.v.as<T>(),  from.dO.as<T>(),
      from.dq.as<T>(), from.dk.as<T>(), from.dv.as<T>(), from.numbers};
  Grid grid{.threads = Tiling::warps * 32, .sharedBytes = Tiling::sharedBytes};
  grid.x =
      Tiling::parts * attentionBlocks(shape, shape.kvHeads, Tiling::resident);
  Status status =
      launch(call, grid, attentionKeyGradients<Tiling>, shape, pointers);
  if (!status.ok())
    return status;
  grid.x = attentionBlocks(shape, shape.heads, Tiling::resident);
  return launch(call, grid, attentionQueryGradients<Tiling>, shape, pointers);
}

template <typename T>
Status runFor(const Call &call, const AttentionShape &shape,
              const BackwardOperands &operands) {
  if (shape.headDim <= 64)
    return run<BackwardTiling<T, 64, 64, 4, 64>>(call, shape, operands);
  if (shape.headDim <= 96)
    return run<BackwardTiling<T, 96, 96, 4, 32>>(call, shape, operands);
  if (shape.headDim <= 128)
    return run<BackwardTiling<T, 128, 128, 4, 32>>(call, shape, operands);
  return run<BackwardTiling<T, 256, 128, 2, 16>>(call, shape, operands);
}

} // namespace

Status tensorBackward(const Call &call, const AttentionShape &shape,
                      const BackwardOperands &operands) {
  if (operands.q.type == DType::bf16)
    return runFor<BF16>(call, shape, operands);
  return runFor<F16>(call, shape, operands);
}

} // namespace peft::cuda
