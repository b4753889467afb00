//===- Emulation.h - the part of CUDA we use, on the host -------*- C++ -*-===//
//
// Runs a kernel's source as ordinary C++: the threads of a block are fibers of
// the calling thread, blocks run one after the other. A fiber runs until it
// meets a barrier or a warp operation, so the order in which threads get their
// turn (setOrder) decides who sees whose writes when a barrier is missing.
//
// What a card would leave undefined is an error of the launch:
//   * a barrier that some live threads of the block do not reach, or that
//     threads reach at different lines;
//   * a warp operation that some lanes of the warp do not reach, or where lanes
//     are at different operations, or whose mask is not full.
// Compiled with -fsanitize=address, a read or write past an operand or past
// shared memory is reported too; with -fsanitize=thread, two threads of a block
// that meet at an address without a barrier between them.
//
// `__shared__` variables are static; sharedMemory<T>() is memory of exactly the
// size the launch asked for, all bytes 0xff (NaNs) when a block starts.
//
//===----------------------------------------------------------------------===//
#ifndef PEFT_CUDA_EMULATION_EMULATION_H
#define PEFT_CUDA_EMULATION_EMULATION_H

#include "cuda/Call.h"
#include "cuda/emulation/Deferral.h"

#include <bit>
#include <cmath>
#include <cstring>
#include <tuple>
#include <type_traits>

#define __global__
#define __device__
#define __host__
#define __shared__ static
#define __forceinline__ inline
#define __launch_bounds__(...)
#define __restrict__ __restrict

namespace peft::cuda {

struct Grid; // Grid.h, which includes this file after it is complete

namespace emulation {

/// In which order the threads of a block (and its warps) get their turn. Blocks
/// run from the first to the last, in descending order from the last to the
/// first, so that one that writes what belongs to another is seen.
enum class Order { ascending, descending, random };
/// For all launches that follow; `seed` matters to `random`.
void setOrder(Order order, uint64_t seed = 0);

/// All 32 lanes of a warp call together: each gives `bytes` (at most 256) and
/// receives 32 x bytes, lane by lane. Every other warp operation is made of it.
void warpExchange(const void *mine, size_t bytes, void *all,
                  const char *file = __builtin_FILE(),
                  unsigned line = __builtin_LINE());

/// Where in the source a thread waits.
struct Place {
  const char *operation = "", *file = "";
  unsigned line = 0;
};

/// The same without the copy: 32 x bytes that stay as they are until the lane's
/// next warp operation. `mask` has to be full.
const std::byte *exchange(Place place, unsigned mask, const void *mine,
                          size_t bytes);
/// __syncthreads().
void barrier(Place place);

/// Dynamic shared memory of the running block.
std::byte *blockMemory();
/// Ends the launch with an error; does not return to the kernel.
[[noreturn]] void fail(const char *what);

/// One coordinate as device code reads it. Threads of a block read it in turns,
/// which the thread sanitizer need not know.
class Coordinate {
public:
  __attribute__((no_sanitize("thread"))) operator unsigned() const {
    return value;
  }
  void set(unsigned to) { value = to; }

private:
  unsigned value = 0;
};
struct Coordinates {
  Coordinate x, y, z;
};

/// Runs all blocks. `body` is the kernel with its arguments.
Status runBlocks(const Grid &grid, void (*body)(void *), void *arguments);

} // namespace emulation

template <typename T> T *sharedMemory() {
  return reinterpret_cast<T *>(emulation::blockMemory());
}

/// Runs `kernel(call.gate, arguments...)` on all threads of the grid. A grid
/// without blocks has nothing to do. Errors: internal.
template <typename... Parameters, typename... Arguments>
Status launch(const Call &call, const Grid &grid,
              void (*kernel)(Gate, Parameters...), Arguments... arguments) {
  static_assert(sizeof...(Parameters) == sizeof...(Arguments));
  struct Bound {
    void (*kernel)(Gate, Parameters...);
    std::tuple<Gate, Parameters...> values;
  } bound{kernel, {call.gate, static_cast<Parameters>(arguments)...}};
  if (emulation::loading) {
    Status loaded = emulation::loading(call.stream,
                                       reinterpret_cast<const void *>(kernel));
    if (!loaded.ok())
      return loaded;
  }
  return emulation::runOrDefer(call, [grid, bound]() mutable {
    return emulation::runBlocks(
        grid,
        [](void *data) {
          Bound *bound = static_cast<Bound *>(data);
          std::apply(bound->kernel, bound->values);
        },
        &bound);
  });
}

} // namespace peft::cuda

inline peft::cuda::emulation::Coordinates threadIdx, blockIdx, blockDim,
    gridDim;

#include "cuda/emulation/Intrinsics.h"

#endif // PEFT_CUDA_EMULATION_EMULATION_H
