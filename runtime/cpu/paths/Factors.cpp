//===- Factors.cpp - pairs of low-rank factors, one trained, one not ------===//
#include "Parallel.h"

namespace peft::cpu::PEFT_PATH {

Fault join(const Call &call) {
  namespace op = kernels::join;
  const Operand &a = call[op::a], &b = call[op::b];
  std::byte *y = call[op::y].data;
  if (!call.integer(op::beside)) {
    const uint64_t size = a.elements() * sizeof(float);
    std::memcpy(y, a.data, size);
    std::memcpy(y + size, b.data, b.elements() * sizeof(float));
    return {};
  }
  const uint64_t left = a.columns * sizeof(float),
                 right = b.columns * sizeof(float);
  parallel(call, a.rows, rowGrain(a.columns + b.columns),
           [&](uint64_t begin, uint64_t end) {
             for (uint64_t i = begin; i < end; ++i) {
               std::byte *to = y + i * (left + right);
               std::memcpy(to, a.data + i * left, left);
               std::memcpy(to + left, b.data + i * right, right);
             }
           });
  return {};
}

Fault first_columns(const Call &call) {
  namespace op = kernels::first_columns;
  const Operand &x = call[op::x], &y = call[op::y];
  const uint64_t from = x.columns * byteSize(x.type),
                 to = y.columns * byteSize(y.type);
  const uint64_t rows =
      limitedRows(x.rows, call[op::count], call.integer(op::row_start));
  parallel(call, rows, rowGrain(y.columns), [&](uint64_t begin, uint64_t end) {
    for (uint64_t i = begin; i < end; ++i)
      std::memcpy(y.data + i * to, x.data + i * from, to);
  });
  return {};
}

} // namespace peft::cpu::PEFT_PATH
