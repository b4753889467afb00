//===- async_copy.h - global to shared memory, meanwhile --------*- C++ -*-===//
//
// A thread starts copies of 16 bytes, closes them into groups and waits until
// at most `newest` of its groups are under way; then it sees what it copied,
// and after a barrier the other threads do. What the target holds in between is
// undefined: on the host it is poisoned when the copy starts and written at the
// wait. Cards before sm_80 copy at once.
//
// A kernel waits for all its copies before it ends.
//
//===----------------------------------------------------------------------===//
#ifndef PEFT_CUDA_ASYNC_COPY_H
#define PEFT_CUDA_ASYNC_COPY_H

#include "cuda/Grid.h"

#if !defined(__CUDACC__)
#include <vector>
#endif

namespace peft::cuda {

#if defined(__CUDACC__)

/// Both addresses are multiples of 16. Not `valid`: zeros, nothing is read.
__device__ inline void copyAsync(void *shared, const void *global, bool valid) {
#if __CUDA_ARCH__ >= 800
  const uint32_t to = static_cast<uint32_t>(__cvta_generic_to_shared(shared));
  const int bytes = valid ? 16 : 0;
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(to),
               "l"(global), "r"(bytes)
               : "memory");
#else
  uint4 value = make_uint4(0, 0, 0, 0);
  if (valid)
    value = *static_cast<const uint4 *>(global);
  *static_cast<uint4 *>(shared) = value;
#endif
}

/// Closes a group, which may be empty.
__device__ inline void closeCopies() {
#if __CUDA_ARCH__ >= 800
  asm volatile("cp.async.commit_group;" ::: "memory");
#endif
}

template <int newest> __device__ inline void awaitCopies() {
#if __CUDA_ARCH__ >= 800
  asm volatile("cp.async.wait_group %0;" ::"n"(newest) : "memory");
#endif
}

#else

namespace emulation {

struct AsyncCopy {
  void *to;
  const void *from; ///< null: zeros
  unsigned group;
};

/// The copies of one thread that are under way, oldest first.
struct AsyncCopies {
  std::vector<AsyncCopy> copies;
  unsigned group = 0;
  unsigned block = 0; ///< that started them
};

inline AsyncCopies asyncCopiesOfThreads[1024];

inline AsyncCopies &asyncCopies() { return asyncCopiesOfThreads[threadIdx.x]; }

[[noreturn]] inline void failForgotten() {
  for (AsyncCopies &copies : asyncCopiesOfThreads)
    copies.copies.clear();
  fail("a thread of the block before ended without waiting for its "
       "asynchronous copies");
}

} // namespace emulation

inline void copyAsync(void *shared, const void *global, bool valid) {
  if (reinterpret_cast<uintptr_t>(shared) % 16 != 0 ||
      (valid && reinterpret_cast<uintptr_t>(global) % 16 != 0))
    emulation::fail("an asynchronous copy from or to an address that is not a "
                    "multiple of 16");
  emulation::AsyncCopies &mine = emulation::asyncCopies();
  if (!mine.copies.empty() && mine.block != blockIdx.x)
    emulation::failForgotten();
  mine.block = blockIdx.x;
  mine.copies.push_back({shared, valid ? global : nullptr, mine.group});
  std::memset(shared, 0xff, 16);
}

inline void closeCopies() { ++emulation::asyncCopies().group; }

template <int newest> inline void awaitCopies() {
  emulation::AsyncCopies &mine = emulation::asyncCopies();
  size_t done = 0;
  for (; done < mine.copies.size(); ++done) {
    const emulation::AsyncCopy &copy = mine.copies[done];
    if (mine.group - copy.group <= unsigned(newest))
      break;
    if (copy.from)
      std::memcpy(copy.to, copy.from, 16);
    else
      std::memset(copy.to, 0, 16);
  }
  mine.copies.erase(mine.copies.begin(), mine.copies.begin() + done);
}

#endif // __CUDACC__

} // namespace peft::cuda

#endif // PEFT_CUDA_ASYNC_COPY_H
