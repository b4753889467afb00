//===- Columns.cpp - parts of rows -----------------------------------------===//
#include "Parallel.h"

namespace peft::cpu::PEFT_PATH {

namespace {

/// Copies `width` columns of each row, which lie at `from` and `to` in their
/// operands.
template <typename X, typename Y>
void copyColumns(const Call &call, const Operand &x, uint64_t from,
                 const Operand &y, uint64_t to, uint64_t width) {
  const X *source = x.as<X>() + from;
  Y *target = y.as<Y>() + to;
  const uint64_t sourceStride = x.columns, targetStride = y.columns;
  parallel(call, y.rows, rowGrain(width), [=](uint64_t begin, uint64_t end) {
    for (uint64_t i = begin; i < end; ++i)
      forLanes(0, width, [&](auto load, auto store) {
        store(target + i * targetStride, load(source + i * sourceStride));
      });
  });
}

void copyColumns(const Call &call, const Operand &x, uint64_t from,
                 const Operand &y, uint64_t to, uint64_t width) {
  withHalf({x.type, y.type}, [&](auto half) {
    withFloat(x.type, half, [&](auto source) {
      withFloat(y.type, half, [&](auto target) {
        copyColumns<decltype(source), decltype(target)>(call, x, from, y, to,
                                                        width);
      });
    });
  });
}

} // namespace

Fault take_columns(const Call &call) {
  namespace op = kernels::take_columns;
  const Operand &y = call[op::y];
  copyColumns(call, call[op::x], static_cast<uint64_t>(call.integer(op::column)),
              y, 0, y.columns);
  return {};
}

Fault join_columns(const Call &call) {
  namespace op = kernels::join_columns;
  uint64_t at = 0;
  for (int part : {op::a, op::b, op::c}) {
    const Operand &x = call[part];
    if (!x)
      continue;
    copyColumns(call, x, 0, call[op::y], at, x.columns);
    at += x.columns;
  }
  return {};
}

} // namespace peft::cpu::PEFT_PATH
