//===- Attention.cpp - attention as loops over scalars --------------------===//
//
// The reference of simd/Attention*.cpp: the same blocks in the same order,
// every product one ascending chain of fma, every rounding at the same place.
// In 16 bits the probabilities and their gradients are rounded before they are
// multiplied; the sum of a row takes them unrounded.
//
//===----------------------------------------------------------------------===//
#include "../AttentionShape.h"
#include "../Kernels.h"
#include "../ThreadPool.h"

#include <cmath>

namespace peft::cpu::PEFT_PATH {

namespace {

/// [blockSize keys][blockSize queries], or [headDim][blockSize queries].
using Tile = float *;

/// One head of one batch row of a [rows, columns] operand; zero outside it.
template <typename C> struct HeadView {
  const C *data;
  uint64_t columns, seq, headDim;

  HeadView(const Operand &operand, const AttentionShape &shape, uint64_t row,
           uint64_t head)
      : data(operand.as<C>() + row * shape.seq * operand.columns +
             head * shape.headDim),
        columns(operand.columns), seq(shape.seq), headDim(shape.headDim) {}

  float operator()(uint64_t position, uint64_t d) const {
    if (position >= seq || d >= headDim)
      return 0;
    return load(data + position * columns + d, 1).v[0];
  }
};

/// c[i][j] goes on over k: c += a(i, k) b(k, j).
template <typename A, typename B>
void multiply(Tile c, uint64_t rows, uint64_t columns, uint64_t depth,
              const A &a, const B &b) {
  for (uint64_t i = 0; i < rows; ++i)
    for (uint64_t j = 0; j < columns; ++j) {
      float chain = c[i * columns + j];
      for (uint64_t k = 0; k < depth; ++k)
        chain = std::fma(a(i, k), b(k, j), chain);
      c[i * columns + j] = chain;
    }
}

void clear(Tile tile, uint64_t elements) {
  std::memset(tile, 0, elements * sizeof(float));
}

Lanes lanesAt(const float *from) {
  return load(reinterpret_cast<const F32 *>(from));
}
void putLanes(float *to, Lanes value) {
  store(reinterpret_cast<F32 *>(to), value);
}

template <typename C> void put(C *to, float value) {
  store(to, broadcast(value), 1);
}

void maskScores(const AttentionShape &shape, uint64_t row, uint64_t queryBlock,
                uint64_t keyBlock, Tile scores) {
  for (uint64_t i = 0; i < blockSize; ++i)
    for (uint64_t j = 0; j < blockSize; ++j)
      if (!sees(shape, row, queryBlock * blockSize + j,
                keyBlock * blockSize + i))
        scores[i * blockSize + j] = -std::bit_cast<float>(0x7f800000u);
}

/// scores[key][query] = q . k, masked.
template <typename C>
void scoreBlock(const AttentionShape &shape, uint64_t row, uint64_t queryBlock,
                uint64_t keyBlock, const HeadView<C> &q, const HeadView<C> &k,
                Tile scores) {
  clear(scores, blockSize * blockSize);
  multiply(
      scores, blockSize, blockSize, shape.headDim,
      [&](uint64_t i, uint64_t d) { return k(keyBlock * blockSize + i, d); },
      [&](uint64_t d, uint64_t j) { return q(queryBlock * blockSize + j, d); });
  capScores(shape, scores);
  if (visibility(shape, row, queryBlock, keyBlock) == Visibility::some)
    maskScores(shape, row, queryBlock, keyBlock, scores);
}

/// The running maximum, sum and output [headDim][query] of a query block.
struct Running {
  float maximum[blockSize], total[blockSize];
  Tile output;
};

/// Replaces scores by probabilities against the new maximum, and rescales what
/// was summed against the old one.
template <typename C>
void softmaxBlock(const AttentionShape &shape, Tile scores, Running &running) {
  const Lanes scale2 = broadcast(shape.scale2);
  for (uint64_t j = 0; j < blockSize; j += laneCount) {
    Lanes top = lanesAt(scores + j);
    for (uint64_t i = 1; i < blockSize; ++i)
      top = maximum(top, lanesAt(scores + i * blockSize + j));
    const Lanes old = lanesAt(running.maximum + j);
    const Lanes now = maximum(old, top * scale2);
    const Lanes shrink = exp2(old - now), minusNow = broadcast(0) - now;
    Lanes total = lanesAt(running.total + j) * shrink;
    for (uint64_t i = 0; i < blockSize; ++i) {
      float *at = scores + i * blockSize + j;
      const Lanes p = exp2(fma(lanesAt(at), scale2, minusNow));
      total = total + p;
      putLanes(at, rounded<C>(p));
    }
    putLanes(running.maximum + j, now);
    putLanes(running.total + j, total);
    for (uint64_t d = 0; d < shape.headDim; ++d) {
      float *at = running.output + d * blockSize + j;
      putLanes(at, lanesAt(at) * shrink);
    }
  }
}

template <typename C>
void finishQueries(const AttentionShape &shape, uint64_t queryBlock,
                   Running &running, C *o, uint64_t columns, F32 *lse) {
  for (uint64_t j = 0; j < blockSize; j += laneCount) {
    const Lanes total = lanesAt(running.total + j);
    const Lanes inverse = broadcast(1) / total;
    for (uint64_t d = 0; d < shape.headDim; ++d) {
      float *at = running.output + d * blockSize + j;
      putLanes(at, lanesAt(at) * inverse);
    }
    putLanes(running.total + j,
             fma(lanesAt(running.maximum + j), broadcast(ln2), log(total)));
  }
  const uint64_t first = queryBlock * blockSize;
  for (uint64_t i = first; i < shape.blockEnd(queryBlock); ++i) {
    storeOne(lse + i, running.total[i - first]);
    for (uint64_t d = 0; d < shape.headDim; ++d)
      put(o + i * columns + d, running.output[d * blockSize + i - first]);
  }
}

template <typename C>
void forwardHead(const Call &call, const AttentionShape &shape, uint64_t row,
                 uint64_t head, float *workspace) {
  namespace op = kernels::attention_fwd;
  const HeadView<C> q(call[op::q], shape, row, head);
  const HeadView<C> k(call[op::k], shape, row, head / shape.group());
  const HeadView<C> v(call[op::v], shape, row, head / shape.group());
  const Operand &o = call[op::o];
  Tile scores = workspace;
  Running running;
  running.output = workspace + blockSize * blockSize;
  for (uint64_t queryBlock = 0; queryBlock < shape.blocks; ++queryBlock) {
    for (uint64_t j = 0; j < blockSize; ++j) {
      running.maximum[j] = lowestScore;
      running.total[j] = 0;
    }
    clear(running.output, shape.headDim * blockSize);
    for (uint64_t keyBlock = 0; keyBlock <= queryBlock; ++keyBlock) {
      if (visibility(shape, row, queryBlock, keyBlock) == Visibility::none)
        continue;
      scoreBlock(shape, row, queryBlock, keyBlock, q, k, scores);
      softmaxBlock<C>(shape, scores, running);
      multiply(
          running.output, shape.headDim, blockSize, blockSize,
          [&](uint64_t d, uint64_t i) {
            return v(keyBlock * blockSize + i, d);
          },
          [&](uint64_t i, uint64_t j) { return scores[i * blockSize + j]; });
    }
    finishQueries(
        shape, queryBlock, running,
        o.as<C>() + row * shape.seq * o.columns + head * shape.headDim,
        o.columns,
        call[op::lse].as<F32>() + head * call[op::q].rows + row * shape.seq);
  }
}

/// What the backward pass of one head works on.
struct BackwardTiles {
  Tile p, ds;   ///< [key][query]
  Tile dq;      ///< [paddedSeq][headDim]
  float *delta; ///< [paddedSeq]: sum over d of o x d_o
  float *lse2;  ///< [paddedSeq]: lse in base 2
  Tile dk, dv;  ///< [paddedSeq][headDim] of this head, in the shared part
};

/// p = softmax(scores), ds = p (dp - delta) scale, both as the products take
/// them.
template <typename C>
void gradientBlock(const AttentionShape &shape, const float *lse2,
                   const float *delta, Tile p, Tile ds) {
  const Lanes scale2 = broadcast(shape.scale2), scale = broadcast(shape.scale);
  for (uint64_t i = 0; i < blockSize; ++i)
    for (uint64_t j = 0; j < blockSize; j += laneCount) {
      float *pAt = p + i * blockSize + j, *dsAt = ds + i * blockSize + j;
      const Lanes score = lanesAt(pAt);
      const Lanes value =
          exp2(fma(score, scale2, broadcast(0) - lanesAt(lse2 + j)));
      Lanes gradient = value * scale * (lanesAt(dsAt) - lanesAt(delta + j));
      if (shape.capScale != 0)
        gradient = gradient * capSlope(score);
      putLanes(dsAt, rounded<C>(gradient));
      putLanes(pAt, rounded<C>(value));
    }
}

template <typename C>
void prepareQueries(const Call &call, const AttentionShape &shape, uint64_t row,
                    uint64_t head, BackwardTiles &tiles) {
  namespace op = kernels::attention_bwd;
  const uint64_t columns = call[op::o].columns;
  const uint64_t at = row * shape.seq * columns + head * shape.headDim;
  const C *o = call[op::o].as<C>() + at, *dO = call[op::d_o].as<C>() + at;
  const F32 *lse =
      call[op::lse].as<F32>() + head * call[op::q].rows + row * shape.seq;
  clear(tiles.delta, shape.paddedSeq());
  clear(tiles.lse2, shape.paddedSeq());
  for (uint64_t i = 0; i < shape.seq; ++i) {
    // In the order of the product d_o v, so that a query that sees one key,
    // whose o is that key's v, gets ds = 0 exactly.
    float delta = 0;
    for (uint64_t d = 0; d < shape.headDim; ++d)
      delta = std::fma(loadOne(o + i * columns + d),
                       loadOne(dO + i * columns + d), delta);
    tiles.delta[i] = delta;
    tiles.lse2[i] = loadOne(lse + i) * log2e;
  }
}

template <typename C>
void backwardHead(const Call &call, const AttentionShape &shape, uint64_t row,
                  uint64_t head, BackwardTiles tiles) {
  namespace op = kernels::attention_bwd;
  const HeadView<C> q(call[op::q], shape, row, head);
  const HeadView<C> k(call[op::k], shape, row, head / shape.group());
  const HeadView<C> v(call[op::v], shape, row, head / shape.group());
  const HeadView<C> dO(call[op::d_o], shape, row, head);
  const uint64_t dim = shape.headDim, tile = blockSize * dim;
  prepareQueries<C>(call, shape, row, head, tiles);
  for (Tile sums : {tiles.dq, tiles.dk, tiles.dv})
    clear(sums, shape.paddedSeq() * dim);
  for (uint64_t keyBlock = 0; keyBlock < shape.blocks; ++keyBlock)
    for (uint64_t queryBlock = keyBlock; queryBlock < shape.blocks;
         ++queryBlock) {
      if (visibility(shape, row, queryBlock, keyBlock) == Visibility::none)
        continue;
      const uint64_t key = keyBlock * blockSize, query = queryBlock * blockSize;
      scoreBlock(shape, row, queryBlock, keyBlock, q, k, tiles.p);
      clear(tiles.ds, blockSize * blockSize);
      multiply(
          tiles.ds, blockSize, blockSize, shape.headDim,
          [&](uint64_t i, uint64_t d) { return v(key + i, d); },
          [&](uint64_t d, uint64_t j) { return dO(query + j, d); });
      // What no query of a sixteen can see is not computed; its zeros decide
      // the sign of the zeros below.
      for (uint64_t i = 0; i < blockSize && query == key; ++i)
        clear(tiles.ds + i * blockSize, i / laneCount * laneCount);
      gradientBlock<C>(shape, tiles.lse2 + query, tiles.delta + query, tiles.p,
                       tiles.ds);
      auto p = [&](uint64_t i, uint64_t j) {
        return tiles.p[i * blockSize + j];
      };
      auto ds = [&](uint64_t i, uint64_t j) {
        return tiles.ds[i * blockSize + j];
      };
      multiply(tiles.dv + keyBlock * tile, blockSize, dim, blockSize, p,
               [&](uint64_t j, uint64_t d) { return dO(query + j, d); });
      multiply(tiles.dk + keyBlock * tile, blockSize, dim, blockSize, ds,
               [&](uint64_t j, uint64_t d) { return q(query + j, d); });
      multiply(
          tiles.dq + queryBlock * tile, blockSize, dim, blockSize,
          [&](uint64_t j, uint64_t i) { return ds(i, j); },
          [&](uint64_t i, uint64_t d) { return k(key + i, d); });
    }
  C *dq = call[op::dq].as<C>() + row * shape.seq * call[op::dq].columns +
          head * dim;
  for (uint64_t i = 0; i < shape.seq; ++i)
    for (uint64_t d = 0; d < dim; ++d)
      put(dq + i * call[op::dq].columns + d, tiles.dq[i * dim + d]);
}

/// The heads of a group, added in order.
template <typename C>
void sumGroup(const AttentionShape &shape, const float *partial, uint64_t row,
              uint64_t kvHead, const Operand &out) {
  const uint64_t dim = shape.headDim, headSize = shape.paddedSeq() * dim;
  const float *first =
      partial + (row * shape.heads + kvHead * shape.group()) * headSize;
  for (uint64_t i = 0; i < shape.seq; ++i)
    for (uint64_t d = 0; d < dim; ++d) {
      float total = first[i * dim + d];
      for (uint64_t g = 1; g < shape.group(); ++g)
        total = total + first[g * headSize + i * dim + d];
      put(out.as<C>() + (row * shape.seq + i) * out.columns + kvHead * dim + d,
          total);
    }
}

} // namespace

Fault attention_fwd(const Call &call) {
  namespace op = kernels::attention_fwd;
  const AttentionShape shape = attentionShape(
      call, call[op::q].rows, call[op::segments],
      {op::seq, op::heads, op::kv_heads, op::head_dim, op::window, op::scale,
       op::softcap});
  withElement(call[op::q].type, [&](auto element) {
    call.pool->forRanges(
        shape.batch * shape.heads, 1,
        [&](unsigned thread, uint64_t begin, uint64_t end) {
          float *workspace =
              reinterpret_cast<float *>(call.workspaceOf(thread));
          for (uint64_t i = begin; i < end; ++i)
            forwardHead<decltype(element)>(call, shape, i / shape.heads,
                                           i % shape.heads, workspace);
        });
  });
  return {};
}

Fault attention_bwd(const Call &call) {
  namespace op = kernels::attention_bwd;
  const AttentionShape shape = attentionShape(
      call, call[op::q].rows, call[op::segments],
      {op::seq, op::heads, op::kv_heads, op::head_dim, op::window, op::scale,
       op::softcap});
  const uint64_t headSize = shape.paddedSeq() * shape.headDim;
  float *dk = reinterpret_cast<float *>(call.sharedWorkspace);
  float *dv = dk + shape.batch * shape.heads * headSize;
  withElement(call[op::q].type, [&](auto element) {
    using C = decltype(element);
    call.pool->forRanges(shape.batch * shape.heads, 1,
                         [&](unsigned thread, uint64_t begin, uint64_t end) {
                           float *at = reinterpret_cast<float *>(
                               call.workspaceOf(thread));
                           BackwardTiles tiles;
                           tiles.p = at;
                           tiles.ds = tiles.p + blockSize * blockSize;
                           tiles.dq = tiles.ds + blockSize * blockSize;
                           tiles.delta = tiles.dq + headSize;
                           tiles.lse2 = tiles.delta + shape.paddedSeq();
                           for (uint64_t i = begin; i < end; ++i) {
                             tiles.dk = dk + i * headSize;
                             tiles.dv = dv + i * headSize;
                             backwardHead<C>(call, shape, i / shape.heads,
                                             i % shape.heads, tiles);
                           }
                         });
    call.pool->forRanges(shape.batch * shape.kvHeads, 1,
                         [&](unsigned, uint64_t begin, uint64_t end) {
                           for (uint64_t i = begin; i < end; ++i) {
                             const uint64_t row = i / shape.kvHeads,
                                            head = i % shape.kvHeads;
                             sumGroup<C>(shape, dk, row, head, call[op::dk]);
                             sumGroup<C>(shape, dv, row, head, call[op::dv]);
                           }
                         });
  });
  return {};
}

} // namespace peft::cpu::PEFT_PATH
