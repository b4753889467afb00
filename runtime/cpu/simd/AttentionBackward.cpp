//===- AttentionBackward.cpp - gradients over blocks ----------------------===//
//
// Per query head: key blocks outside, query blocks inside. Scores and their
// gradients are keys x queries, so their rows are left operands of dv and dk,
// and their pairs of rows the right operand of dq, which is summed transposed.
// Heads of a group write their own dk and dv, which are then added in order.
//
//===----------------------------------------------------------------------===//
#include "../Kernels.h"
#include "../ThreadPool.h"
#include "AttentionMask.h"
#include "AttentionPack.h"
#include "AttentionTile.h"

#include <algorithm>
#include <cmath>

namespace peft::cpu::PEFT_PATH {

namespace {

namespace op = kernels::attention_bwd;

/// Memory of the whole launch. A head of one batch row is `headWords` words of
/// a form, or `headSize` f32; a block of it one blocks-th of that.
struct Shared {
  uint32_t *keys, *values; ///< [64 positions][features]
  uint32_t *turnedKeys;    ///< [paddedDim][64 positions]
  float *dk, *dv;          ///< per query head, [64 positions][paddedDim]
  uint64_t headWords, headSize;

  template <Form form>
  static Shared of(const Call &call, const AttentionShape &shape) {
    Shared shared;
    shared.headSize = shape.paddedSeq() * shape.paddedDim();
    shared.headWords = shared.headSize / elementsPerStep(form);
    const uint64_t all = shape.batch * shape.kvHeads * shared.headWords;
    shared.keys = reinterpret_cast<uint32_t *>(call.sharedWorkspace);
    shared.values = shared.keys + all;
    shared.turnedKeys = shared.values + all;
    shared.dk = reinterpret_cast<float *>(shared.turnedKeys + all);
    shared.dv = shared.dk + shape.batch * shape.heads * shared.headSize;
    return shared;
  }
};

/// Memory of one thread, for one query head.
struct Scratch {
  uint32_t *queries, *grads;           ///< [steps of features][64 queries]
  uint32_t *queriesAlong, *gradsAlong; ///< [steps of queries][paddedDim]
  float *dq;                           ///< per block [paddedDim][64 queries]
  float *delta;                        ///< per query: sum over d of o x d_o
  float *minusLse;                     ///< per query: -lse in base 2
  float *scores, *dscores;             ///< [64 keys][64 queries]
  uint32_t *p, *ds;   ///< the same as words, steps along the queries
  uint32_t *dsAcross; ///< [steps of keys][64 queries]

  template <Form form>
  static Scratch of(const Call &call, const AttentionShape &shape,
                    unsigned thread) {
    const uint64_t head = shape.paddedSeq() * shape.paddedDim();
    constexpr uint64_t tile = blockSize * blockSize;
    Scratch scratch;
    auto *words = reinterpret_cast<uint32_t *>(call.workspaceOf(thread));
    scratch.queries = words;
    scratch.grads = words + head;
    scratch.queriesAlong = words + 2 * head;
    scratch.gradsAlong = words + 3 * head;
    float *floats = reinterpret_cast<float *>(words + 4 * head);
    scratch.dq = floats;
    scratch.delta = floats + head;
    scratch.minusLse = scratch.delta + shape.paddedSeq();
    scratch.scores = scratch.minusLse + shape.paddedSeq();
    scratch.dscores = scratch.scores + tile;
    scratch.p = reinterpret_cast<uint32_t *>(scratch.dscores + tile);
    scratch.ds = scratch.p + tile;
    // Words that hold one number serve both directions.
    scratch.dsAcross = form == Form::pairs ? scratch.ds + tile : scratch.ds;
    return scratch;
  }
};

template <typename C>
void packKeys(const Call &call, const AttentionShape &shape,
              const Shared &shared, uint64_t row, uint64_t head,
              uint64_t block) {
  constexpr Form form = formOf<C>;
  const uint64_t dim = shape.paddedDim(), words = dim / elementsPerStep(form);
  const uint64_t at = (row * shape.kvHeads + head) * shared.headWords +
                      block * blockSize * words;
  const Block<C> keys = blockOf<C>(call[op::k], shape, row, head, block);
  packRows<form>(keys, shared.keys + at, words);
  packTransposed<form>(keys, shared.turnedKeys + at, dim);
  packRows<form>(blockOf<C>(call[op::v], shape, row, head, block),
                 shared.values + at, words);
}

/// out[i] = the sum over d of o x d_o in row i: one chain in ascending d, which
/// is the order of the product d_o v. So a query that sees one key, whose o is
/// that key's v, gets ds = 0 exactly. Eight rows at a time keep the units busy.
template <typename C>
PEFT_INLINE void dotRows(const Block<C> &o, const Block<C> &grad, uint64_t dim,
                         float *out) {
  constexpr uint64_t together = 8;
  for (uint64_t first = 0; first < o.count; first += together) {
    const uint64_t rows = std::min(together, o.count - first);
    float sums[together] = {};
    const C *a[together], *b[together];
    for (uint64_t i = 0; i < together; ++i) {
      a[i] = o.row(first + std::min(i, rows - 1));
      b[i] = grad.row(first + std::min(i, rows - 1));
    }
    for (uint64_t d = 0; d < dim; ++d)
      for (uint64_t i = 0; i < together; ++i)
        sums[i] = std::fma(loadOne(a[i] + d), loadOne(b[i] + d), sums[i]);
    std::copy(sums, sums + rows, out + first);
  }
}

/// Packs one block of queries and output gradients, and its two numbers each.
template <typename C>
void packQueries(const Call &call, const AttentionShape &shape, uint64_t row,
                 uint64_t head, uint64_t block, Scratch &scratch) {
  constexpr Form form = formOf<C>;
  const uint64_t dim = shape.paddedDim(), at = block * blockSize * dim;
  const Block<C> q = blockOf<C>(call[op::q], shape, row, head, block);
  const Block<C> grad = blockOf<C>(call[op::d_o], shape, row, head, block);
  const Block<C> o = blockOf<C>(call[op::o], shape, row, head, block);
  packPositionsAcross<form>(q, scratch.queries + at);
  packPositionsAcross<form>(grad, scratch.grads + at);
  packFeaturesAcross<form>(q, scratch.queriesAlong + at, dim);
  packFeaturesAcross<form>(grad, scratch.gradsAlong + at, dim);
  const F32 *lse = call[op::lse].as<F32>() + head * call[op::q].rows +
                   row * shape.seq + block * blockSize;
  float *delta = scratch.delta + block * blockSize;
  std::fill(delta, delta + blockSize, 0.0f);
  dotRows(o, grad, shape.headDim, delta);
  for (uint64_t i = 0; i < blockSize; ++i)
    scratch.minusLse[block * blockSize + i] =
        i < q.count ? 0 - loadOne(lse + i) * log2e : 0;
}

/// Sixteen queries of one key: p = softmax(scores), ds = p scale (dp - delta),
/// times the slope of the soft cap.
struct Probability {
  Lanes p, ds;
};
template <bool capped>
PEFT_INLINE Probability probability(const float *scores, const float *dscores,
                                    const float *minusLse, const float *delta,
                                    Lanes scale2, Lanes scale) {
  const Lanes score = loadSums(scores);
  const Lanes p = exp2(fma(score, scale2, loadSums(minusLse)));
  const Lanes ds = p * scale * (loadSums(dscores) - loadSums(delta));
  return {p, capped ? ds * capSlope(score) : ds};
}

/// Scores and their gradients become the operands of dv, dk and dq.
template <Form form, bool capped>
void differentiate(const AttentionShape &shape, uint64_t queryBlock,
                   Scratch &scratch) {
  const Lanes scale2 = broadcast(shape.scale2), scale = broadcast(shape.scale);
  const float *minusLse = scratch.minusLse + queryBlock * blockSize;
  const float *delta = scratch.delta + queryBlock * blockSize;
  auto at = [&](uint64_t i, uint64_t j) __attribute__((always_inline)) {
    return probability<capped>(scratch.scores + i * blockSize + j,
                       scratch.dscores + i * blockSize + j, minusLse + j,
                       delta + j, scale2, scale);
  };
  if constexpr (form != Form::pairs) {
    for (uint64_t i = 0; i < blockSize; ++i)
      for (uint64_t j = 0; j < blockSize; j += laneCount) {
        const Probability value = at(i, j);
        storeWords(scratch.p + i * blockSize + j,
                   asInts(rounded<TypeOf<form>>(value.p)));
        storeWords(scratch.ds + i * blockSize + j,
                   asInts(rounded<TypeOf<form>>(value.ds)));
      }
  } else {
    // Two keys by thirty-two queries: pairs in both directions.
    constexpr uint64_t stride = blockSize / 2;
    for (uint64_t i = 0; i < blockSize; i += 2)
      for (uint64_t j = 0; j < blockSize; j += 2 * laneCount) {
        const Probability a = at(i, j), b = at(i, j + laneCount);
        const Probability c = at(i + 1, j), d = at(i + 1, j + laneCount);
        uint32_t *p = scratch.p + i * stride + j / 2;
        storeWords(p, pairAlong(a.p, b.p));
        storeWords(p + stride, pairAlong(c.p, d.p));
        uint32_t *ds = scratch.ds + i * stride + j / 2;
        storeWords(ds, pairAlong(a.ds, b.ds));
        storeWords(ds + stride, pairAlong(c.ds, d.ds));
        uint32_t *across = scratch.dsAcross + i / 2 * blockSize + j;
        storeWords(across, pairAcross(a.ds, c.ds));
        storeWords(across + laneCount, pairAcross(b.ds, d.ds));
      }
  }
}

/// One pair of blocks. `keyAt` and `gradientAt` are offsets of the key block in
/// the packed operands and in dk and dv.
template <Form form>
void visit(const AttentionShape &shape, const Shared &shared, uint64_t keyAt,
           uint64_t gradientAt, uint64_t row, uint64_t queryBlock,
           uint64_t keyBlock, bool masked, Scratch &scratch) {
  const uint64_t dim = shape.paddedDim(), words = dim / elementsPerStep(form);
  const uint64_t steps = stepsOf(form, shape.headDim);
  const uint64_t at = queryBlock * blockSize * dim;
  constexpr uint64_t across = blockSize / elementsPerStep(form);
  const bool diagonal = queryBlock == keyBlock;
  const Product scores = {
      shared.keys + keyAt, words,    scratch.queries + at, blockSize, steps,
      scratch.scores,      blockSize};
  const Product dscores = {
      shared.values + keyAt, words,    scratch.grads + at, blockSize, steps,
      scratch.dscores,       blockSize};
  if (diagonal) {
    multiplyDiagonal<tileForm(form)>(scores);
    multiplyDiagonal<tileForm(form)>(dscores);
  } else {
    multiply<tileForm(form), Start::zero>(scores, blockSize, blockSize);
    multiply<tileForm(form), Start::zero>(dscores, blockSize, blockSize);
  }
  capScores(shape, scratch.scores);
  if (masked)
    maskScores(shape, row, queryBlock, keyBlock, scratch.scores);
  if (shape.capScale != 0)
    differentiate<form, true>(shape, queryBlock, scratch);
  else
    differentiate<form, false>(shape, queryBlock, scratch);
  const Product dv = {scratch.p, across, scratch.gradsAlong + at,
                      dim,       across, shared.dv + gradientAt,
                      dim};
  const Product dk = {scratch.ds, across, scratch.queriesAlong + at,
                      dim,        across, shared.dk + gradientAt,
                      dim};
  // The diagonal is a key block's first.
  if (diagonal) {
    multiplyFromDiagonal<tileForm(form)>(dv, dim);
    multiplyFromDiagonal<tileForm(form)>(dk, dim);
  } else {
    multiply<tileForm(form), Start::resume>(dv, blockSize, dim);
    multiply<tileForm(form), Start::resume>(dk, blockSize, dim);
  }
  multiply<tileForm(form), Start::resume>({shared.turnedKeys + keyAt, across,
                                           scratch.dsAcross, blockSize, across,
                                           scratch.dq + at, blockSize},
                                          dim, blockSize);
}

template <typename C>
void backwardHead(const Call &call, const AttentionShape &shape,
                  const Shared &shared, uint64_t row, uint64_t head,
                  Scratch &scratch) {
  constexpr Form form = formOf<C>;
  const uint64_t dim = shape.paddedDim();
  const uint64_t keyHead =
      (row * shape.kvHeads + head / shape.group()) * shared.headWords;
  for (uint64_t block = 0; block < shape.blocks; ++block)
    packQueries<C>(call, shape, row, head, block, scratch);
  std::memset(scratch.dq, 0, shared.headSize * sizeof(float));
  for (uint64_t keyBlock = 0; keyBlock < shape.blocks; ++keyBlock)
    for (uint64_t queryBlock = keyBlock; queryBlock < shape.blocks;
         ++queryBlock) {
      const Visibility seen = visibility(shape, row, queryBlock, keyBlock);
      if (seen == Visibility::none)
        continue;
      const uint64_t position = keyBlock * blockSize;
      visit<form>(shape, shared,
                  keyHead + position * dim / elementsPerStep(form),
                  (row * shape.heads + head) * shared.headSize + position * dim,
                  row, queryBlock, keyBlock, seen == Visibility::some, scratch);
    }
  const Operand &dq = call[op::dq];
  for (uint64_t block = 0; block < shape.blocks; ++block) {
    const uint64_t first = block * blockSize;
    storeTransposed(scratch.dq + first * dim, nullptr,
                    dq.as<C>() + (row * shape.seq + first) * dq.columns +
                        head * shape.headDim,
                    dq.columns, shape.blockEnd(block) - first, shape.headDim);
  }
}

/// One block of dk or dv: the heads of a group, added in order.
template <typename C>
void sumGroup(const AttentionShape &shape, const float *partial,
              uint64_t headSize, uint64_t row, uint64_t keyHead, uint64_t block,
              const Operand &out) {
  const uint64_t dim = shape.paddedDim();
  const float *first =
      partial + (row * shape.heads + keyHead * shape.group()) * headSize;
  for (uint64_t i = block * blockSize; i < shape.blockEnd(block); ++i) {
    C *to = out.as<C>() + (row * shape.seq + i) * out.columns +
            keyHead * shape.headDim;
    auto total = [&](uint64_t d) {
      Lanes sums = loadSums(first + i * dim + d);
      for (uint64_t g = 1; g < shape.group(); ++g)
        sums = sums + loadSums(first + g * headSize + i * dim + d);
      return sums;
    };
    forChunks(
        shape.headDim, [&](uint64_t d) { store(to + d, total(d)); },
        [&](uint64_t d, uint64_t left) { store(to + d, total(d), left); });
  }
}

template <typename C>
void backward(const Call &call, const AttentionShape &shape) {
  constexpr Form form = formOf<C>;
  const Shared shared = Shared::of<form>(call, shape);
  const uint64_t keyBlocks = shape.batch * shape.kvHeads * shape.blocks;
  auto forKeyBlocks = [&](auto body) {
    call.pool->forRanges(
        keyBlocks, 1, [&](unsigned, uint64_t begin, uint64_t end) {
          for (uint64_t i = begin; i < end; ++i) {
            const uint64_t head = i / shape.blocks;
            body(head / shape.kvHeads, head % shape.kvHeads, i % shape.blocks);
          }
        });
  };
  forKeyBlocks([&](uint64_t row, uint64_t head, uint64_t block) {
    packKeys<C>(call, shape, shared, row, head, block);
  });
  call.pool->forRanges(shape.batch * shape.heads, 1,
                       [&](unsigned thread, uint64_t begin, uint64_t end) {
                         Scratch scratch =
                             Scratch::of<form>(call, shape, thread);
                         for (uint64_t i = begin; i < end; ++i)
                           backwardHead<C>(call, shape, shared, i / shape.heads,
                                           i % shape.heads, scratch);
                       });
  forKeyBlocks([&](uint64_t row, uint64_t head, uint64_t block) {
    sumGroup<C>(shape, shared.dk, shared.headSize, row, head, block,
                call[op::dk]);
    sumGroup<C>(shape, shared.dv, shared.headSize, row, head, block,
                call[op::dv]);
  });
}

} // namespace

Fault attention_bwd(const Call &call) {
  const AttentionShape shape = attentionShape(
      call, call[op::q].rows, call[op::segments],
      {op::seq, op::heads, op::kv_heads, op::head_dim, op::window, op::scale,
       op::softcap});
  withElement(call[op::q].type,
              [&](auto element) { backward<decltype(element)>(call, shape); });
  return {};
}

} // namespace peft::cpu::PEFT_PATH
