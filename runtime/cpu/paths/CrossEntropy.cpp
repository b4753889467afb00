//===- CrossEntropy.cpp - the loss and its gradient -----------------------===//
#include "../Math.h"
#include "Parallel.h"

namespace peft::cpu::PEFT_PATH {

namespace {

/// Targets of rows [0, rows) exist and are columns of the logits.
Fault checkTargets(const Operand &target, int64_t rowStart, uint64_t rows,
                   uint64_t vocab) {
  const uint64_t first = static_cast<uint64_t>(rowStart);
  if (rows && (first > target.elements() || rows > target.elements() - first))
    return {"count is past the end of the targets",
            static_cast<int64_t>(first + rows),
            static_cast<int64_t>(target.elements())};
  const int32_t *values = target.as<int32_t>() + first;
  for (uint64_t i = 0; i < rows; ++i)
    if (values[i] < 0 || static_cast<uint64_t>(values[i]) >= vocab)
      return {"a target is outside the vocabulary", values[i],
              static_cast<int64_t>(vocab)};
  return {};
}

/// What softmax and loss need of a row. A NaN or an infinity among the logits
/// makes `total`, and with it the loss, NaN.
struct RowSum {
  float largest, total;
};

PEFT_INLINE Lanes exponential(Lanes logits, Lanes largestLogit) {
  return exp2((logits - largestLogit) * broadcast(log2e));
}

PEFT_INLINE RowSum sumRow(const F32 *logits, uint64_t vocab) {
  Lanes most = broadcast(loadOne(logits));
  uint64_t i = 0;
  for (; i + laneCount <= vocab; i += laneCount)
    most = maximum(most, load(logits + i));
  for (; i < vocab; ++i)
    most = maximum(most, broadcast(loadOne(logits + i)));
  const Lanes top = broadcast(largest(most));
  Lanes total = broadcast(0);
  for (i = 0; i + laneCount <= vocab; i += laneCount)
    total = total + exponential(load(logits + i), top);
  if (i < vocab) {
    const Lanes tail = exponential(load(logits + i, vocab - i), top);
    const uint16_t bits = static_cast<uint16_t>((1u << (vocab - i)) - 1);
    total = total + select(maskOfBits(bits), tail, broadcast(0));
  }
  return {largest(most), sum(total)};
}

PEFT_INLINE float one(Lanes value) {
  F32 buffer[laneCount];
  store(buffer, value);
  return loadOne(buffer);
}

PEFT_INLINE float lossOf(const F32 *logits, const RowSum &row, int32_t target) {
  return one(log(broadcast(row.total))) -
         (loadOne(logits + target) - row.largest);
}

template <typename D>
PEFT_INLINE void writeGradient(const F32 *logits, uint64_t vocab,
                               const RowSum &row, int32_t target, Lanes scale,
                               D *gradient) {
  const Lanes top = broadcast(row.largest);
  const Lanes inverse = broadcast(1.0f / row.total);
  forLanes(0, vocab, [&](auto load, auto store) {
    store(gradient, exponential(load(logits), top) * inverse * scale);
  });
  const Lanes hit = exponential(load(logits + target, 1), top) * inverse;
  store(gradient + target, (hit - broadcast(1)) * scale, 1);
}

} // namespace

Fault cross_entropy_fwd(const Call &call) {
  namespace op = kernels::cross_entropy_fwd;
  const int64_t start = call.integer(op::row_start);
  const uint64_t vocab = call[op::logits].columns;
  const uint64_t rows =
      limitedRows(call[op::logits].rows, call[op::count], start);
  if (Fault fault = checkTargets(call[op::target], start, rows, vocab))
    return fault;
  const F32 *logits = call[op::logits].as<F32>();
  const int32_t *target = call[op::target].as<int32_t>() + start;
  F32 *loss = call[op::loss].as<F32>();
  parallel(call, rows, rowGrain(vocab), [=](uint64_t begin, uint64_t end) {
    for (uint64_t i = begin; i < end; ++i) {
      const F32 *row = logits + i * vocab;
      storeOne(loss + i, lossOf(row, sumRow(row, vocab), target[i]));
    }
  });
  return {};
}

Fault cross_entropy_fwd_bwd(const Call &call) {
  namespace op = kernels::cross_entropy_fwd_bwd;
  const int64_t start = call.integer(op::row_start);
  const uint64_t vocab = call[op::logits].columns;
  const uint64_t rows =
      limitedRows(call[op::logits].rows, call[op::count], start);
  if (Fault fault = checkTargets(call[op::target], start, rows, vocab))
    return fault;
  const F32 *logits = call[op::logits].as<F32>();
  const int32_t *target = call[op::target].as<int32_t>() + start;
  F32 *loss = call[op::loss].as<F32>();
  const Operand &lossScale = call[op::loss_scale];
  const Lanes scale =
      broadcast(lossScale ? loadOne(lossScale.as<F32>()) : 1.0f);
  withElement(call[op::dlogits].type, [&](auto element) {
    auto *dlogits = call[op::dlogits].as<decltype(element)>();
    parallel(call, rows, rowGrain(vocab), [=](uint64_t begin, uint64_t end) {
      for (uint64_t i = begin; i < end; ++i) {
        const F32 *row = logits + i * vocab;
        const RowSum sums = sumRow(row, vocab);
        storeOne(loss + i, lossOf(row, sums, target[i]));
        writeGradient(row, vocab, sums, target[i], scale, dlogits + i * vocab);
      }
    });
  });
  return {};
}

Fault loss_sum(const Call &call) {
  namespace op = kernels::loss_sum;
  const uint64_t rows = limitedRows(call[op::loss].elements(), call[op::count],
                                    call.integer(op::row_start));
  const F32 *loss = call[op::loss].as<F32>();
  double total = *call[op::sum].as<double>();
  for (uint64_t i = 0; i < rows; ++i)
    total += static_cast<double>(loadOne(loss + i));
  *call[op::sum].as<double>() = total;
  return {};
}

Fault count_tokens(const Call &call) {
  namespace op = kernels::count_tokens;
  const int32_t count = *call[op::count].as<int32_t>();
  if (count < 0)
    return {"the number of trained tokens is negative", count, 0};
  *call[op::tokens].as<int64_t>() += count;
  return {};
}

} // namespace peft::cpu::PEFT_PATH
