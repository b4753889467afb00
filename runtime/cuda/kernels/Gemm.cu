//===- Gemm.cu - matrix products on CUDA cores ----------------------------===//
//
// 128 threads sum a tile of 64 x 64, each 8 x 4 of it, over steps of 16.
//
//===----------------------------------------------------------------------===//
#include "cuda/Numbers.h"
#include "cuda/PlainGemm.h"

#include <algorithm>

namespace peft::cuda {

namespace {

constexpr unsigned tileSize = 64, depthStep = 16, gemmThreads = 128;
/// Rows of the reduction that are worth a part of their own.
constexpr uint64_t depthOfPart = 512;
constexpr uint64_t mostParts = 16;
/// A product of this many tiles keeps a card busy in one part.
constexpr uint64_t enoughBlocks = 512;

/// A matrix of any float type, as device code reads it.
struct Matrix {
  const std::byte *data;
  DType type;
  uint64_t stride;
  bool transposed;

  __device__ float at(uint64_t row, uint64_t column) const {
    const uint64_t i =
        transposed ? column * stride + row : row * stride + column;
    if (type == DType::f32)
      return reinterpret_cast<const float *>(data)[i];
    if (type == DType::bf16)
      return toFloat(reinterpret_cast<const BF16 *>(data)[i]);
    return toFloat(reinterpret_cast<const F16 *>(data)[i]);
  }
};

__device__ inline float roundTo(DType type, float value) {
  if (type == DType::f32)
    return value;
  return type == DType::bf16 ? toFloat(fromFloat<BF16>(value))
                             : toFloat(fromFloat<F16>(value));
}

struct DeviceProduct {
  Matrix left, right;
  uint64_t depth;
};

/// PlainGemm as the kernel takes it.
struct DeviceGemm {
  DType compute;
  uint64_t rows, columns;
  DeviceProduct products[2];
  unsigned productCount;
  bool firstApart;
  Matrix init, bias; ///< no data: absent
  std::byte *out;
  DType outType;
  float scale;
  bool scalesStart;
  Masked masked;
  Dropout dropout;
  RowLimit limit;
  bool countsDepth;
  float *parts; ///< [gridDim.z][rows][columns], or null
  uint64_t partDepth;
  FaultSlot *fault;
};

struct GemmTiles {
  float left[depthStep][tileSize + 4], right[depthStep][tileSize + 4];
};

/// The thread's rows are `row` + i, its columns `column` + j.
struct GemmSums {
  float v[8][4];
};
__device__ inline unsigned sumRow() { return threadIdx.x / 16 * 8; }
__device__ inline unsigned sumColumn() { return threadIdx.x % 16 * 4; }

/// Where a block stands: its tile, and the part of the depth it sums.
struct GemmTile {
  uint64_t row, column, rowEnd, depthBegin, depthEnd;
};

/// tile[k][i] of `matrix` (i over its outer dimension), zero outside.
template <typename Load>
__device__ inline void loadTile(float (&tile)[depthStep][tileSize + 4],
                                bool depthIsContiguous, uint64_t outer,
                                uint64_t outerEnd, uint64_t depth,
                                uint64_t depthEnd, const Load &load) {
  for (unsigned i = threadIdx.x; i < depthStep * tileSize; i += blockDim.x) {
    const unsigned k = depthIsContiguous ? i % depthStep : i / tileSize;
    const unsigned o = depthIsContiguous ? i / depthStep : i % tileSize;
    const bool valid = outer + o < outerEnd && depth + k < depthEnd;
    tile[k][o] = valid ? load(outer + o, depth + k) : 0.0f;
  }
}

/// Goes on with `sums` over one product.
__device__ inline void addProduct(const DeviceGemm &gemm,
                                  const DeviceProduct &product,
                                  const DropoutMasks &masks,
                                  const GemmTile &tile, GemmTiles &shared,
                                  GemmSums &sums) {
  auto left = [&](uint64_t row, uint64_t k) {
    const float value = roundTo(gemm.compute, product.left.at(row, k));
    if (gemm.masked != Masked::left)
      return value;
    return roundTo(gemm.compute,
                   masked(value, masks.factor(masks.place(row), k)));
  };
  auto right = [&](uint64_t column, uint64_t k) {
    const float value = roundTo(gemm.compute, product.right.at(k, column));
    if (gemm.masked != Masked::right)
      return value;
    return roundTo(gemm.compute,
                   masked(value, masks.factor(masks.place(k), column)));
  };
  const uint64_t end =
      tile.depthEnd < product.depth ? tile.depthEnd : product.depth;
  for (uint64_t k = tile.depthBegin; k < end; k += depthStep) {
    __syncthreads(); // nobody reads the tiles before
    loadTile(shared.left, !product.left.transposed, tile.row, tile.rowEnd, k,
             end, left);
    loadTile(shared.right, product.right.transposed, tile.column, gemm.columns,
             k, end, right);
    __syncthreads();
    for (unsigned d = 0; d < depthStep; ++d)
#pragma unroll
      for (unsigned i = 0; i < 8; ++i)
#pragma unroll
        for (unsigned j = 0; j < 4; ++j)
          sums.v[i][j] =
              fmaf(shared.left[d][sumRow() + i],
                   shared.right[d][sumColumn() + j], sums.v[i][j]);
  }
}

/// body(element, row, column) for the thread's elements inside the matrix.
template <typename Body>
__device__ inline void forSums(const DeviceGemm &gemm, const GemmTile &tile,
                               GemmSums &sums, const Body &body) {
#pragma unroll
  for (unsigned i = 0; i < 8; ++i)
#pragma unroll
    for (unsigned j = 0; j < 4; ++j) {
      const uint64_t row = tile.row + sumRow() + i;
      const uint64_t column = tile.column + sumColumn() + j;
      if (row < tile.rowEnd && column < gemm.columns)
        body(sums.v[i][j], row, column);
    }
}

__device__ inline float startOf(const DeviceGemm &gemm, uint64_t row,
                                uint64_t column) {
  float start = gemm.init.data ? gemm.init.at(row, column) : 0.0f;
  if (gemm.bias.data)
    start += roundTo(gemm.compute, gemm.bias.at(0, column));
  return start;
}

__device__ inline float resultOf(const DeviceGemm &gemm, float sum,
                                 uint64_t row, uint64_t column) {
  return gemm.scalesStart
             ? gemm.scale * sum
             : fmaf(gemm.scale, sum, startOf(gemm, row, column));
}

__device__ inline void storeOut(const DeviceGemm &gemm, uint64_t i,
                                float value) {
  if (gemm.outType == DType::f32)
    reinterpret_cast<float *>(gemm.out)[i] = value;
  else if (gemm.outType == DType::bf16)
    reinterpret_cast<BF16 *>(gemm.out)[i] = fromFloat<BF16>(value);
  else
    reinterpret_cast<F16 *>(gemm.out)[i] = fromFloat<F16>(value);
}

__global__ void __launch_bounds__(gemmThreads)
    multiplyPlain(Gate gate, DeviceGemm gemm) {
  if (closed(gate))
    return;
  __shared__ GemmTiles shared;
  const bool reports = threadIdx.x == 0 && blockIdx.x == 0 &&
                       blockIdx.y == 0 && blockIdx.z == 0;
  const uint64_t usable =
      usableRows(gemm.limit, gemm.dropout, gemm.fault, reports);
  GemmTile tile;
  tile.row = uint64_t(blockIdx.x) * tileSize;
  tile.column = uint64_t(blockIdx.y) * tileSize;
  tile.rowEnd = gemm.countsDepth ? gemm.rows : usable;
  tile.depthBegin = blockIdx.z * gemm.partDepth;
  tile.depthEnd = tile.depthBegin + gemm.partDepth;
  if (gemm.countsDepth && tile.depthEnd > usable)
    tile.depthEnd = usable;
  if (tile.row >= tile.rowEnd)
    return;
  const DropoutMasks masks(gemm.dropout, gemm.limit.rowStart);
  GemmSums sums;
#pragma unroll
  for (unsigned i = 0; i < 8; ++i)
#pragma unroll
    for (unsigned j = 0; j < 4; ++j)
      sums.v[i][j] = 0;
  unsigned next = 0;
  if (gemm.firstApart) {
    addProduct(gemm, gemm.products[next++], masks, tile, shared, sums);
    if (gemm.masked == Masked::first)
      forSums(gemm, tile, sums, [&](float &sum, uint64_t row, uint64_t column) {
        sum = masked(sum, masks.factor(masks.place(row), column));
      });
  }
  if (!gemm.parts && gemm.scalesStart)
    forSums(gemm, tile, sums, [&](float &sum, uint64_t row, uint64_t column) {
      sum = startOf(gemm, row, column) + sum;
    });
  for (; next < gemm.productCount; ++next)
    addProduct(gemm, gemm.products[next], masks, tile, shared, sums);
  forSums(gemm, tile, sums, [&](float &sum, uint64_t row, uint64_t column) {
    const uint64_t i = row * gemm.columns + column;
    if (gemm.parts)
      gemm.parts[blockIdx.z * (gemm.rows * gemm.columns) + i] = sum;
    else
      storeOut(gemm, i, resultOf(gemm, sum, row, column));
  });
}

__global__ void addParts(Gate gate, DeviceGemm gemm, unsigned parts) {
  if (closed(gate))
    return;
  const uint64_t i = uint64_t(blockIdx.x) * blockDim.x + threadIdx.x;
  const uint64_t elements = gemm.rows * gemm.columns;
  if (i >= elements)
    return;
  const uint64_t row = i / gemm.columns, column = i % gemm.columns;
  float sum = gemm.scalesStart ? startOf(gemm, row, column) : 0.0f;
  for (unsigned part = 0; part < parts; ++part)
    sum += gemm.parts[part * elements + i];
  storeOut(gemm, i, resultOf(gemm, sum, row, column));
}

Matrix matrixOf(const Operand &operand, bool transposed = false) {
  return {operand.data, operand.type, operand.columns, transposed};
}

DeviceGemm deviceGemm(const Call &call, const PlainGemm &gemm) {
  DeviceGemm device = {};
  device.compute = gemm.compute;
  device.rows = gemm.rows;
  device.columns = gemm.columns;
  for (unsigned i = 0; i < gemm.productCount; ++i) {
    const PlainProduct &from = gemm.products[i];
    device.products[i] = {matrixOf(from.left, from.leftTransposed),
                          matrixOf(from.right, from.rightTransposed),
                          from.depth};
    device.partDepth = std::max(device.partDepth, from.depth);
  }
  device.productCount = gemm.productCount;
  device.firstApart = gemm.firstApart;
  device.init = matrixOf(gemm.init);
  device.bias = matrixOf(gemm.bias);
  device.out = gemm.out.data;
  device.outType = gemm.out.type;
  device.scale = gemm.scale;
  device.scalesStart = gemm.scalesStart;
  device.masked = gemm.dropout.active ? gemm.masked : Masked::nothing;
  device.dropout = gemm.dropout;
  device.limit = {gemm.count.as<int32_t>(), gemm.rowStart,
                  gemm.countsDepth ? gemm.products[0].depth : gemm.rows};
  device.countsDepth = gemm.countsDepth;
  device.fault = call.fault;
  return device;
}

} // namespace

Status plainGemm(const Call &call, const PlainGemm &gemm) {
  DeviceGemm device = deviceGemm(call, gemm);
  Grid grid{.x = unsigned((gemm.rows + tileSize - 1) / tileSize),
            .y = unsigned((gemm.columns + tileSize - 1) / tileSize),
            .threads = gemmThreads};
  const uint64_t elements = gemm.rows * gemm.columns;
  uint64_t parts = std::min({(device.partDepth + depthOfPart - 1) / depthOfPart,
                             mostParts, enoughBlocks / (grid.x * grid.y + 1)});
  const bool limitsRows = gemm.count && !gemm.countsDepth;
  if (gemm.productCount > 1 || gemm.firstApart || limitsRows || elements == 0)
    parts = 1;
  else
    parts = std::min(parts, gemm.scratchBytes / (elements * sizeof(float)));
  if (parts <= 1)
    return launch(call, grid, multiplyPlain, device);
  device.parts = reinterpret_cast<float *>(gemm.scratch);
  device.partDepth = (device.partDepth + parts - 1) / parts;
  device.partDepth = (device.partDepth + depthStep - 1) / depthStep * depthStep;
  grid.z = unsigned(parts);
  if (Status status = launch(call, grid, multiplyPlain, device); !status.ok())
    return status;
  constexpr unsigned addThreads = 256;
  return launch(call,
                Grid{.x = unsigned((elements + addThreads - 1) / addThreads),
                     .threads = addThreads},
                addParts, device, unsigned(parts));
}

} // namespace peft::cuda
