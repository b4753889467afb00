//===- DeviceGrid.h - the part of CUDA that our kernels use, by nvcc ------===//
//
// The counterpart of emulation/Emulation.h for cards.
//
//===----------------------------------------------------------------------===//
#ifndef PEFT_CUDA_DEVICEGRID_H
#define PEFT_CUDA_DEVICEGRID_H

#include "cuda/Call.h"

#include <cuda_runtime.h>

#include <tuple>
#include <utility>

namespace peft::cuda {

/// The dynamic shared memory of the block, aligned to 16 bytes.
template <typename T> __device__ inline T *sharedMemory() {
  extern __shared__ __align__(16) unsigned char peftSharedMemory[];
  return reinterpret_cast<T *>(peftSharedMemory);
}

/// Enqueues kernel `function` on the call's stream. Errors: internal, as the
/// driver names them.
inline Status enqueue(const Call &call, const Grid &grid, const void *function,
                      void **arguments) {
  if (grid.x == 0 || grid.y == 0 || grid.z == 0)
    return {};
  // More than this has to be asked for, once per kernel; again does no harm.
  constexpr size_t freeShared = 48 << 10;
  cudaError_t error = cudaSuccess;
  if (grid.sharedBytes > freeShared)
    error = cudaFuncSetAttribute(function,
                                 cudaFuncAttributeMaxDynamicSharedMemorySize,
                                 static_cast<int>(grid.sharedBytes));
  if (error == cudaSuccess)
    error = cudaLaunchKernel(function, dim3(grid.x, grid.y, grid.z),
                             dim3(grid.threads), arguments, grid.sharedBytes,
                             static_cast<cudaStream_t>(call.stream));
  if (error == cudaSuccess)
    return {};
  return internalError(std::string("a kernel did not start: ") +
                       cudaGetErrorString(error));
}

/// Enqueues `kernel(call.gate, arguments...)` for all threads of the grid. A
/// grid without blocks has nothing to do. Errors: internal.
template <typename... Parameters, typename... Arguments>
Status launch(const Call &call, const Grid &grid,
              void (*kernel)(Gate, Parameters...), Arguments... arguments) {
  static_assert(sizeof...(Parameters) == sizeof...(Arguments));
  std::tuple<Gate, Parameters...> values{call.gate,
                                         static_cast<Parameters>(arguments)...};
  return std::apply(
      [&](auto &...value) {
        void *pointers[] = {&value...};
        return enqueue(call, grid, reinterpret_cast<const void *>(kernel),
                       pointers);
      },
      values);
}

} // namespace peft::cuda

#endif // PEFT_CUDA_DEVICEGRID_H
