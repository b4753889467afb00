//===- AttentionPlain.cu - attention on CUDA cores ------------------------===//
//
// For f32, which has no tensor core product of its own width, and for heads
// that the tensor kernels do not take. The same three walks over tiles as
// AttentionForward.cu and AttentionBackward.cu. A block sums at most 256 of a
// head's features; larger heads have several blocks that compute the same
// scores.
//
//===----------------------------------------------------------------------===//
#include "AttentionEngines.h"
#include "AttentionPlainTile.h"

namespace peft::cuda {

namespace {

struct PlainForward {
  PlainHead q, k, v, o;
  float *lse;
};
struct PlainBackward {
  PlainHead q, k, v, dO, dq, dk, dv;
  const QueryNumbers *numbers;
};

/// What a block owns, and the first of the features it sums.
struct PlainBlock : AttentionBlock {
  uint32_t first;
};

/// Blocks that share what they own, each with features of its own.
template <unsigned chunks>
__host__ __device__ inline uint32_t partsOf(const AttentionShape &shape) {
  constexpr uint32_t features = chunks * plainColumns;
  return (shape.headDim + features - 1) / features;
}

template <unsigned chunks>
__device__ inline PlainBlock plainBlock(const AttentionShape &shape,
                                        uint32_t heads, bool descending) {
  const uint32_t parts = partsOf<chunks>(shape);
  return {attentionBlock(shape, heads, plainResident, blockIdx.x / parts,
                         descending),
          blockIdx.x % parts * chunks * plainColumns};
}

/// Running maximum and sum of the thread's four rows.
struct PlainSoftmax {
  float top[4] = {lowestScore, lowestScore, lowestScore, lowestScore};
  float total[4] = {}; ///< of the thread's own columns
};

/// Over the 16 threads that share rows.
template <typename Join>
__device__ inline float joinRow(float value, const Join &join) {
  for (int step = 8; step > 0; step /= 2)
    value = join(value, __shfl_xor_sync(0xffffffffu, value, step));
  return value;
}

template <unsigned chunks>
__device__ inline void updatePlain(PlainSoftmax &running, PlainSums &scores,
                                   PlainSums (&output)[chunks], float scale2) {
#pragma unroll
  for (unsigned i = 0; i < 4; ++i) {
    float most = scores[i][0];
#pragma unroll
    for (unsigned j = 1; j < 4; ++j)
      most = fmaxf(most, scores[i][j]);
    most = joinRow(most, [](float a, float b) { return fmaxf(a, b); });
    const float now = fmaxf(running.top[i], most * scale2);
    const float shrink = exp2f(running.top[i] - now);
    float total = running.total[i] * shrink;
#pragma unroll
    for (unsigned j = 0; j < 4; ++j) {
      scores[i][j] = exp2f(fmaf(scores[i][j], scale2, -now));
      total += scores[i][j];
    }
    running.top[i] = now;
    running.total[i] = total;
#pragma unroll
    for (unsigned c = 0; c < chunks; ++c)
#pragma unroll
      for (unsigned j = 0; j < 4; ++j)
        output[c][i][j] *= shrink;
  }
}

template <unsigned chunks>
__global__ void __launch_bounds__(plainThreads)
    plainAttention(Gate gate, AttentionShape shape, PlainForward at) {
  if (closed(gate))
    return;
  __shared__ PlainTiles tiles;
  const PlainBlock block = plainBlock<chunks>(shape, shape.heads, true);
  const uint64_t keyAt = shape.keyAt(block.row, block.head / shape.group());
  const PlainHead q = at.q.at(shape.queryAt(block.row, block.head));
  const PlainHead k = at.k.at(keyAt), v = at.v.at(keyAt);
  const TileWalk walk = walkKeys(shape, block, plainPassing);
  PlainSoftmax running;
  PlainSums output[chunks];
#pragma unroll
  for (unsigned c = 0; c < chunks; ++c)
    clearPlain(output[c]);
  for (uint32_t key = walk.from(shape, walk.all.begin); key < walk.all.end;
       key = walk.from(shape, key + plainPassing)) {
    const Span keys = walk.tileAt(key);
    PlainSums scores;
    multiplyPlainHeads(tiles, scores, q, block.own, k, keys);
    capPlain(shape, scores);
    if (needsMask(shape, block.row, block.own, keys, plainResident,
                  plainPassing))
      hidePlain(shape, block.segments, scores, block.own.begin, key, false);
    updatePlain<chunks>(running, scores, output, shape.scale2);
    putWeights(tiles, scores, q);
    multiplyPlainValues<chunks>(tiles, output, v, keys, block.first);
  }
  float inverse[4];
#pragma unroll
  for (unsigned i = 0; i < 4; ++i) {
    const float total = joinRow(running.total[i],
                                [](float a, float b) { return a + b; });
    inverse[i] = 1.0f / total;
    const uint32_t position = block.own.begin + plainRow() + i;
    if (block.first == 0 && plainColumn() == 0 && position < block.own.end)
      at.lse[shape.numberAt(block.row, block.head) + position] =
          fmaf(running.top[i], ln2, logf(total));
  }
  storePlain<chunks>(output, at.o.at(shape.queryAt(block.row, block.head)),
                     block.own, block.first, inverse);
}

/// Scores become probabilities, `ds` (on entry d_o v) the gradients of scores;
/// rows are keys if `transposed`. `query` is the first of the tile's queries.
__device__ inline void plainGradients(const AttentionShape &shape,
                                      const QueryNumbers *numbers,
                                      uint32_t query, bool transposed,
                                      PlainSums &p, PlainSums &ds) {
#pragma unroll
  for (unsigned i = 0; i < 4; ++i)
#pragma unroll
    for (unsigned j = 0; j < 4; ++j) {
      const uint32_t at =
          query + (transposed ? plainColumn() + j : plainRow() + i);
      const QueryNumbers of =
          at < shape.seq ? numbers[at] : QueryNumbers{0, 0};
      const float score = p[i][j];
      p[i][j] = exp2f(fmaf(score, shape.scale2, -of.lse2));
      ds[i][j] = scoreGradient(p[i][j], ds[i][j], of.delta, shape.scale);
      if (shape.capScale != 0)
        ds[i][j] *= capSlope(score);
    }
}

template <unsigned chunks>
__global__ void __launch_bounds__(plainThreads)
    plainKeyGradients(Gate gate, AttentionShape shape, PlainBackward at) {
  if (closed(gate))
    return;
  __shared__ PlainTiles tiles;
  const PlainBlock block = plainBlock<chunks>(shape, shape.kvHeads, false);
  const uint64_t keyAt = shape.keyAt(block.row, block.head);
  const PlainHead k = at.k.at(keyAt), v = at.v.at(keyAt);
  const TileWalk walk = walkQueries(shape, block, plainPassing);
  PlainSums dk[chunks], dv[chunks];
#pragma unroll
  for (unsigned c = 0; c < chunks; ++c) {
    clearPlain(dk[c]);
    clearPlain(dv[c]);
  }
  for (uint32_t i = 0; i < shape.group(); ++i) {
    const uint32_t head = block.head * shape.group() + i;
    const PlainHead q = at.q.at(shape.queryAt(block.row, head));
    const PlainHead dO = at.dO.at(shape.queryAt(block.row, head));
    for (uint32_t query = walk.from(shape, walk.all.begin);
         query < walk.all.end; query = walk.from(shape, query + plainPassing)) {
      const Span queries = walk.tileAt(query);
      PlainSums p, ds;
      multiplyPlainHeads(tiles, p, k, block.own, q, queries);
      multiplyPlainHeads(tiles, ds, v, block.own, dO, queries);
      capPlain(shape, p);
      if (needsMask(shape, block.row, queries, block.own, plainPassing,
                    plainResident))
        hidePlain(shape, block.segments, p, block.own.begin, query, true);
      plainGradients(shape, at.numbers + shape.numberAt(block.row, head), query,
                     true, p, ds);
      putWeights(tiles, p, q);
      multiplyPlainValues<chunks>(tiles, dv, dO, queries, block.first);
      putWeights(tiles, ds, q);
      multiplyPlainValues<chunks>(tiles, dk, q, queries, block.first);
    }
  }
  const float one[4] = {1, 1, 1, 1};
  storePlain<chunks>(dk, at.dk.at(keyAt), block.own, block.first, one);
  storePlain<chunks>(dv, at.dv.at(keyAt), block.own, block.first, one);
}

template <unsigned chunks>
__global__ void __launch_bounds__(plainThreads)
    plainQueryGradients(Gate gate, AttentionShape shape, PlainBackward at) {
  if (closed(gate))
    return;
  __shared__ PlainTiles tiles;
  const PlainBlock block = plainBlock<chunks>(shape, shape.heads, true);
  const uint64_t queryAt = shape.queryAt(block.row, block.head);
  const uint64_t keyAt = shape.keyAt(block.row, block.head / shape.group());
  const PlainHead q = at.q.at(queryAt), dO = at.dO.at(queryAt);
  const PlainHead k = at.k.at(keyAt), v = at.v.at(keyAt);
  const TileWalk walk = walkKeys(shape, block, plainPassing);
  PlainSums dq[chunks];
#pragma unroll
  for (unsigned c = 0; c < chunks; ++c)
    clearPlain(dq[c]);
  for (uint32_t key = walk.from(shape, walk.all.begin); key < walk.all.end;
       key = walk.from(shape, key + plainPassing)) {
    const Span keys = walk.tileAt(key);
    PlainSums p, ds;
    multiplyPlainHeads(tiles, p, q, block.own, k, keys);
    multiplyPlainHeads(tiles, ds, dO, block.own, v, keys);
    capPlain(shape, p);
    if (needsMask(shape, block.row, block.own, keys, plainResident,
                  plainPassing))
      hidePlain(shape, block.segments, p, block.own.begin, key, false);
    plainGradients(shape, at.numbers + shape.numberAt(block.row, block.head),
                   block.own.begin, false, p, ds);
    putWeights(tiles, ds, q);
    multiplyPlainValues<chunks>(tiles, dq, k, keys, block.first);
  }
  const float one[4] = {1, 1, 1, 1};
  storePlain<chunks>(dq, at.dq.at(queryAt), block.own, block.first, one);
}

/// Blocks of a launch over `heads` heads.
template <unsigned chunks>
Grid plainGrid(const AttentionShape &shape, uint32_t heads) {
  return Grid{.x = partsOf<chunks>(shape) *
                   attentionBlocks(shape, heads, plainResident),
              .threads = plainThreads};
}

template <unsigned chunks>
Status runForward(const Call &call, const AttentionShape &shape,
                  const PlainForward &operands) {
  return launch(call, plainGrid<chunks>(shape, shape.heads),
                plainAttention<chunks>, shape, operands);
}

template <unsigned chunks>
Status runBackward(const Call &call, const AttentionShape &shape,
                   const PlainBackward &operands) {
  if (Status status = launch(call, plainGrid<chunks>(shape, shape.kvHeads),
                             plainKeyGradients<chunks>, shape, operands);
      !status.ok())
    return status;
  return launch(call, plainGrid<chunks>(shape, shape.heads),
                plainQueryGradients<chunks>, shape, operands);
}

} // namespace

Status plainForward(const Call &call, const AttentionShape &shape,
                    const ForwardOperands &from) {
  auto head = [&](const Operand &operand) {
    return PlainHead(operand, shape.headDim);
  };
  const PlainForward operands = {head(from.q), head(from.k), head(from.v),
                                 head(from.o), from.lse.as<float>()};
  if (shape.headDim <= 64)
    return runForward<1>(call, shape, operands);
  if (shape.headDim <= 128)
    return runForward<2>(call, shape, operands);
  return runForward<4>(call, shape, operands);
}

Status plainBackward(const Call &call, const AttentionShape &shape,
                     const BackwardOperands &from) {
  auto head = [&](const Operand &operand) {
    return PlainHead(operand, shape.headDim);
  };
  const PlainBackward operands = {
      head(from.q),  head(from.k),  head(from.v),  head(from.dO),
      head(from.dq), head(from.dk), head(from.dv), from.numbers};
  if (shape.headDim <= 64)
    return runBackward<1>(call, shape, operands);
  if (shape.headDim <= 128)
    return runBackward<2>(call, shape, operands);
  return runBackward<4>(call, shape, operands);
}

} // namespace peft::cuda
