//===- Softcap.cu - the soft cap of logits --------------------------------===//
//
// A block per row and 2,048 columns. Gradients of rows that the count leaves
// out are zeros, because library products read them.
//
//===----------------------------------------------------------------------===//
#include "cuda/Kernels.h"
#include "cuda/Numbers.h"
#include "cuda/RowIndex.h"

namespace peft::cuda {

namespace {

constexpr unsigned capColumns = blockThreads * packSize;

/// The rows that a launch works on.
struct CountedRows {
  uint64_t rows = 0, columns = 0;
  const int32_t *count = nullptr;
  int64_t rowStart = 0;

  __device__ bool active(uint64_t row) const {
    return row < activeRows(count, rowStart, rows);
  }
};

struct CapForward {
  FloatsIn x;
  FloatsOut y;
  float cap;

  template <unsigned n> __device__ void at(uint64_t i) const {
    float values[n];
    x.load(i, values);
    for (unsigned j = 0; j < n; ++j)
      values[j] = cap * tanhf(values[j] / cap);
    y.store(i, values);
  }
  template <unsigned n> __device__ void skip(uint64_t) const {}
};

struct CapBackward {
  FloatsIn dy, y;
  FloatsOut dx;
  float cap;

  template <unsigned n> __device__ void at(uint64_t i) const {
    float values[n], of[n];
    dy.load(i, values);
    y.load(i, of);
    for (unsigned j = 0; j < n; ++j) {
      const float t = of[j] / cap;
      values[j] *= fmaf(-t, t, 1.0f);
    }
    dx.store(i, values);
  }
  template <unsigned n> __device__ void skip(uint64_t i) const {
    const float zeros[n] = {};
    dx.store(i, zeros);
  }
};

template <unsigned n, typename Work>
__global__ void everyRow(Gate gate, CountedRows rows, Work work) {
  if (closed(gate))
    return;
  const uint64_t row = blockIdx.x;
  const uint64_t first = uint64_t(blockIdx.y) * capColumns;
  const bool active = rows.active(row);
  for (uint64_t i = first + threadIdx.x * n;
       i < first + capColumns && i < rows.columns; i += blockThreads * n) {
    if (active)
      work.template at<n>(row * rows.columns + i);
    else
      work.template skip<n>(row * rows.columns + i);
  }
}

template <typename Work>
Status launchRows(const Call &call, const Operand &y, const Operand &count,
                  int64_t rowStart, Work work) {
  const CountedRows rows{y.rows, y.columns, count.as<int32_t>(), rowStart};
  const Grid grid{
      .x = static_cast<unsigned>(y.rows),
      .y = static_cast<unsigned>((y.columns + capColumns - 1) / capColumns),
      .threads = blockThreads};
  return launch(call, grid,
                y.columns % packSize == 0 ? everyRow<packSize, Work>
                                          : everyRow<1, Work>,
                rows, work);
}

} // namespace

Status softcap_fwd(const Call &call) {
  namespace op = kernels::softcap_fwd;
  return launchRows(call, call[op::y], call[op::count],
                    call.integer(op::row_start),
                    CapForward{FloatsIn(call[op::x]), FloatsOut(call[op::y]),
                               static_cast<float>(call.real(op::cap))});
}

Status softcap_bwd(const Call &call) {
  namespace op = kernels::softcap_bwd;
  return launchRows(call, call[op::y], call[op::count],
                    call.integer(op::row_start),
                    CapBackward{FloatsIn(call[op::dy]), FloatsIn(call[op::y]),
                                FloatsOut(call[op::dx]),
                                static_cast<float>(call.real(op::cap))});
}

} // namespace peft::cuda
