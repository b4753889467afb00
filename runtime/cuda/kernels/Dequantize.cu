//===- Dequantize.cu - codes to numbers -----------------------------------===//
//
// A thread takes sixteen elements: eight bytes of codes, one scale if they lie
// in one block, and two packs of eight numbers.
//
//===----------------------------------------------------------------------===//
#include "cuda/Kernels.h"
#include "cuda/Quantized.h"
#include "cuda/RowIndex.h"

namespace peft::cuda {

namespace {

constexpr unsigned codesPerThread = 16;

/// The sixteen numbers of a 4-bit code, where every lane may read another one.
__device__ void copyTable(const QuantizedIn &weight, float *table) {
  if (!weight.bytes && threadIdx.x < codeTable)
    table[threadIdx.x] = weight.tables[threadIdx.x];
  __syncthreads();
}

/// Elements [i, i + n) of one block; `i` is a multiple of n.
template <unsigned n>
__device__ void decode(const QuantizedIn &weight, uint64_t i, float scale,
                       const float *table, float (&to)[n]) {
  int codes[n];
  if (weight.bytes) {
    const Pack<int8_t, n> pack =
        packAt<n>(reinterpret_cast<const int8_t *>(weight.codes + i));
    for (unsigned j = 0; j < n; ++j)
      codes[j] = pack.value[j];
  } else {
    const Pack<uint8_t, n / 2> pack = packAt<n / 2>(
        reinterpret_cast<const uint8_t *>(weight.codes + i / 2));
    for (unsigned j = 0; j < n / 2; ++j) {
      codes[2 * j] = pack.value[j] >> 4;
      codes[2 * j + 1] = pack.value[j] & 15;
    }
  }
  for (unsigned j = 0; j < n; ++j)
    to[j] = weight.scaled(codes[j], scale, table);
}

__global__ void everyElement(Gate gate, QuantizedIn weight, FloatsOut y,
                             uint64_t elements) {
  if (closed(gate))
    return;
  __shared__ float table[codeTable];
  copyTable(weight, table);
  const uint64_t thread = uint64_t(blockIdx.x) * blockDim.x + threadIdx.x;
  uint64_t i = thread * codesPerThread;
  const uint64_t end =
      i + codesPerThread < elements ? i + codesPerThread : elements;
  // Blocks of sixteen or a multiple: all of a thread's elements have one scale.
  if (i + codesPerThread <= elements &&
      weight.block.value % codesPerThread == 0) {
    const float scale = weight.scale(weight.block.quotient(i));
    for (unsigned part = 0; part < codesPerThread; part += packSize) {
      float values[packSize];
      decode(weight, i + part, scale, table, values);
      y.store(i + part, values);
    }
    return;
  }
  for (; i < end; ++i)
    y.set(i, weight.value(i));
}

/// y[i] = scale times row ids[i] of the weight, zeros where the id is wrong.
__global__ void gatherRows(Gate gate, RowIndex index, QuantizedIn weight,
                           FloatsOut y, uint64_t columns, float scale) {
  if (closed(gate))
    return;
  if (blockIdx.x == 0)
    return index.check();
  const uint64_t row = blockIdx.x - 1;
  const int64_t from = index.at(row, index.wanted());
  for (uint64_t i = threadIdx.x; i < columns; i += blockDim.x)
    y.set(row * columns + i,
          from < 0 ? 0.0f
                   : weight.value(static_cast<uint64_t>(from) * columns + i) *
                         scale);
}

} // namespace

Status dequantizeTo(const Call &call, const QuantizedWeight &weight,
                    const Operand &to) {
  constexpr uint64_t perBlock = blockThreads * codesPerThread;
  const Grid grid{
      .x = static_cast<unsigned>((to.elements() + perBlock - 1) / perBlock),
      .threads = blockThreads};
  return launch(call, grid, everyElement, QuantizedIn(weight), FloatsOut(to),
                to.elements());
}

Status dequantize(const Call &call) {
  namespace op = kernels::dequantize;
  return dequantizeTo(call,
                      readQuantized(call, {op::w, op::absmax, op::nested_absmax,
                                           op::tables, op::block, op::nested}),
                      call[op::y]);
}

Status embedQuantized(const Call &call, const RowIndex &index,
                      const QuantizedWeight &table, const Operand &y,
                      float scale) {
  const Grid grid{.x = static_cast<unsigned>(y.rows + 1), .threads = 128};
  return launch(call, grid, gatherRows, index, QuantizedIn(table), FloatsOut(y),
                y.columns, scale);
}

} // namespace peft::cuda
