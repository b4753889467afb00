//===- mma.h - tensor cores -------------------------------------*- C++ -*-===//
//
// ldmatrix and mma as PTX defines them: D [16, 8] += A [16, k] B [k, 8] with
// f32 sums and k = 8 or 16. With g = lane / 4 and t = lane % 4 a lane holds
//
//   A   register i: row g + 8 (i % 2), columns 8 (i / 2) + 2t and 2t + 1
//   B   register i: rows 8 i + 2t and 2t + 1, column g
//   sums element i: row g + 8 (i / 2), column 2t + i % 2
//
// two 16-bit elements to a register, the first in the low half. A matrix of
// ldmatrix is 8 rows of 16 bytes; lanes 8i .. 8i + 7 give the addresses of the
// rows of matrix i (shared memory, multiples of 16), and register i receives
// elements 2t and 2t + 1 of row g, or, transposed, those of column g.
//
// All 32 lanes of a warp call together. On cards before sm_80 there is no bf16
// (a kernel traps; no plan for such a card asks for it) and k = 16 is two
// products of 8. On the host the same layouts are followed lane by lane.
//
//===----------------------------------------------------------------------===//
#ifndef PEFT_CUDA_MMA_H
#define PEFT_CUDA_MMA_H

#include "cuda/Numbers.h"

#include <type_traits>

namespace peft::cuda {

/// Two elements as a register of mma holds them.
template <typename T>
__device__ inline uint32_t packPair(float low, float high) {
#if defined(__CUDACC__)
  uint32_t bits;
  if constexpr (std::is_same_v<T, BF16>) {
    const __nv_bfloat162 pair = __floats2bfloat162_rn(low, high);
    memcpy(&bits, &pair, sizeof bits);
  } else {
    const __half2 pair = __floats2half2_rn(low, high);
    memcpy(&bits, &pair, sizeof bits);
  }
  return bits;
#else
  return fromFloat<T>(low).bits | uint32_t(fromFloat<T>(high).bits) << 16;
#endif
}

#if defined(__CUDACC__)

__device__ inline uint32_t sharedAddress(const void *shared) {
  return static_cast<uint32_t>(__cvta_generic_to_shared(shared));
}

__device__ inline void loadMatrices(uint32_t (&to)[4], const void *row) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];"
               : "=r"(to[0]), "=r"(to[1]), "=r"(to[2]), "=r"(to[3])
               : "r"(sharedAddress(row))
               : "memory");
}
__device__ inline void loadMatrices(uint32_t (&to)[2], const void *row) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x2.shared.b16 {%0,%1}, [%2];"
               : "=r"(to[0]), "=r"(to[1])
               : "r"(sharedAddress(row))
               : "memory");
}
__device__ inline void loadTransposed(uint32_t (&to)[4], const void *row) {
  asm volatile(
      "ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0,%1,%2,%3}, [%4];"
      : "=r"(to[0]), "=r"(to[1]), "=r"(to[2]), "=r"(to[3])
      : "r"(sharedAddress(row))
      : "memory");
}
__device__ inline void loadTransposed(uint32_t (&to)[2], const void *row) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x2.trans.shared.b16 {%0,%1}, [%2];"
               : "=r"(to[0]), "=r"(to[1])
               : "r"(sharedAddress(row))
               : "memory");
}

#define PEFT_MMA_16(type)                                                      \
  asm("mma.sync.aligned.m16n8k16.row.col.f32." type "." type          \
               ".f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"    \
               : "+f"(sums[0]), "+f"(sums[1]), "+f"(sums[2]), "+f"(sums[3])    \
               : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]),        \
                 "r"(b[1]))
#define PEFT_MMA_8(type, a0, a1, b0)                                           \
  asm("mma.sync.aligned.m16n8k8.row.col.f32." type "." type           \
               ".f32 {%0,%1,%2,%3}, {%4,%5}, {%6}, {%0,%1,%2,%3};"             \
               : "+f"(sums[0]), "+f"(sums[1]), "+f"(sums[2]), "+f"(sums[3])    \
               : "r"(a0), "r"(a1), "r"(b0))

/// k = 16.
template <typename T>
__device__ inline void multiply(float (&sums)[4], const uint32_t (&a)[4],
                                const uint32_t (&b)[2]) {
#if __CUDA_ARCH__ >= 800
  if constexpr (std::is_same_v<T, BF16>)
    PEFT_MMA_16("bf16");
  else
    PEFT_MMA_16("f16");
#else
  if constexpr (std::is_same_v<T, BF16>) {
    __trap();
  } else {
    PEFT_MMA_8("f16", a[0], a[1], b[0]);
    PEFT_MMA_8("f16", a[2], a[3], b[1]);
  }
#endif
}

/// k = 8.
template <typename T>
__device__ inline void multiply(float (&sums)[4], const uint32_t (&a)[2],
                                const uint32_t (&b)[1]) {
  if constexpr (!std::is_same_v<T, BF16>) {
    PEFT_MMA_8("f16", a[0], a[1], b[0]);
  } else {
#if __CUDA_ARCH__ >= 800
    PEFT_MMA_8("bf16", a[0], a[1], b[0]);
#else
    __trap();
#endif
  }
}

#undef PEFT_MMA_16
#undef PEFT_MMA_8

#else

namespace emulation {

/// Each lane reads the row it names before any lane goes on, as on the card.
template <unsigned matrices>
void exchangeMatrices(uint32_t (&to)[matrices], const void *row,
                      bool transposed, Place place) {
  struct Row {
    uint16_t element[8];
  } mine = {};
  const unsigned lane = threadIdx.x % 32, g = lane / 4, t = lane % 4;
  if (lane < 8 * matrices) {
    if (reinterpret_cast<uintptr_t>(row) % 16 != 0)
      fail("ldmatrix: the address of a row is not a multiple of 16");
    std::memcpy(&mine, row, sizeof mine);
  }
  const Row *rows = reinterpret_cast<const Row *>(
      exchange(place, 0xffffffffu, &mine, sizeof mine));
  for (unsigned i = 0; i < matrices; ++i) {
    auto element = [&](unsigned k) {
      return uint32_t(transposed ? rows[8 * i + k].element[g]
                                 : rows[8 * i + g].element[k]);
    };
    to[i] = element(2 * t) | element(2 * t + 1) << 16;
  }
}

template <typename T, unsigned depth>
void exchangeMultiply(float (&sums)[4], const uint32_t *a, const uint32_t *b,
                      Place place) {
  struct Lane {
    T a[depth / 4][2], b[depth / 8][2];
  } mine;
  std::memcpy(mine.a, a, sizeof mine.a);
  std::memcpy(mine.b, b, sizeof mine.b);
  const Lane *lanes = reinterpret_cast<const Lane *>(
      exchange(place, 0xffffffffu, &mine, sizeof mine));
  const unsigned lane = threadIdx.x % 32, g = lane / 4, t = lane % 4;
  for (unsigned k = 0; k < depth; ++k) {
    const Lane *row = lanes + g * 4 + k % 8 / 2;
    const Lane *column = lanes + 2 * t * 4 + k % 8 / 2;
    const float left[2] = {toFloat(row->a[k / 8 * 2][k % 2]),
                           toFloat(row->a[k / 8 * 2 + 1][k % 2])};
    const float right[2] = {toFloat(column[0].b[k / 8][k % 2]),
                            toFloat(column[4].b[k / 8][k % 2])};
    for (unsigned i = 0; i < 4; ++i)
      sums[i] = std::fma(left[i / 2], right[i % 2], sums[i]);
  }
}

} // namespace emulation

#define PEFT_PLACE                                                             \
  const char *file = __builtin_FILE(), unsigned line = __builtin_LINE()

template <unsigned matrices>
inline void loadMatrices(uint32_t (&to)[matrices], const void *row,
                         PEFT_PLACE) {
  static_assert(matrices == 2 || matrices == 4);
  emulation::exchangeMatrices(to, row, false, {"ldmatrix", file, line});
}
template <unsigned matrices>
inline void loadTransposed(uint32_t (&to)[matrices], const void *row,
                           PEFT_PLACE) {
  static_assert(matrices == 2 || matrices == 4);
  emulation::exchangeMatrices(to, row, true, {"ldmatrix.trans", file, line});
}
template <typename T>
inline void multiply(float (&sums)[4], const uint32_t (&a)[4],
                     const uint32_t (&b)[2], PEFT_PLACE) {
  emulation::exchangeMultiply<T, 16>(sums, a, b, {"mma", file, line});
}
template <typename T>
inline void multiply(float (&sums)[4], const uint32_t (&a)[2],
                     const uint32_t (&b)[1], PEFT_PLACE) {
  emulation::exchangeMultiply<T, 8>(sums, a, b, {"mma", file, line});
}

#undef PEFT_PLACE

#endif // __CUDACC__

} // namespace peft::cuda

#endif // PEFT_CUDA_MMA_H
