//===- AttentionForward.cpp - online softmax over blocks ------------------===//
//
// Scores are computed transposed, keys x queries, so that lanes are queries:
// maximum, sum and rescaling go down the columns without crossing lanes, and
// the probabilities are already the right operand of the product with V.
//
//===----------------------------------------------------------------------===//
#include "../Kernels.h"
#include "../ThreadPool.h"
#include "AttentionMask.h"
#include "AttentionPack.h"
#include "AttentionTile.h"

namespace peft::cpu::PEFT_PATH {

namespace {

constexpr unsigned groups = blockSize / laneCount;

/// What a thread works on for one query block.
struct Scratch {
  uint32_t *queries; ///< [steps of features][64 queries]
  float *output;     ///< [paddedDim][64 queries]
  float *scores;     ///< [64 keys][64 queries]
  uint32_t *p;       ///< [steps of keys][64 queries]
  alignas(64) float maximum[blockSize], total[blockSize], shrink[blockSize];
};

/// The packed keys and values of all key heads.
struct Packed {
  uint32_t *keys, *values;
  uint64_t headWords, blockWords;

  uint64_t at(const AttentionShape &shape, uint64_t row, uint64_t head,
              uint64_t block) const {
    return (row * shape.kvHeads + head) * headWords + block * blockWords;
  }
};

template <Form form>
Packed packedOf(const Call &call, const AttentionShape &shape) {
  Packed packed;
  packed.blockWords = blockSize * shape.paddedDim() / elementsPerStep(form);
  packed.headWords = shape.blocks * packed.blockWords;
  packed.keys = reinterpret_cast<uint32_t *>(call.sharedWorkspace);
  packed.values = packed.keys + shape.batch * shape.kvHeads * packed.headWords;
  return packed;
}

/// The step from the old maximum to that of the new scores.
void raiseMaximum(const AttentionShape &shape, Scratch &scratch) {
  Lanes top[groups];
  for (unsigned j = 0; j < groups; ++j)
    top[j] = loadSums(scratch.scores + j * laneCount);
  for (uint64_t i = 1; i < blockSize; ++i)
    for (unsigned j = 0; j < groups; ++j)
      top[j] = maximum(
          top[j], loadSums(scratch.scores + i * blockSize + j * laneCount));
  for (unsigned j = 0; j < groups; ++j) {
    const Lanes old = loadSums(scratch.maximum + j * laneCount);
    const Lanes now = maximum(old, top[j] * broadcast(shape.scale2));
    const Lanes shrink = exp2(old - now);
    storeSums(scratch.shrink + j * laneCount, shrink);
    storeSums(scratch.maximum + j * laneCount, now);
    storeSums(scratch.total + j * laneCount,
              loadSums(scratch.total + j * laneCount) * shrink);
  }
}

/// Scores become probabilities in the order of the product with V.
template <Form form>
void exponentiate(const AttentionShape &shape, Scratch &scratch) {
  const Lanes scale2 = broadcast(shape.scale2);
  Lanes minus[groups], total[groups];
  for (unsigned j = 0; j < groups; ++j) {
    minus[j] = broadcast(0) - loadSums(scratch.maximum + j * laneCount);
    total[j] = loadSums(scratch.total + j * laneCount);
  }
  for (uint64_t i = 0; i < blockSize; i += 2)
    for (unsigned j = 0; j < groups; ++j) {
      const float *at = scratch.scores + i * blockSize + j * laneCount;
      const Lanes even = exp2(fma(loadSums(at), scale2, minus[j]));
      const Lanes odd = exp2(fma(loadSums(at + blockSize), scale2, minus[j]));
      total[j] = total[j] + even + odd;
      uint32_t *to =
          scratch.p + i / elementsPerStep(form) * blockSize + j * laneCount;
      if constexpr (form == Form::pairs) {
        storeWords(to, pairAcross(even, odd));
      } else {
        storeWords(to, asInts(rounded<TypeOf<form>>(even)));
        storeWords(to + blockSize, asInts(rounded<TypeOf<form>>(odd)));
      }
    }
  for (unsigned j = 0; j < groups; ++j)
    storeSums(scratch.total + j * laneCount, total[j]);
}

template <Form form>
void visitKeys(const AttentionShape &shape, const uint32_t *keys,
               const uint32_t *values, uint64_t row, uint64_t queryBlock,
               uint64_t keyBlock, bool masked, bool first, Scratch &scratch) {
  const uint64_t dim = shape.paddedDim();
  constexpr uint64_t keySteps = blockSize / elementsPerStep(form);
  const Product scores = {
      keys,      dim / elementsPerStep(form),  scratch.queries,
      blockSize, stepsOf(form, shape.headDim), scratch.scores,
      blockSize};
  if (queryBlock == keyBlock)
    multiplyDiagonal<tileForm(form)>(scores);
  else
    multiply<tileForm(form), Start::zero>(scores, blockSize, blockSize);
  capScores(shape, scratch.scores);
  if (masked)
    maskScores(shape, row, queryBlock, keyBlock, scratch.scores);
  raiseMaximum(shape, scratch);
  exponentiate<form>(shape, scratch);
  const Product product = {values,   keySteps,       scratch.p, blockSize,
                           keySteps, scratch.output, blockSize, scratch.shrink};
  if (first)
    multiply<tileForm(form), Start::zero>(product, dim, blockSize);
  else
    multiply<tileForm(form), Start::scaled>(product, dim, blockSize);
}

template <typename C>
void forwardBlock(const Call &call, const AttentionShape &shape,
                  const Packed &packed, uint64_t row, uint64_t head,
                  uint64_t queryBlock, Scratch &scratch) {
  namespace op = kernels::attention_fwd;
  constexpr Form form = formOf<C>;
  const uint64_t keyHead = head / shape.group();
  const Block<C> queries =
      blockOf<C>(call[op::q], shape, row, head, queryBlock);
  packPositionsAcross<form>(queries, scratch.queries);
  for (uint64_t j = 0; j < blockSize; ++j) {
    scratch.maximum[j] = lowestScore;
    scratch.total[j] = 0;
  }
  bool first = true;
  for (uint64_t keyBlock = 0; keyBlock <= queryBlock; ++keyBlock) {
    const Visibility seen = visibility(shape, row, queryBlock, keyBlock);
    if (seen == Visibility::none)
      continue;
    const uint64_t at = packed.at(shape, row, keyHead, keyBlock);
    visitKeys<form>(shape, packed.keys + at, packed.values + at, row,
                    queryBlock, keyBlock, seen == Visibility::some, first,
                    scratch);
    first = false;
  }

  // shrink now holds the factor of the end, 1 / total.
  F32 *lse = call[op::lse].as<F32>() + head * call[op::q].rows +
             row * shape.seq + queryBlock * blockSize;
  for (uint64_t j = 0; j < blockSize; j += laneCount) {
    const Lanes total = loadSums(scratch.total + j);
    storeSums(scratch.shrink + j, broadcast(1) / total);
    storeSums(scratch.total + j,
              fma(loadSums(scratch.maximum + j), broadcast(ln2), log(total)));
  }
  std::memcpy(lse, scratch.total, queries.count * sizeof(float));
  const Operand &o = call[op::o];
  storeTransposed(scratch.output, scratch.shrink,
                  o.as<C>() +
                      (row * shape.seq + queryBlock * blockSize) * o.columns +
                      head * shape.headDim,
                  o.columns, queries.count, shape.headDim);
}

template <typename C>
void forward(const Call &call, const AttentionShape &shape) {
  namespace op = kernels::attention_fwd;
  constexpr Form form = formOf<C>;
  const Packed packed = packedOf<form>(call, shape);
  const uint64_t dim = shape.paddedDim();
  call.pool->forRanges(
      shape.batch * shape.kvHeads * shape.blocks, 1,
      [&](unsigned, uint64_t begin, uint64_t end) {
        for (uint64_t i = begin; i < end; ++i) {
          const uint64_t block = i % shape.blocks, head = i / shape.blocks;
          const uint64_t row = head / shape.kvHeads, key = head % shape.kvHeads;
          const uint64_t at = packed.at(shape, row, key, block);
          packRows<form>(blockOf<C>(call[op::k], shape, row, key, block),
                         packed.keys + at, dim / elementsPerStep(form));
          packTransposed<form>(blockOf<C>(call[op::v], shape, row, key, block),
                               packed.values + at, dim);
        }
      });
  call.pool->forRanges(
      shape.batch * shape.heads * shape.blocks, 1,
      [&](unsigned thread, uint64_t begin, uint64_t end) {
        Scratch scratch;
        scratch.queries =
            reinterpret_cast<uint32_t *>(call.workspaceOf(thread));
        scratch.output =
            reinterpret_cast<float *>(scratch.queries + dim * blockSize);
        scratch.scores = scratch.output + dim * blockSize;
        scratch.p = reinterpret_cast<uint32_t *>(scratch.scores +
                                                 blockSize * blockSize);
        for (uint64_t i = begin; i < end; ++i) {
          const uint64_t block = i % shape.blocks, head = i / shape.blocks;
          forwardBlock<C>(call, shape, packed, head / shape.heads,
                          head % shape.heads, block, scratch);
        }
      });
}

} // namespace

Fault attention_fwd(const Call &call) {
  namespace op = kernels::attention_fwd;
  const AttentionShape shape = attentionShape(
      call, call[op::q].rows, call[op::segments],
      {op::seq, op::heads, op::kv_heads, op::head_dim, op::window, op::scale,
       op::softcap});
  withElement(call[op::q].type,
              [&](auto element) { forward<decltype(element)>(call, shape); });
  return {};
}

} // namespace peft::cpu::PEFT_PATH
