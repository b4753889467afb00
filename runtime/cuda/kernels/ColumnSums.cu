//===- ColumnSums.cu - gradients that sum over all rows -------------------===//
//
// Rows are split into parts; a block sums the columns of a tile over the rows
// of one part, a second launch adds the parts to the sum in order. The split
// depends on the sizes only (and on the count), so two runs give the same bits.
//
//===----------------------------------------------------------------------===//
#include "cuda/Kernels.h"
#include "cuda/Numbers.h"
#include "cuda/RowIndex.h"
#include "schema/CudaParts.h"

namespace peft::cuda {

namespace {

constexpr unsigned tileColumns = 32, tileRows = 8;

/// dy[row][column] x[row][column] rstd[row].
struct WeightTerm {
  FloatsIn dy, x;
  const float *rstd;

  __device__ float after(float sum, uint64_t row, uint64_t at) const {
    return fmaf(dy[at], x[at] * rstd[row], sum);
  }
};

struct BiasTerm {
  FloatsIn dy;

  __device__ float after(float sum, uint64_t, uint64_t at) const {
    return sum + dy[at];
  }
};

/// dy[row][column] x[row][column] / norm[column].
struct MagnitudeTerm {
  FloatsIn dy, x;
  const float *norm;
  uint64_t columns;

  __device__ float after(float sum, uint64_t row, uint64_t at) const {
    const float of = norm[at - row * columns];
    const float inverse = of > 0.0f ? 1.0f / of : 0.0f;
    return fmaf(dy[at], x[at] * inverse, sum);
  }
};

/// Block (tile, part): parts[part][column] for the columns of a tile.
template <typename Term>
__global__ void sumPart(Gate gate, Term term, RowLimit limit, unsigned columns,
                        float *parts) {
  if (closed(gate))
    return;
  __shared__ float sums[tileRows][tileColumns];
  const unsigned lane = threadIdx.x % tileColumns,
                 first = threadIdx.x / tileColumns;
  const unsigned column = blockIdx.x * tileColumns + lane;
  const uint64_t rows = activeRows(limit.count, limit.rowStart, limit.rows);
  const uint64_t length = (rows + gridDim.y - 1) / gridDim.y;
  const uint64_t begin = length * blockIdx.y;
  const uint64_t end = begin + length < rows ? begin + length : rows;
  float sum = 0;
  if (column < columns)
    for (uint64_t row = begin + first; row < end; row += tileRows)
      sum = term.after(sum, row, row * columns + column);
  sums[first][lane] = sum;
  __syncthreads();
  if (first != 0 || column >= columns)
    return;
  for (unsigned i = 1; i < tileRows; ++i)
    sum += sums[i][lane];
  parts[uint64_t(blockIdx.y) * columns + column] = sum;
}

__global__ void addParts(Gate gate, const float *parts, unsigned count,
                         unsigned columns, float *sum) {
  if (closed(gate))
    return;
  const unsigned column = blockIdx.x * blockDim.x + threadIdx.x;
  if (column >= columns)
    return;
  float total = sum[column];
  for (unsigned i = 0; i < count; ++i)
    total += parts[uint64_t(i) * columns + column];
  sum[column] = total;
}

template <typename Term>
Status sumColumns(const Call &call, Term term, RowLimit limit,
                  const Operand &sum) {
  const unsigned columns = static_cast<unsigned>(sum.elements());
  // A part has at least 64 rows, so that few rows are not many launches' work.
  uint64_t parts = (limit.rows + 63) / 64;
  if (parts > cudaColumnParts)
    parts = cudaColumnParts;
  if (parts == 0)
    return {};
  float *workspace = reinterpret_cast<float *>(call.workspace);
  const Grid tiles{.x = (columns + tileColumns - 1) / tileColumns,
                   .y = static_cast<unsigned>(parts),
                   .threads = tileColumns * tileRows};
  PEFT_TRY(launch(call, tiles, sumPart<Term>, term, limit, columns, workspace));
  constexpr unsigned threads = 128;
  return launch(
      call, Grid{.x = (columns + threads - 1) / threads, .threads = threads},
      addParts, workspace, parts, columns, sum.as<float>());
}

} // namespace

Status rms_norm_dw(const Call &call) {
  namespace op = kernels::rms_norm_dw;
  return sumColumns(call,
                    WeightTerm{FloatsIn(call[op::dy]), FloatsIn(call[op::x]),
                               call[op::rstd].as<float>()},
                    RowLimit{.rows = call[op::rstd].elements()},
                    call[op::dweight]);
}

Status bias_dw(const Call &call) {
  namespace op = kernels::bias_dw;
  return sumColumns(call, BiasTerm{FloatsIn(call[op::dy])},
                    RowLimit{call[op::count].as<int32_t>(),
                             call.integer(op::row_start), call[op::dy].rows},
                    call[op::dbias]);
}

Status dora_dw(const Call &call) {
  namespace op = kernels::dora_dw;
  return sumColumns(call,
                    MagnitudeTerm{FloatsIn(call[op::dy]), FloatsIn(call[op::x]),
                                  call[op::norm].as<float>(),
                                  call[op::dy].columns},
                    RowLimit{call[op::count].as<int32_t>(),
                             call.integer(op::row_start), call[op::dy].rows},
                    call[op::dmagnitude]);
}

} // namespace peft::cuda
