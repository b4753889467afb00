//===- LoraDown.cu - t = scale (mask(x) a^T) on tensor cores --------------===//
//
// A block owns 16 rows of one adapter's t; its warps take turns over the features
// and add their sums in the order of warps. Blocks of other adapters for the same
// rows follow each other, so x comes from memory once.
//
//===----------------------------------------------------------------------===//
#include "LoraFragments.h"

#include "cuda/Lora.h"
#include "cuda/PlainGemm.h"

#include <algorithm>

namespace peft::cuda {

namespace {

constexpr unsigned downWarps = 8;

template <typename T> struct DownMember {
  Weight a;
  T *t;
  float scale;
  uint64_t moduleKey;
};

template <typename T> struct DownOperands {
  static constexpr unsigned most = 3;
  const T *x;
  uint64_t columns; ///< of x
  DownMember<T> members[most];
  unsigned count; ///< of members
  Dropout dropout; ///< but for the module's key
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

/// Member `index`, by comparisons: an index would put all into local memory.
template <typename T>
__device__ inline DownMember<T> memberOf(const DownOperands<T> &at,
                                         unsigned index) {
  DownMember<T> of = at.members[0];
#pragma unroll
  for (unsigned i = 1; i < DownOperands<T>::most; ++i)
    if (index == i)
      of = at.members[i];
  return of;
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
  const uint64_t firstRow = uint64_t(blockIdx.x / at.count) * 16;
  const uint64_t firstColumn = uint64_t(blockIdx.y) * tiles * 8;
  const DownMember<T> of = memberOf(at, blockIdx.x % at.count);
  if (firstRow >= usable || firstColumn >= of.a.rows)
    return;
  const unsigned lane = threadIdx.x % 32, warp = threadIdx.x / 32;
  Dropout dropout = at.dropout;
  dropout.moduleKey = of.moduleKey;
  const DropoutMasks masks(dropout, at.limit.rowStart);
  DownRow<T> rows[2];
#pragma unroll
  for (unsigned i = 0; i < 2; ++i) {
    const uint64_t row = firstRow + lane / 4 + i * 8;
    rows[i].active = row < usable;
    rows[i].x = at.x + (rows[i].active ? row : 0) * at.columns;
    rows[i].place = rows[i].active ? masks.place(row) : DropoutPlace{0, 0};
  }
  const bool aligned = at.columns % 8 == 0;
  float sums[tiles][4] = {};
  for (uint64_t feature = warp * 32; feature < at.columns;
       feature += downWarps * 32)
    addFeatures<T, tiles>(sums, rows, of.a, firstColumn, feature, aligned,
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
    if (firstRow + row < usable && firstColumn + column < of.a.rows)
      of.t[(firstRow + row) * of.a.rows + firstColumn + column] =
          fromFloat<T>(of.scale * sum);
  }
}

template <typename T, unsigned tiles>
Status run(const Call &call, const DownOperands<T> &operands, uint64_t ranks) {
  return launch(
      call,
      Grid{.x = unsigned((operands.limit.rows + 15) / 16 * operands.count),
           .y = unsigned((ranks + tiles * 8 - 1) / (tiles * 8)),
           .threads = downWarps * 32},
      loraDown<T, tiles>, operands);
}

template <typename T>
Status run(const Call &call, const DownOperands<T> &operands) {
  uint64_t ranks = 0;
  for (unsigned i = 0; i < operands.count; ++i)
    ranks = std::max(ranks, operands.members[i].a.rows);
  return ranks <= 16 ? run<T, 2>(call, operands, ranks)
                     : run<T, 8>(call, operands, ranks);
}

template <typename T> Status runOne(const Call &call) {
  using namespace kernels::lora_down_fwd;
  DownOperands<T> operands = {};
  operands.x = call[x].as<T>();
  operands.columns = call[x].columns;
  operands.members[0] = {weightOf(call[a]), call[t].as<T>(),
                         static_cast<float>(call.real(scale)),
                         static_cast<uint64_t>(call.integer(module_key))};
  operands.count = 1;
  operands.dropout = readDropout(
      call, {index, seed, step, first_row, dropout, module_key, seq});
  operands.limit = {call[count].as<int32_t>(), call.integer(row_start),
                    call[x].rows};
  operands.fault = call.fault;
  return run(call, operands);
}

template <typename T> Status runGroup(const Call &call) {
  using namespace kernels::lora_down_group_fwd;
  constexpr int weights[] = {a0, a1, a2}, outputs[] = {t0, t1, t2};
  constexpr int scales[] = {scale0, scale1, scale2};
  constexpr int keys[] = {module_key0, module_key1, module_key2};
  DownOperands<T> operands = {};
  operands.x = call[x].as<T>();
  operands.columns = call[x].columns;
  for (unsigned i = 0; i < operands.most && call[weights[i]]; ++i)
    operands.members[operands.count++] = {
        weightOf(call[weights[i]]), call[outputs[i]].as<T>(),
        static_cast<float>(call.real(scales[i])),
        static_cast<uint64_t>(call.integer(keys[i]))};
  operands.dropout = readDropout(
      call, {index, seed, step, first_row, dropout, module_key0, seq});
  operands.limit = {call[count].as<int32_t>(), call.integer(row_start),
                    call[x].rows};
  operands.fault = call.fault;
  return run(call, operands);
}

} // namespace

Status loraDownFwdMasked(const Call &call) {
  switch (call[kernels::lora_down_fwd::x].type) {
  case DType::bf16:
    return runOne<BF16>(call);
  case DType::f16:
    return runOne<F16>(call);
  default:
    return plainLoraDownFwd(call);
  }
}

Status loraDownGroupFwdMasked(const Call &call) {
  switch (call[kernels::lora_down_group_fwd::x].type) {
  case DType::bf16:
    return runGroup<BF16>(call);
  case DType::f16:
    return runGroup<F16>(call);
  default:
    return plainLoraDownGroupFwd(call);
  }
}

} // namespace peft::cuda
