//===- Factors.cu - pairs of low-rank factors, one trained, one not -------===//
#include "cuda/Kernels.h"
#include "cuda/Numbers.h"
#include "cuda/RowIndex.h"

namespace peft::cuda {

namespace {

/// Rows of y are `left` elements of a and then `right` of b.
__global__ void joinRows(Gate gate, const float *a, const float *b, float *y,
                         uint64_t left, uint64_t right, uint64_t elements) {
  if (closed(gate))
    return;
  const uint64_t i = uint64_t(blockIdx.x) * blockDim.x + threadIdx.x;
  if (i >= elements)
    return;
  const uint64_t row = i / (left + right), at = i % (left + right);
  y[i] = at < left ? a[row * left + at] : b[row * right + at - left];
}

struct FirstColumns {
  FloatsIn x;
  FloatsOut y;
  uint64_t from, to; ///< columns
  const int32_t *count;
  int64_t rowStart;
  uint64_t rows;
};

__global__ void takeColumns(Gate gate, FirstColumns at) {
  if (closed(gate))
    return;
  const uint64_t i = uint64_t(blockIdx.x) * blockDim.x + threadIdx.x;
  if (i < activeRows(at.count, at.rowStart, at.rows) * at.to)
    at.y.set(i, at.x[i / at.to * at.from + i % at.to]);
}

} // namespace

Status join(const Call &call) {
  namespace op = kernels::join;
  const Operand &a = call[op::a], &b = call[op::b], &y = call[op::y];
  // One below the other is one row beside one row.
  const bool beside = call.integer(op::beside) != 0;
  const uint64_t left = beside ? a.columns : a.elements(),
                 right = beside ? b.columns : b.elements();
  return launch(call, gridFor(y.elements()), joinRows, a.as<float>(),
                b.as<float>(), y.as<float>(), left, right, y.elements());
}

Status first_columns(const Call &call) {
  namespace op = kernels::first_columns;
  const FirstColumns work{FloatsIn(call[op::x]),
                          FloatsOut(call[op::y]),
                          call[op::x].columns,
                          call[op::y].columns,
                          call[op::count].as<int32_t>(),
                          call.integer(op::row_start),
                          call[op::x].rows};
  return launch(call, gridFor(call[op::y].elements()), takeColumns, work);
}

} // namespace peft::cuda
