//===- LoraDownSums.cu - da += dt^T mask(x) on tensor cores ---------------===//
//
// A block sums 32 features of some ranks over a part of the rows; its warps
// take turns over tiles of 16 rows. The sums of warps, then those of parts, are
// added in order.
//
//===----------------------------------------------------------------------===//
#include "LoraFragments.h"

#include "cuda/Lora.h"
#include "cuda/PlainGemm.h"
#include "schema/CudaParts.h"

#include <algorithm>

namespace peft::cuda {

namespace {

constexpr unsigned sumWarps = 4, sumFeatures = 32;

template <typename T> struct SumOperands {
  const T *dt, *x;
  float *parts; ///< [gridDim.z][rank][columns]
  uint64_t rank, columns;
  uint64_t partRows; ///< a multiple of 16
  Dropout dropout;
  RowLimit limit;
  FaultSlot *fault;
};

/// Adds the product of 16 rows: lane (g, t) has rows 4t .. 4t + 3, of dt the
/// ranks g and g + 8 of every rank tile and of x the features 4g .. 4g + 3, one
/// in each of four column tiles.
template <typename T, unsigned rankTiles>
__device__ inline void addRows(float (&sums)[rankTiles][4][4],
                               const SumOperands<T> &at, uint64_t firstRow,
                               uint64_t usable, uint64_t firstRank,
                               uint64_t firstFeature, bool aligned,
                               const DropoutMasks &masks) {
  const unsigned lane = threadIdx.x % 32;
  const uint64_t row = firstRow + lane % 4 * 4;
  const uint64_t feature = firstFeature + lane / 4 * 4;
  Values<4> x[4];
#pragma unroll
  for (unsigned i = 0; i < 4; ++i) {
    x[i] = Values<4>{};
    if (row + i < usable) {
      x[i] = loadValues<4>(at.x + (row + i) * at.columns, feature, at.columns,
                           aligned);
      maskFour(x[i].v, masks, masks.place(row + i), feature / 4);
    }
  }
  uint32_t right[4][2];
#pragma unroll
  for (unsigned n = 0; n < 4; ++n) {
    right[n][0] = packPair<T>(x[0].v[n], x[1].v[n]);
    right[n][1] = packPair<T>(x[2].v[n], x[3].v[n]);
  }
#pragma unroll
  for (unsigned r = 0; r < rankTiles; ++r) {
    uint32_t left[4];
#pragma unroll
    for (unsigned i = 0; i < 4; ++i) {
      const uint64_t rank = firstRank + r * 16 + lane / 4 + i % 2 * 8;
      float pair[2];
#pragma unroll
      for (unsigned j = 0; j < 2; ++j) {
        const uint64_t of = row + i / 2 * 2 + j;
        pair[j] = of < usable && rank < at.rank
                      ? toFloat(at.dt[of * at.rank + rank])
                      : 0.0f;
      }
      left[i] = packPair<T>(pair[0], pair[1]);
    }
#pragma unroll
    for (unsigned n = 0; n < 4; ++n)
      multiply<T>(sums[r][n], left, right[n]);
  }
}

template <typename T, unsigned rankTiles>
__global__ void __launch_bounds__(sumWarps * 32)
    loraSums(Gate gate, SumOperands<T> at) {
  if (closed(gate))
    return;
  __shared__ float parts[sumWarps][rankTiles * 16][sumFeatures];
  const uint64_t usable = usableRows(
      at.limit, at.dropout, at.fault,
      threadIdx.x == 0 && blockIdx.x == 0 && blockIdx.y == 0 &&
          blockIdx.z == 0);
  const uint64_t firstFeature = uint64_t(blockIdx.x) * sumFeatures;
  const uint64_t firstRank = uint64_t(blockIdx.y) * rankTiles * 16;
  const uint64_t begin = blockIdx.z * at.partRows;
  const uint64_t end =
      begin + at.partRows < usable ? begin + at.partRows : usable;
  const unsigned lane = threadIdx.x % 32, warp = threadIdx.x / 32;
  const DropoutMasks masks(at.dropout, at.limit.rowStart);
  const bool aligned = at.columns % 4 == 0;
  float sums[rankTiles][4][4] = {};
  for (uint64_t row = begin + warp * 16; row < end; row += sumWarps * 16)
    addRows<T, rankTiles>(sums, at, row, end, firstRank, firstFeature, aligned,
                          masks);
  // Column 2t + i of tile n is feature 4 (2t + i) + n.
#pragma unroll
  for (unsigned r = 0; r < rankTiles; ++r)
#pragma unroll
    for (unsigned n = 0; n < 4; ++n)
#pragma unroll
      for (unsigned i = 0; i < 4; ++i)
        parts[warp][r * 16 + lane / 4 + i / 2 * 8]
             [(lane % 4 * 2 + i % 2) * 4 + n] = sums[r][n][i];
  __syncthreads();
  float *out = at.parts + blockIdx.z * (at.rank * at.columns);
  for (unsigned i = threadIdx.x; i < rankTiles * 16 * sumFeatures;
       i += blockDim.x) {
    const uint64_t rank = firstRank + i / sumFeatures;
    const uint64_t feature = firstFeature + i % sumFeatures;
    float sum = 0;
    for (unsigned w = 0; w < sumWarps; ++w)
      sum += parts[w][i / sumFeatures][i % sumFeatures];
    if (rank < at.rank && feature < at.columns)
      out[rank * at.columns + feature] = sum;
  }
}

__global__ void addLoraParts(Gate gate, const float *parts, unsigned count,
                             uint64_t elements, float *sums) {
  if (closed(gate))
    return;
  const uint64_t i = uint64_t(blockIdx.x) * blockDim.x + threadIdx.x;
  if (i >= elements)
    return;
  float sum = sums[i];
  for (unsigned part = 0; part < count; ++part)
    sum += parts[part * elements + i];
  sums[i] = sum;
}

template <typename T, unsigned rankTiles>
Status run(const Call &call, const SumOperands<T> &operands, float *da) {
  const uint64_t parts =
      (operands.limit.rows + operands.partRows - 1) / operands.partRows;
  const unsigned ranks = rankTiles * 16;
  Status status = launch(
      call,
      Grid{.x = unsigned((operands.columns + sumFeatures - 1) / sumFeatures),
           .y = unsigned((operands.rank + ranks - 1) / ranks),
           .z = unsigned(parts),
           .threads = sumWarps * 32},
      loraSums<T, rankTiles>, operands);
  if (!status.ok())
    return status;
  const uint64_t elements = operands.rank * operands.columns;
  constexpr unsigned addThreads = 256;
  return launch(call,
                Grid{.x = unsigned((elements + addThreads - 1) / addThreads),
                     .threads = addThreads},
                addLoraParts, static_cast<const float *>(operands.parts),
                unsigned(parts), elements, da);
}

template <typename T> Status runFor(const Call &call) {
  using namespace kernels::lora_down_dw;
  const uint64_t rows = call[x].rows;
  const uint64_t parts =
      std::min((rows + cudaRankRows - 1) / cudaRankRows, cudaRankParts);
  SumOperands<T> operands = {
      call[dt].as<T>(),
      call[x].as<T>(),
      reinterpret_cast<float *>(call.workspace),
      call[dt].columns,
      call[x].columns,
      parts ? ((rows + parts - 1) / parts + 15) / 16 * 16 : 16,
      readDropout(call,
                  {index, seed, step, first_row, dropout, module_key, seq}),
      {call[count].as<int32_t>(), call.integer(row_start), rows},
      call.fault};
  if (operands.rank <= 16)
    return run<T, 1>(call, operands, call[da].as<float>());
  return run<T, 4>(call, operands, call[da].as<float>());
}

} // namespace

Status loraDownDwMasked(const Call &call) {
  switch (call[kernels::lora_down_dw::x].type) {
  case DType::bf16:
    return runFor<BF16>(call);
  case DType::f16:
    return runFor<F16>(call);
  default:
    return plainLoraDownDw(call);
  }
}

} // namespace peft::cuda
