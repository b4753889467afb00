//===- Dora.cu - norms and scales of DoRA, dropout alone ------------------===//
#include "cuda/Dropout.h"
#include "cuda/Kernels.h"
#include "cuda/Numbers.h"
#include "cuda/Reduce.h"
#include "cuda/RowIndex.h"

namespace peft::cuda {

namespace {

constexpr unsigned normRows = 8; ///< of a block: they share what is read of A

struct AdaptedWeight {
  FloatsIn w;
  const float *a, *b;
  uint64_t rows, columns, rank;
  float scale;
};

/// A block has eight rows, each thread every 256th column of them.
__global__ void adaptedNorms(Gate gate, AdaptedWeight at, float *norm) {
  if (closed(gate))
    return;
  const uint64_t first = uint64_t(blockIdx.x) * normRows;
  float squares[normRows] = {};
  for (uint64_t column = threadIdx.x; column < at.columns;
       column += blockDim.x) {
    float added[normRows] = {};
    for (uint64_t k = 0; k < at.rank; ++k) {
      const float factor = at.a[k * at.columns + column];
#pragma unroll
      for (unsigned i = 0; i < normRows; ++i)
        if (first + i < at.rows)
          added[i] = fmaf(at.b[(first + i) * at.rank + k], factor, added[i]);
    }
#pragma unroll
    for (unsigned i = 0; i < normRows; ++i) {
      if (first + i >= at.rows)
        continue;
      const float value =
          fmaf(at.scale, added[i], at.w[(first + i) * at.columns + column]);
      squares[i] = fmaf(value, value, squares[i]);
    }
  }
#pragma unroll
  for (unsigned i = 0; i < normRows; ++i) {
    const float sum = blockSum(squares[i]);
    if (threadIdx.x == 0 && first + i < at.rows)
      norm[first + i] = sqrtf(sum);
  }
}

struct ScaleColumns {
  FloatsIn x, bias, init; ///< without bias or init: zeros
  const float *magnitude, *norm;
  FloatsOut y;
  float less;
  const int32_t *count;
  int64_t rowStart;
  uint64_t rows, columns;

  template <unsigned n> __device__ void at(uint64_t i) const {
    const uint64_t column = i % columns;
    float value[n], start[n] = {}, offset[n] = {};
    x.load(i, value);
    if (init.data)
      init.load(i, start);
    if (bias.data)
      bias.load(column, offset);
    for (unsigned j = 0; j < n; ++j) {
      const float of = norm[column + j];
      const float gain = of > 0.0f ? magnitude[column + j] / of : 0.0f;
      value[j] = fmaf(gain - less, value[j], start[j] + offset[j]);
    }
    y.store(i, value);
  }
};

template <unsigned n>
__global__ void scaleColumns(Gate gate, ScaleColumns work) {
  if (closed(gate))
    return;
  const uint64_t rows = activeRows(work.count, work.rowStart, work.rows);
  const uint64_t i = (uint64_t(blockIdx.x) * blockDim.x + threadIdx.x) * n;
  if (i < rows * work.columns)
    work.at<n>(i);
}

struct DropRows {
  FloatsIn x, init; ///< without init: zeros
  FloatsOut y;
  uint64_t columns;
  bool complement;
  Dropout dropout;
  RowLimit limit;
  FaultSlot *fault;
};

/// A thread has four features of a row: those of one counter.
__global__ void dropRows(Gate gate, DropRows at) {
  if (closed(gate))
    return;
  const uint64_t usable = usableRows(at.limit, at.dropout, at.fault,
                                     threadIdx.x == 0 && blockIdx.x == 0);
  const uint64_t groups = (at.columns + 3) / 4;
  const uint64_t thread = uint64_t(blockIdx.x) * blockDim.x + threadIdx.x;
  const uint64_t row = thread / groups, group = thread % groups;
  if (row >= usable)
    return;
  const DropoutMasks masks(at.dropout, at.limit.rowStart);
  const float4 four = masks.factors(masks.place(row), uint32_t(group));
  const float factors[4] = {four.x, four.y, four.z, four.w};
  for (unsigned j = 0; j < 4 && group * 4 + j < at.columns; ++j) {
    const uint64_t i = row * at.columns + group * 4 + j;
    const float value = at.x[i];
    float result = masked(value, factors[j]);
    if (at.complement)
      result = value - result;
    else if (at.init.data)
      result = at.init[i] + result;
    at.y.set(i, result);
  }
}

} // namespace

Status dora_norm(const Call &call) {
  namespace op = kernels::dora_norm;
  const AdaptedWeight weight{FloatsIn(call[op::w]),
                             call[op::a].as<float>(),
                             call[op::b].as<float>(),
                             call[op::w].rows,
                             call[op::w].columns,
                             call[op::a].rows,
                             static_cast<float>(call.real(op::scale))};
  const Grid grid{
      .x = static_cast<unsigned>((weight.rows + normRows - 1) / normRows),
      .threads = blockThreads};
  return launch(call, grid, adaptedNorms, weight, call[op::norm].as<float>());
}

Status dora_scale(const Call &call) {
  namespace op = kernels::dora_scale;
  const ScaleColumns work{FloatsIn(call[op::x]),
                          FloatsIn(call[op::bias]),
                          FloatsIn(call[op::init]),
                          call[op::magnitude].as<float>(),
                          call[op::norm].as<float>(),
                          FloatsOut(call[op::y]),
                          static_cast<float>(call.integer(op::less)),
                          call[op::count].as<int32_t>(),
                          call.integer(op::row_start),
                          call[op::x].rows,
                          call[op::x].columns};
  const bool packs = work.columns % packSize == 0;
  const uint64_t threads = work.rows * work.columns / (packs ? packSize : 1);
  const Grid grid = gridFor(threads);
  return launch(call, grid, packs ? scaleColumns<packSize> : scaleColumns<1>,
                work);
}

Status dropout_fwd(const Call &call) {
  namespace op = kernels::dropout_fwd;
  const DropRows work{
      FloatsIn(call[op::x]),
      FloatsIn(call[op::init]),
      FloatsOut(call[op::y]),
      call[op::x].columns,
      call.integer(op::complement) != 0,
      readDropout(call, {op::index, op::seed, op::step, op::first_row,
                         op::dropout, op::module_key, op::seq}),
      {call[op::count].as<int32_t>(), call.integer(op::row_start),
       call[op::x].rows},
      call.fault};
  const uint64_t threads = work.limit.rows * ((work.columns + 3) / 4);
  return launch(call, gridFor(threads), dropRows, work);
}

} // namespace peft::cuda
