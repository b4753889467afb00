//===- Grid.h - the part of CUDA that our kernels use -----------*- C++ -*-===//
//
// Device code keeps to what the emulation can run on the host:
//   * __global__, __device__, threadIdx, blockIdx, blockDim, gridDim;
//   * static `__shared__` arrays and one dynamic one, sharedMemory<T>();
//   * __syncthreads(), __syncwarp(), warp shuffle and vote with a full mask;
//   * mma.h and async_copy.h. No other inline PTX, no atomics, no grid-wide
//   sync.
// A launch goes through launch(call, grid, kernel, arguments...) and nothing
// else; it gives the kernel the call's gate and then the arguments. Blocks are
// one-dimensional, a whole number of warps.
//
//   __global__ void scaleRows(Gate gate, const float *x, float *y, ...) {
//     if (closed(gate))
//       return;
//
//===----------------------------------------------------------------------===//
#ifndef PEFT_CUDA_GRID_H
#define PEFT_CUDA_GRID_H

#include "cuda/Call.h"

namespace peft::cuda {

struct Grid {
  unsigned x = 1, y = 1, z = 1; ///< blocks
  unsigned threads = 128;       ///< of a block
  size_t sharedBytes = 0;       ///< of the dynamic array
};

/// Threads of a block, where nothing speaks for another number.
constexpr unsigned blockThreads = 256;

/// A thread for each of `elements`.
inline Grid gridFor(uint64_t elements) {
  return {
      .x = static_cast<unsigned>((elements + blockThreads - 1) / blockThreads),
      .threads = blockThreads};
}

} // namespace peft::cuda

#if defined(__CUDACC__)
#include "cuda/DeviceGrid.h"
#else
#include "cuda/emulation/Emulation.h"
#endif

namespace peft::cuda {

__device__ inline bool closed(const Gate &gate) {
  return gate.value && *gate.value <= gate.above;
}

} // namespace peft::cuda

#endif // PEFT_CUDA_GRID_H
