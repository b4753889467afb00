//===- LoraDx.cu - init + mask(dt a) on tensor cores ----------------------===//
//
// A warp owns 64 features of some tiles of 16 rows. For a rank of up to 64 it
// keeps its part of a in registers.
//
//===----------------------------------------------------------------------===//
#include "LoraFragments.h"

#include "cuda/Lora.h"
#include "cuda/PlainGemm.h"

namespace peft::cuda {

namespace {

constexpr unsigned dxWarps = 4, dxFeatures = 64, dxRowTiles = 4;
constexpr unsigned dxRows = dxWarps * dxRowTiles * 16; ///< of a block

template <typename T> struct DxOperands {
  const T *dt;
  Weight a;
  const float *init; ///< or null
  float *out;
  Dropout dropout;
  RowLimit limit;
  FaultSlot *fault;
};

/// Ranks [first, first + 16 tiles) of the 64 features as B. Tile 2i + j of
/// eight columns has at column g feature 16i + 4 (g / 2) + 2j + g % 2, so that
/// a lane gets sums of four features in a row from two tiles.
template <typename T, unsigned rankTiles>
__device__ inline void loadRight(uint32_t (&right)[rankTiles][8][2],
                                 const Weight &a, uint64_t firstRank,
                                 uint64_t firstFeature) {
  const unsigned g = threadIdx.x % 32 / 4, t = threadIdx.x % 4;
#pragma unroll
  for (unsigned r = 0; r < rankTiles; ++r)
#pragma unroll
    for (unsigned n = 0; n < 8; ++n) {
      const uint64_t feature =
          firstFeature + n / 2 * 16 + g / 2 * 4 + n % 2 * 2 + g % 2;
#pragma unroll
      for (unsigned i = 0; i < 2; ++i) {
        const uint64_t rank = firstRank + r * 16 + i * 8 + t * 2;
        right[r][n][i] =
            packPair<T>(a.at(rank, feature), a.at(rank + 1, feature));
      }
    }
}

/// Two ranks of a row of dt, zero outside.
template <typename T>
__device__ inline uint32_t pairOf(const T *row, uint64_t rank, uint64_t ranks) {
  const float low = rank < ranks ? toFloat(row[rank]) : 0.0f;
  const float high = rank + 1 < ranks ? toFloat(row[rank + 1]) : 0.0f;
  return packPair<T>(low, high);
}

/// sums += 16 rows of dt by `right`.
template <typename T, unsigned rankTiles>
__device__ inline void addRanks(float (&sums)[8][4], const DxOperands<T> &at,
                                uint64_t firstRow, uint64_t usable,
                                uint64_t firstRank,
                                const uint32_t (&right)[rankTiles][8][2]) {
  const unsigned g = threadIdx.x % 32 / 4, t = threadIdx.x % 4;
#pragma unroll
  for (unsigned r = 0; r < rankTiles; ++r) {
    uint32_t left[4];
#pragma unroll
    for (unsigned i = 0; i < 4; ++i) {
      const uint64_t row = firstRow + g + i % 2 * 8;
      const uint64_t rank = firstRank + r * 16 + i / 2 * 8 + t * 2;
      left[i] = row < usable
                    ? pairOf(at.dt + row * at.a.rows, rank, at.a.rows)
                    : 0u;
    }
#pragma unroll
    for (unsigned n = 0; n < 8; ++n)
      multiply<T>(sums[n], left, right[r][n]);
  }
}

/// Four features in a row.
__device__ inline void storeFour(float *out, const float (&values)[4],
                                 unsigned count, bool aligned) {
  if (aligned && count == 4) {
    packAt<4>(out) = {values[0], values[1], values[2], values[3]};
    return;
  }
#pragma unroll
  for (unsigned i = 0; i < 4; ++i)
    if (i < count)
      out[i] = values[i];
}

/// Masks the sums of 16 rows, adds init and stores.
template <typename T>
__device__ inline void finishRows(const float (&sums)[8][4],
                                  const DxOperands<T> &at, uint64_t firstRow,
                                  uint64_t usable, uint64_t firstFeature,
                                  const DropoutMasks &masks) {
  const unsigned g = threadIdx.x % 32 / 4, t = threadIdx.x % 4;
  const uint64_t columns = at.a.columns;
  const bool aligned = columns % 4 == 0;
#pragma unroll
  for (unsigned half = 0; half < 2; ++half) {
    const uint64_t row = firstRow + g + half * 8;
    if (row >= usable)
      continue;
    const DropoutPlace place = masks.place(row);
#pragma unroll
    for (unsigned i = 0; i < 4; ++i) {
      const uint64_t feature = firstFeature + i * 16 + t * 4;
      if (feature >= columns)
        continue;
      float values[4] = {
          sums[2 * i][half * 2], sums[2 * i][half * 2 + 1],
          sums[2 * i + 1][half * 2], sums[2 * i + 1][half * 2 + 1]};
      maskFour(values, masks, place, feature / 4);
      const uint64_t element = row * columns + feature;
      if (at.init) {
        const Values<4> init = loadValues<4>(at.init + row * columns, feature,
                                             columns, aligned);
#pragma unroll
        for (unsigned j = 0; j < 4; ++j)
          values[j] = init.v[j] + values[j];
      }
      const unsigned count =
          columns - feature < 4 ? unsigned(columns - feature) : 4;
      storeFour(at.out + element, values, count, aligned);
    }
  }
}

template <typename T, unsigned rankTiles>
__global__ void __launch_bounds__(dxWarps * 32)
    loraDx(Gate gate, DxOperands<T> at) {
  if (closed(gate))
    return;
  const uint64_t usable =
      usableRows(at.limit, at.dropout, at.fault,
                 threadIdx.x == 0 && blockIdx.x == 0 && blockIdx.y == 0);
  const uint64_t begin = uint64_t(blockIdx.y) * dxRows;
  const uint64_t firstFeature = uint64_t(blockIdx.x) * dxFeatures;
  const DropoutMasks masks(at.dropout, at.limit.rowStart);
  const bool kept = at.a.rows <= rankTiles * 16;
  uint32_t right[rankTiles][8][2];
  if (kept)
    loadRight<T, rankTiles>(right, at.a, 0, firstFeature);
  for (unsigned tile = threadIdx.x / 32; tile < dxRows / 16; tile += dxWarps) {
    const uint64_t row = begin + tile * 16;
    if (row >= usable)
      break;
    float sums[8][4] = {};
    for (uint64_t rank = 0; rank < at.a.rows; rank += rankTiles * 16) {
      if (!kept)
        loadRight<T, rankTiles>(right, at.a, rank, firstFeature);
      addRanks<T, rankTiles>(sums, at, row, usable, rank, right);
    }
    finishRows(sums, at, row, usable, firstFeature, masks);
  }
}

template <typename T, unsigned rankTiles>
Status run(const Call &call, const DxOperands<T> &operands) {
  return launch(
      call,
      Grid{.x = unsigned((operands.a.columns + dxFeatures - 1) / dxFeatures),
           .y = unsigned((operands.limit.rows + dxRows - 1) / dxRows),
           .threads = dxWarps * 32},
      loraDx<T, rankTiles>, operands);
}

template <typename T> Status runFor(const Call &call, const Operand &out) {
  using namespace kernels::linear_lora_dx;
  const DxOperands<T> operands = {
      call[dt].as<T>(),
      weightOf(call[a]),
      call[init].as<float>(),
      out.as<float>(),
      readDropout(call,
                  {index, seed, step, first_row, dropout, module_key, seq}),
      {call[count].as<int32_t>(), call.integer(row_start), call[dt].rows},
      call.fault};
  if (operands.a.rows <= 16)
    return run<T, 1>(call, operands);
  return run<T, 4>(call, operands);
}

/// The same by PlainGemm.
Status runPlain(const Call &call, const Operand &out) {
  using namespace kernels::linear_lora_dx;
  PlainGemm gemm;
  gemm.compute = call[dt].type;
  gemm.rows = call[dt].rows;
  gemm.columns = call[a].columns;
  gemm.products[0] = {call[dt], call[a], false, false, call[dt].columns};
  gemm.firstApart = true;
  gemm.init = call[init];
  gemm.out = out;
  gemm.masked = Masked::first;
  gemm.dropout = readDropout(
      call, {index, seed, step, first_row, dropout, module_key, seq});
  gemm.count = call[count];
  gemm.rowStart = call.integer(row_start);
  return plainGemm(call, gemm);
}

} // namespace

Status loraDxMasked(const Call &call, const Operand &out) {
  switch (call[kernels::linear_lora_dx::dt].type) {
  case DType::bf16:
    return runFor<BF16>(call, out);
  case DType::f16:
    return runFor<F16>(call, out);
  default:
    return runPlain(call, out);
  }
}

} // namespace peft::cuda
