//===- Reduce.h - sums over a warp and over a block -------------*- C++ -*-===//
//
// Fixed trees: the same values give the same bits. Every thread of the warp or
// block has to call, and gets the result.
//
//===----------------------------------------------------------------------===//
#ifndef PEFT_CUDA_REDUCE_H
#define PEFT_CUDA_REDUCE_H

#include "cuda/Grid.h"

namespace peft::cuda {

constexpr unsigned fullWarp = 0xffffffffu;

struct Sum {
  template <typename T> __device__ T operator()(T a, T b) const {
    return a + b;
  }
};
struct Least {
  template <typename T> __device__ T operator()(T a, T b) const {
    return b < a ? b : a;
  }
};

template <typename T, typename Operation>
__device__ inline T warpReduce(T value, Operation operation) {
  for (int distance = 16; distance; distance /= 2)
    value = operation(value, __shfl_xor_sync(fullWarp, value, distance));
  return value;
}

/// `neutral` changes nothing: it stands for the warps that are not there.
template <typename T, typename Operation>
__device__ inline T blockReduce(T value, T neutral, Operation operation) {
  __shared__ T parts[32];
  const unsigned lane = threadIdx.x % 32, warp = threadIdx.x / 32;
  value = warpReduce(value, operation);
  // The parts of the reduction before may still be read.
  __syncthreads();
  if (lane == 0)
    parts[warp] = value;
  __syncthreads();
  value = neutral;
  if (lane < blockDim.x / 32)
    value = parts[lane];
  return warpReduce(value, operation);
}

template <typename T> __device__ inline T warpSum(T value) {
  return warpReduce(value, Sum());
}
template <typename T> __device__ inline T blockSum(T value) {
  return blockReduce(value, T(0), Sum());
}
template <typename T> __device__ inline T blockLeast(T value, T most) {
  return blockReduce(value, most, Least());
}

} // namespace peft::cuda

#endif // PEFT_CUDA_REDUCE_H
