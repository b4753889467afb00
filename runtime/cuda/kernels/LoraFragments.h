//===- LoraFragments.h - operands straight into registers -------*- C++ -*-===//
//
// The skinny products read their operands once, so they load them from global
// memory into the lanes that hold them for mma. A sum does not care which
// element is called which k as long as both factors agree, so lanes take
// neighbours: four features in a row are one load and one draw of dropout.
//
//===----------------------------------------------------------------------===//
#ifndef PEFT_CUDA_KERNELS_LORAFRAGMENTS_H
#define PEFT_CUDA_KERNELS_LORAFRAGMENTS_H

#include "cuda/Dropout.h"
#include "cuda/Numbers.h"
#include "cuda/mma.h"

namespace peft::cuda {

template <unsigned count> struct Values {
  float v[count];
};

/// Elements [first, first + count) of a row of `columns`, zero past its end.
/// `aligned`: rows begin at multiples of a pack.
template <unsigned count, typename S>
__device__ inline Values<count> loadValues(const S *row, uint64_t first,
                                           uint64_t columns, bool aligned) {
  Values<count> values;
  if (aligned && first + count <= columns) {
    constexpr unsigned wide = unsigned(16 / sizeof(S));
    constexpr unsigned width = count < wide ? count : wide;
#pragma unroll
    for (unsigned i = 0; i < count; i += width) {
      const Pack<S, width> pack = packAt<width>(row + first + i);
#pragma unroll
      for (unsigned j = 0; j < width; ++j)
        values.v[i + j] = toFloat(pack.value[j]);
    }
    return values;
  }
#pragma unroll
  for (unsigned i = 0; i < count; ++i)
    values.v[i] = first + i < columns ? toFloat(row[first + i]) : 0.0f;
  return values;
}

/// A weight of any float type.
struct Weight {
  const std::byte *data;
  DType type;
  uint64_t rows, columns;

  __device__ float at(uint64_t row, uint64_t column) const {
    const uint64_t i = row * columns + column;
    if (row >= rows || column >= columns)
      return 0;
    if (type == DType::f32)
      return reinterpret_cast<const float *>(data)[i];
    if (type == DType::bf16)
      return toFloat(reinterpret_cast<const BF16 *>(data)[i]);
    return toFloat(reinterpret_cast<const F16 *>(data)[i]);
  }
  template <unsigned count>
  __device__ Values<count> load(uint64_t row, uint64_t first,
                                bool aligned) const {
    if (row >= rows)
      return Values<count>{};
    if (type == DType::f32)
      return loadValues<count>(reinterpret_cast<const float *>(data) +
                                   row * columns,
                               first, columns, aligned);
    if (type == DType::bf16)
      return loadValues<count>(reinterpret_cast<const BF16 *>(data) +
                                   row * columns,
                               first, columns, aligned);
    return loadValues<count>(reinterpret_cast<const F16 *>(data) +
                                 row * columns,
                             first, columns, aligned);
  }
};

inline Weight weightOf(const Operand &operand) {
  return {operand.data, operand.type, operand.rows, operand.columns};
}

/// Four values at features 4 block .. 4 block + 3, masked.
__device__ inline void maskFour(float *values, const DropoutMasks &masks,
                                DropoutPlace place, uint64_t block) {
  const float4 factors = masks.factors(place, uint32_t(block));
  values[0] = masked(values[0], factors.x);
  values[1] = masked(values[1], factors.y);
  values[2] = masked(values[2], factors.z);
  values[3] = masked(values[3], factors.w);
}

} // namespace peft::cuda

#endif // PEFT_CUDA_KERNELS_LORAFRAGMENTS_H
