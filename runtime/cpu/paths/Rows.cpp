//===- Rows.cpp - kernels that index by data ------------------------------===//
//
// Whatever stands in ids, labels, index or count, nothing outside an operand is
// touched: every value is checked before the first use, and a wrong one is a
// fault that names it.
//
//===----------------------------------------------------------------------===//
#include "../Decode.h"
#include "Parallel.h"

namespace peft::cpu::PEFT_PATH {

namespace {

/// Null if all `count` values are in [0, limit).
Fault checkRange(const int32_t *values, uint64_t count, uint64_t limit,
                 const char *text) {
  for (uint64_t i = 0; i < count; ++i)
    if (values[i] < 0 || static_cast<uint64_t>(values[i]) >= limit)
      return {text, values[i], static_cast<int64_t>(limit)};
  return {};
}

/// Rows [0, rows) have an index, all within `limit`.
Fault checkIndex(const Operand &index, int64_t rowStart, uint64_t rows,
                 uint64_t limit) {
  const uint64_t first = static_cast<uint64_t>(rowStart);
  if (rows && (first > index.elements() || rows > index.elements() - first))
    return {"count is past the end of the index",
            static_cast<int64_t>(first + rows),
            static_cast<int64_t>(index.elements())};
  return checkRange(index.as<int32_t>() + first, rows, limit,
                    "a row of the index is outside its operand");
}

/// body(from, to) with the types of two "f32|C" operands.
template <typename Body>
void withFloats(DType from, DType to, const Body &body) {
  withHalf({from, to}, [&](auto half) {
    withFloat(from, half, [&](auto x) {
      withFloat(to, half, [&](auto y) { body(x, y); });
    });
  });
}

template <typename X, typename Y>
PEFT_INLINE void copyRow(const X *from, Y *to, uint64_t columns) {
  forLanes(0, columns, [&](auto load, auto store) { store(to, load(from)); });
}

} // namespace

Fault embed_fwd(const Call &call) {
  namespace op = kernels::embed_fwd;
  const int32_t *ids = call[op::ids].as<int32_t>();
  const uint64_t rows = call[op::ids].elements();
  const uint64_t width = call[op::table].columns;
  if (Fault fault = checkRange(ids, rows, call[op::table].rows,
                               "a token id is outside the embedding table"))
    return fault;
  F32 *y = call[op::y].as<F32>();
  const float scale = static_cast<float>(call.real(op::scale));
  if (Quantized weight = readQuantized(
          call, {op::table, op::absmax, op::nested_absmax, op::tables,
                 op::block, op::nested})) {
    parallel(call, rows, rowGrain(width), [=](uint64_t begin, uint64_t end) {
      for (uint64_t i = begin; i < end; ++i) {
        F32 *to = y + i * width;
        decode(weight, static_cast<uint64_t>(ids[i]) * width, width, to);
        if (scale != 1)
          forLanes(0, width, [&](auto load, auto store) {
            store(to, load(to) * broadcast(scale));
          });
      }
    });
    return {};
  }
  withElement(call[op::table].type, [&](auto element) {
    using W = decltype(element);
    const W *table = call[op::table].as<W>();
    parallel(call, rows, rowGrain(width), [=](uint64_t begin, uint64_t end) {
      for (uint64_t i = begin; i < end; ++i) {
        const W *from = table + static_cast<uint64_t>(ids[i]) * width;
        if (scale == 1)
          copyRow(from, y + i * width, width);
        else
          forLanes(0, width, [&](auto load, auto store) {
            store(y + i * width, load(from) * broadcast(scale));
          });
      }
    });
  });
  return {};
}

Fault embed_dw(const Call &call) {
  namespace op = kernels::embed_dw;
  const int32_t *ids = call[op::ids].as<int32_t>();
  const F32 *dy = call[op::dy].as<F32>();
  F32 *dtable = call[op::dtable].as<F32>();
  const uint64_t rows = call[op::ids].elements();
  const uint64_t width = call[op::dtable].columns;
  const int64_t padding = call.integer(op::padding_idx);
  // A factor of one changes no bit of the chain.
  const Lanes scale = broadcast(static_cast<float>(call.real(op::scale)));
  if (Fault fault = checkRange(ids, rows, call[op::dtable].rows,
                               "a token id is outside the embedding table"))
    return fault;
  // Columns are split, never rows: equal ids add in ascending order.
  parallel(call, (width + 63) / 64, 1, [=](uint64_t begin, uint64_t end) {
    const uint64_t first = begin * 64,
                   last = end * 64 < width ? end * 64 : width;
    for (uint64_t i = 0; i < rows; ++i) {
      if (ids[i] == padding)
        continue;
      F32 *to = dtable + static_cast<uint64_t>(ids[i]) * width;
      const F32 *from = dy + i * width;
      forLanes(first, last, [&](auto load, auto store) {
        store(to, fma(load(from), scale, load(to)));
      });
    }
  });
  return {};
}

Fault compact_rows(const Call &call) {
  namespace op = kernels::compact_rows;
  constexpr int32_t ignored = -100;
  const int32_t *labels = call[op::labels].as<int32_t>();
  const int32_t *segments = call[op::segments].as<int32_t>();
  int32_t *index = call[op::index].as<int32_t>();
  int32_t *target = call[op::target].as<int32_t>();
  const uint64_t rows = call[op::labels].elements();
  const uint64_t seq = static_cast<uint64_t>(call.integer(op::seq));
  const int64_t vocab = call.integer(op::vocab);
  uint64_t count = 0;
  for (uint64_t i = 0; i < rows; ++i) {
    if (labels[i] != ignored && (labels[i] < 0 || labels[i] >= vocab))
      return {"a label is neither -100 nor in the vocabulary", labels[i],
              vocab};
    if ((i + 1) % seq == 0 || i + 1 == rows || labels[i + 1] == ignored ||
        (segments && segments[i] != segments[i + 1]))
      continue;
    index[count] = static_cast<int32_t>(i);
    target[count++] = labels[i + 1];
  }
  *call[op::count].as<int32_t>() = static_cast<int32_t>(count);
  // The rest is never read as a row, but two runs write the same bytes.
  for (; count < rows; ++count)
    index[count] = target[count] = 0;
  return {};
}

Fault gather_rows(const Call &call) {
  namespace op = kernels::gather_rows;
  const int64_t start = call.integer(op::row_start);
  const uint64_t rows = limitedRows(call[op::y].rows, call[op::count], start);
  const uint64_t width = call[op::y].columns;
  if (Fault fault = checkIndex(call[op::index], start, rows, call[op::x].rows))
    return fault;
  const int32_t *index = call[op::index].as<int32_t>() + start;
  withFloats(call[op::x].type, call[op::y].type, [&](auto from, auto to) {
    const auto *x = call[op::x].as<decltype(from)>();
    auto *y = call[op::y].as<decltype(to)>();
    parallel(call, rows, rowGrain(width), [=](uint64_t begin, uint64_t end) {
      for (uint64_t i = begin; i < end; ++i)
        copyRow(x + static_cast<uint64_t>(index[i]) * width, y + i * width,
                width);
    });
  });
  return {};
}

Fault scatter_rows(const Call &call) {
  namespace op = kernels::scatter_rows;
  const int64_t start = call.integer(op::row_start);
  const uint64_t rows = limitedRows(call[op::x].rows, call[op::count], start);
  const uint64_t width = call[op::x].columns;
  if (Fault fault = checkIndex(call[op::index], start, rows, call[op::y].rows))
    return fault;
  const int32_t *index = call[op::index].as<int32_t>() + start;
  withFloats(call[op::x].type, call[op::y].type, [&](auto from, auto to) {
    const auto *x = call[op::x].as<decltype(from)>();
    auto *y = call[op::y].as<decltype(to)>();
    parallel(call, rows, rowGrain(width), [=](uint64_t begin, uint64_t end) {
      for (uint64_t i = begin; i < end; ++i)
        copyRow(x + i * width, y + static_cast<uint64_t>(index[i]) * width,
                width);
    });
  });
  return {};
}

} // namespace peft::cpu::PEFT_PATH
