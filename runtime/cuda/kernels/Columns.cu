//===- Columns.cu - parts of rows -----------------------------------------===//
#include "cuda/Kernels.h"
#include "cuda/Numbers.h"

namespace peft::cuda {

namespace {

constexpr unsigned columnThreads = 128;

/// `width` columns of each row, which lie at `from` and `to` in their operands.
struct ColumnCopy {
  FloatsIn x;
  FloatsOut y;
  uint64_t sourceColumns, targetColumns, from, to, width;
};

/// A block per row.
template <unsigned n> __global__ void copyColumns(Gate gate, ColumnCopy copy) {
  if (closed(gate))
    return;
  const uint64_t row = blockIdx.x;
  const uint64_t source = row * copy.sourceColumns + copy.from,
                 target = row * copy.targetColumns + copy.to;
  for (uint64_t i = threadIdx.x * n; i < copy.width; i += blockDim.x * n) {
    float values[n];
    copy.x.load(source + i, values);
    copy.y.store(target + i, values);
  }
}

Status launchCopy(const Call &call, const Operand &x, uint64_t from,
                  const Operand &y, uint64_t to, uint64_t width) {
  const ColumnCopy copy{FloatsIn(x), FloatsOut(y), x.columns, y.columns,
                        from,        to,           width};
  bool packs = true;
  for (uint64_t number : {x.columns, y.columns, from, to, width})
    packs &= number % packSize == 0;
  return launch(
      call, Grid{.x = static_cast<unsigned>(y.rows), .threads = columnThreads},
      packs ? copyColumns<packSize> : copyColumns<1>, copy);
}

} // namespace

Status take_columns(const Call &call) {
  namespace op = kernels::take_columns;
  const Operand &y = call[op::y];
  return launchCopy(call, call[op::x],
                    static_cast<uint64_t>(call.integer(op::column)), y, 0,
                    y.columns);
}

Status join_columns(const Call &call) {
  namespace op = kernels::join_columns;
  uint64_t at = 0;
  for (int part : {op::a, op::b, op::c}) {
    const Operand &x = call[part];
    if (!x)
      continue;
    if (Status status = launchCopy(call, x, 0, call[op::y], at, x.columns);
        !status.ok())
      return status;
    at += x.columns;
  }
  return {};
}

} // namespace peft::cuda
