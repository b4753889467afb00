//===- Intrinsics.h - CUDA's built-in names, on the host --------*- C++ -*-===//
//
// Included by Emulation.h. Only what our kernels use; warp operations take the
// full mask and know where they were called, so that a divergent one is seen.
//
//===----------------------------------------------------------------------===//
#ifndef PEFT_CUDA_EMULATION_INTRINSICS_H
#define PEFT_CUDA_EMULATION_INTRINSICS_H

#include "cuda/emulation/Emulation.h"

struct alignas(8) float2 {
  float x, y;
};
struct alignas(16) float4 {
  float x, y, z, w;
};
struct alignas(8) int2 {
  int x, y;
};
struct alignas(16) int4 {
  int x, y, z, w;
};
struct alignas(8) uint2 {
  unsigned x, y;
};
struct alignas(16) uint4 {
  unsigned x, y, z, w;
};
inline float2 make_float2(float x, float y) { return {x, y}; }
inline float4 make_float4(float x, float y, float z, float w) {
  return {x, y, z, w};
}
inline uint2 make_uint2(unsigned x, unsigned y) { return {x, y}; }
inline uint4 make_uint4(unsigned x, unsigned y, unsigned z, unsigned w) {
  return {x, y, z, w};
}

#define PEFT_PLACE                                                             \
  const char *file = __builtin_FILE(), unsigned line = __builtin_LINE()

inline void __syncthreads(PEFT_PLACE) {
  peft::cuda::emulation::barrier({"__syncthreads", file, line});
}

inline void __syncwarp(unsigned mask = 0xffffffffu, PEFT_PLACE) {
  peft::cuda::emulation::exchange({"__syncwarp", file, line}, mask, nullptr, 0);
}

namespace peft::cuda::emulation {

/// Every lane's value; `source` picks the lane whose value this one gets. Lanes
/// are in groups of `width` (a power of two).
template <typename T>
T shuffle(Place place, unsigned mask, T value, unsigned source) {
  static_assert(sizeof(T) == 4 || sizeof(T) == 8);
  const std::byte *all = exchange(place, mask, &value, sizeof(T));
  T result;
  __builtin_memcpy(&result, all + source * sizeof(T), sizeof(T));
  return result;
}

inline unsigned laneOf() { return threadIdx.x % 32; }

/// Bit i: whether lane i votes yes.
inline unsigned vote(Place place, unsigned mask, bool yes) {
  const std::byte *all = exchange(place, mask, &yes, sizeof yes);
  unsigned bits = 0;
  for (unsigned i = 0; i < 32; ++i)
    bits |= unsigned(all[i] != std::byte{0}) << i;
  return bits;
}

} // namespace peft::cuda::emulation

template <typename T>
T __shfl_sync(unsigned mask, T value, int source, int width = 32, PEFT_PLACE) {
  const unsigned lane = peft::cuda::emulation::laneOf(), group = lane & -width;
  return peft::cuda::emulation::shuffle(
      {"__shfl_sync", file, line}, mask, value,
      group | (unsigned(source) & (unsigned(width) - 1)));
}

template <typename T>
T __shfl_xor_sync(unsigned mask, T value, int bits, int width = 32,
                  PEFT_PLACE) {
  const unsigned lane = peft::cuda::emulation::laneOf(),
                 other = lane ^ unsigned(bits),
                 end = (lane & -width) + unsigned(width);
  return peft::cuda::emulation::shuffle({"__shfl_xor_sync", file, line}, mask,
                                        value, other < end ? other : lane);
}

template <typename T>
T __shfl_down_sync(unsigned mask, T value, unsigned delta, int width = 32,
                   PEFT_PLACE) {
  const unsigned lane = peft::cuda::emulation::laneOf(), other = lane + delta,
                 end = (lane & -width) + unsigned(width);
  return peft::cuda::emulation::shuffle({"__shfl_down_sync", file, line}, mask,
                                        value, other < end ? other : lane);
}

template <typename T>
T __shfl_up_sync(unsigned mask, T value, unsigned delta, int width = 32,
                 PEFT_PLACE) {
  const unsigned lane = peft::cuda::emulation::laneOf(), begin = lane & -width;
  return peft::cuda::emulation::shuffle(
      {"__shfl_up_sync", file, line}, mask, value,
      lane - begin >= delta ? lane - delta : lane);
}

inline unsigned __ballot_sync(unsigned mask, int predicate, PEFT_PLACE) {
  return peft::cuda::emulation::vote({"__ballot_sync", file, line}, mask,
                                     predicate != 0);
}
inline int __any_sync(unsigned mask, int predicate, PEFT_PLACE) {
  return peft::cuda::emulation::vote({"__any_sync", file, line}, mask,
                                     predicate != 0) != 0;
}
inline int __all_sync(unsigned mask, int predicate, PEFT_PLACE) {
  return peft::cuda::emulation::vote({"__all_sync", file, line}, mask,
                                     predicate != 0) == 0xffffffffu;
}

#undef PEFT_PLACE

template <typename T> T __ldg(const T *from) { return *from; }
inline int __ffs(int x) { return x ? std::countr_zero(unsigned(x)) + 1 : 0; }
inline float rsqrtf(float x) { return 1.0f / std::sqrt(x); }
inline float __expf(float x) { return std::exp(x); }
inline int __popc(unsigned x) { return std::popcount(x); }
inline unsigned __umulhi(unsigned a, unsigned b) {
  return unsigned(uint64_t(a) * b >> 32);
}
inline float __uint_as_float(unsigned x) { return std::bit_cast<float>(x); }
inline unsigned __float_as_uint(float x) { return std::bit_cast<unsigned>(x); }
inline float __int_as_float(int x) { return std::bit_cast<float>(x); }
inline int __float_as_int(float x) { return std::bit_cast<int>(x); }

#endif // PEFT_CUDA_EMULATION_INTRINSICS_H
