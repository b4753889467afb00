//===- LoraDown.cu - t = scale (mask(x) a^T) on tensor cores --------------===//
//
// A block owns 16 rows of t; its warps take turns over the features and add
// their sums in the order of warps.
//
//===----------------------------------------------------------------------===//
#include "LoraFragments.h"

#include "cuda/Lora.h"
#include "cuda/PlainGemm.h"

namespace peft::cuda {

namespace {

constexpr unsigned downWarps = 8;

template <typename T> struct DownOperands {
  const T *x;
  Weight a;
  T *t;
  float scale;
  Dropout dropout;
  RowLimit limit;
  FaultSlot *fault;
};

/// One of the lane's two rows of x.
template <typename T> struct DownRow {
  const T *x;
  DropoutPlace place;
  bool active;

  /// Features [first, first + 8), masked and scaled; not yet rounded.
  __device__ Values<8> load(uint64_t first, uint64_t columns, bool aligned,
                            const DropoutMasks &masks) const {
    if (!active)
      return Values<8>{};
    Values<8> values = loadValues<8>(x, first, columns, aligned);
    maskFour(values.v, masks, place, first / 4);
    maskFour(values.v + 4, masks, place, first / 4 + 1);
    return values;
  }
};

/// Adds the product of 32 features: lane (g, t) has features 8t .. 8t + 7 of
/// rows g and g + 8 of x and of rows g of every column tile of a.
template <typename T, unsigned tiles>
__device__ inline void addFeatures(float (&sums)[tiles][4],
                                   const DownRow<T> (&rows)[2], const Weight &a,
                                   uint64_t firstColumn, uint64_t feature,
                                   bool aligned, const DropoutMasks &masks) {
  const unsigned lane = threadIdx.x % 32;
  const uint64_t first = feature + lane % 4 * 8;
  const Values<8> upper = rows[0].load(first, a.columns, aligned, masks);
  const Values<8> lower = rows[1].load(first, a.columns, aligned, masks);
  uint32_t left[2][4];
#pragma unroll
  for (unsigned s = 0; s < 2; ++s) {
    left[s][0] = packPair<T>(upper.v[4 * s], upper.v[4 * s + 1]);
    left[s][1] = packPair<T>(lower.v[4 * s], lower.v[4 * s + 1]);
    left[s][2] = packPair<T>(upper.v[4 * s + 2], upper.v[4 * s + 3]);
    left[s][3] = packPair<T>(lower.v[4 * s + 2], lower.v[4 * s + 3]);
  }
#pragma unroll
  for (unsigned n = 0; n < tiles; ++n) {
    const Values<8> of =
        a.load<8>(firstColumn + n * 8 + lane / 4, first, aligned);
#pragma unroll
    for (unsigned s = 0; s < 2; ++s) {
      const uint32_t right[2] = {
          packPair<T>(of.v[4 * s], of.v[4 * s + 1]),
          packPair<T>(of.v[4 * s + 2], of.v[4 * s + 3])};
      multiply<T>(sums[n], left[s], right);
    }
  }
}

template <typename T, unsigned tiles>
__global__ void __launch_bounds__(downWarps * 32)
    loraDown(Gate gate, DownOperands<T> at) {
  if (closed(gate))
    return;
  __shared__ float parts[downWarps][16][tiles * 8];
  const uint64_t usable =
      usableRows(at.limit, at.dropout, at.fault,
                 threadIdx.x == 0 && blockIdx.x == 0 && blockIdx.y == 0);
  const uint64_t firstRow = uint64_t(blockIdx.x) * 16;
  if (firstRow >= usable)
    return;
  const uint64_t firstColumn = uint64_t(blockIdx.y) * tiles * 8;
  const unsigned lane = threadIdx.x % 32, warp = threadIdx.x / 32;
  const DropoutMasks masks(at.dropout, at.limit.rowStart);
  DownRow<T> rows[2];
#pragma unroll
  for (unsigned i = 0; i < 2; ++i) {
    const uint64_t row = firstRow + lane / 4 + i * 8;
    rows[i].active = row < usable;
    rows[i].x = at.x + (rows[i].active ? row : 0) * at.a.columns;
    rows[i].place = rows[i].active ? masks.place(row) : DropoutPlace{0, 0};
  }
  const bool aligned = at.a.columns % 8 == 0;
  float sums[tiles][4] = {};
  for (uint64_t feature = warp * 32; feature < at.a.columns;
       feature += downWarps * 32)
    addFeatures<T, tiles>(sums, rows, at.a, firstColumn, feature, aligned,
                          masks);
#pragma unroll
  for (unsigned n = 0; n < tiles; ++n)
#pragma unroll
    for (unsigned i = 0; i < 4; ++i)
      parts[warp][lane / 4 + i / 2 * 8][n * 8 + lane % 4 * 2 + i % 2] =
          sums[n][i];
  __syncthreads();
  for (unsigned i = threadIdx.x; i < 16 * tiles * 8; i += blockDim.x) {
    const unsigned row = i / (tiles * 8), column = i % (tiles * 8);
    float sum = 0;
    for (unsigned w = 0; w < downWarps; ++w)
      sum += parts[w][row][column];
    if (firstRow + row < usable && firstColumn + column < at.a.rows)
      at.t[(firstRow + row) * at.a.rows + firstColumn + column] =
          fromFloat<T>(at.scale * sum);
  }
}

template <typename T, unsigned tiles>
Status run(const Call &call, const DownOperands<T> &operands) {
  return launch(call,
                Grid{.x = unsigned((operands.limit.rows + 15) / 16),
                     .y = unsigned((operands.a.rows + tiles * 8 - 1) /
                                   (tiles * 8)),
                     .threads = downWarps * 32},
                loraDown<T, tiles>, operands);
}

template <typename T> Status runFor(const Call &call) {
  using namespace kernels::lora_down_fwd;
  const DownOperands<T> operands = {
      call[x].as<T>(),
      weightOf(call[a]),
      call[t].as<T>(),
      static_cast<float>(call.real(scale)),
      readDropout(call,
                  {index, seed, step, first_row, dropout, module_key, seq}),
      {call[count].as<int32_t>(), call.integer(row_start), call[x].rows},
      call.fault};
  if (operands.a.rows <= 16)
    return run<T, 2>(call, operands);
  return run<T, 8>(call, operands);
}

} // namespace

Status loraDownFwdMasked(const Call &call) {
  switch (call[kernels::lora_down_fwd::x].type) {
  case DType::bf16:
    return runFor<BF16>(call);
  case DType::f16:
    return runFor<F16>(call);
  default:
    return plainLoraDownFwd(call);
  }
}

} // namespace peft::cuda
