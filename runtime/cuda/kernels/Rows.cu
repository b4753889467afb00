//===- Rows.cu - rows that an index names ---------------------------------===//
//
// Block 0 checks the index (RowIndex.h), every other block moves one row.
//
//===----------------------------------------------------------------------===//
#include "cuda/Kernels.h"
#include "cuda/Numbers.h"
#include "cuda/Quantized.h"
#include "cuda/RowIndex.h"

namespace peft::cuda {

namespace {

constexpr unsigned rowThreads = 128;

template <unsigned n>
__device__ void copyRow(FloatsIn x, uint64_t from, FloatsOut y, uint64_t to,
                        uint64_t columns, float scale = 1) {
  for (uint64_t i = threadIdx.x * n; i < columns; i += blockDim.x * n) {
    float values[n];
    x.load(from * columns + i, values);
    for (unsigned j = 0; j < n; ++j)
      values[j] *= scale;
    y.store(to * columns + i, values);
  }
}

/// y[i] = scale x[index of i]; zeros where there is none.
template <unsigned n>
__global__ void gather(Gate gate, RowIndex index, FloatsIn x, FloatsOut y,
                       uint64_t columns, float scale) {
  if (closed(gate))
    return;
  if (blockIdx.x == 0)
    return index.check();
  const uint64_t row = blockIdx.x - 1;
  const int64_t from = index.at(row, index.wanted());
  if (from >= 0)
    return copyRow<n>(x, static_cast<uint64_t>(from), y, row, columns, scale);
  const float zeros[n] = {};
  for (uint64_t i = threadIdx.x * n; i < columns; i += blockDim.x * n)
    y.store(row * columns + i, zeros);
}

/// y[index of i] = x[i].
template <unsigned n>
__global__ void scatter(Gate gate, RowIndex index, FloatsIn x, FloatsOut y,
                        uint64_t columns) {
  if (closed(gate))
    return;
  if (blockIdx.x == 0)
    return index.check();
  const uint64_t row = blockIdx.x - 1;
  const int64_t to = index.at(row, index.wanted());
  if (to >= 0)
    copyRow<n>(x, row, y, static_cast<uint64_t>(to), columns);
}

Grid rowGrid(uint64_t rows) {
  return {.x = static_cast<unsigned>(rows + 1), .threads = rowThreads};
}

} // namespace

Status embed_fwd(const Call &call) {
  namespace op = kernels::embed_fwd;
  const uint64_t rows = call[op::ids].elements(),
                 columns = call[op::table].columns;
  const RowIndex index{call[op::ids].as<int32_t>(),
                       rows,
                       0,
                       call[op::table].rows,
                       rows,
                       nullptr,
                       FaultKind::id,
                       call.fault};
  if (isQuantized(call[op::table].type))
    return embedQuantized(
        call, index,
        readQuantized(call, {op::table, op::absmax, op::nested_absmax,
                             op::tables, op::block, op::nested}),
        call[op::y], static_cast<float>(call.real(op::scale)));
  return launch(call, rowGrid(rows),
                columns % packSize == 0 ? gather<packSize> : gather<1>, index,
                FloatsIn(call[op::table]), FloatsOut(call[op::y]), columns,
                static_cast<float>(call.real(op::scale)));
}

Status gather_rows(const Call &call) {
  namespace op = kernels::gather_rows;
  const uint64_t rows = call[op::y].rows, columns = call[op::y].columns;
  const RowIndex index{call[op::index].as<int32_t>(),
                       call[op::index].elements(),
                       call.integer(op::row_start),
                       call[op::x].rows,
                       rows,
                       call[op::count].as<int32_t>(),
                       FaultKind::row,
                       call.fault};
  return launch(call, rowGrid(rows),
                columns % packSize == 0 ? gather<packSize> : gather<1>, index,
                FloatsIn(call[op::x]), FloatsOut(call[op::y]), columns, 1.0f);
}

Status scatter_rows(const Call &call) {
  namespace op = kernels::scatter_rows;
  const uint64_t rows = call[op::x].rows, columns = call[op::x].columns;
  const RowIndex index{call[op::index].as<int32_t>(),
                       call[op::index].elements(),
                       call.integer(op::row_start),
                       call[op::y].rows,
                       rows,
                       call[op::count].as<int32_t>(),
                       FaultKind::row,
                       call.fault};
  return launch(call, rowGrid(rows),
                columns % packSize == 0 ? scatter<packSize> : scatter<1>, index,
                FloatsIn(call[op::x]), FloatsOut(call[op::y]), columns);
}

} // namespace peft::cuda
