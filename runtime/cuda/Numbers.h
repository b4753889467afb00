//===- Numbers.h - element types in device code -----------------*- C++ -*-===//
//
// Stored floats are float, BF16 or F16; arithmetic is f32. Rounding is to
// nearest even; denormals keep their value (the CPU device flushes them).
//
//===----------------------------------------------------------------------===//
#ifndef PEFT_CUDA_NUMBERS_H
#define PEFT_CUDA_NUMBERS_H

#include "cuda/Grid.h"
#include "peft/FloatTypes.h"

#include <cstdint>

#ifdef __CUDACC__
#include <cuda_bf16.h>
#include <cuda_fp16.h>
#endif

namespace peft::cuda {

struct BF16 {
  uint16_t bits;
};
struct F16 {
  uint16_t bits;
};

__host__ __device__ inline float toFloat(float value) { return value; }

__host__ __device__ inline float toFloat(BF16 value) {
#ifdef __CUDA_ARCH__
  return __uint_as_float(static_cast<unsigned>(value.bits) << 16);
#else
  return bfloatToFloat(value.bits);
#endif
}

__host__ __device__ inline float toFloat(F16 value) {
#ifdef __CUDA_ARCH__
  return __half2float(__ushort_as_half(value.bits));
#else
  return halfToFloat(value.bits);
#endif
}

/// `value` as a T, rounded to nearest even.
template <typename T> __host__ __device__ inline T fromFloat(float value);

template <> __host__ __device__ inline float fromFloat<float>(float value) {
  return value;
}

template <> __host__ __device__ inline BF16 fromFloat<BF16>(float value) {
#ifdef __CUDA_ARCH__
  return {__bfloat16_as_ushort(__float2bfloat16_rn(value))};
#else
  return {floatToBfloat(value)};
#endif
}

template <> __host__ __device__ inline F16 fromFloat<F16>(float value) {
#ifdef __CUDA_ARCH__
  return {__half_as_ushort(__float2half_rn(value))};
#else
  return {floatToHalf(value)};
#endif
}

/// `count` elements that are loaded and stored at once; their address is a
/// multiple of their size.
template <typename T, unsigned count> struct alignas(sizeof(T) * count) Pack {
  T value[count];
};

/// The pack that begins at `first`. Where it is copied from or to, the host build
/// checks the address of this reference; of a plain copy it does not.
template <unsigned count, typename T>
__device__ inline const Pack<T, count> &packAt(const T *first) {
  return *reinterpret_cast<const Pack<T, count> *>(first);
}
template <unsigned count, typename T>
__device__ inline Pack<T, count> &packAt(T *first) {
  return *reinterpret_cast<Pack<T, count> *>(first);
}

/// How many elements a thread takes at once where addresses allow it.
constexpr unsigned packSize = 8;

/// Floats in memory, of a type that is the same for all threads of a launch, so
/// that one kernel serves all types: the branch costs less than the memory.
/// Elements are counted from `data`; n of them are read or written at once,
/// where n is 1 or the index is a multiple of n (operands start at multiples of
/// 64 bytes).
struct FloatsIn {
  const std::byte *data = nullptr;
  DType type = DType::f32;

  FloatsIn() = default;
  explicit FloatsIn(const Operand &operand)
      : data(operand.data), type(operand.type) {}

  template <typename T, unsigned n>
  __device__ void loadAs(uint64_t index, float (&to)[n]) const {
    const Pack<T, n> pack =
        packAt<n>(reinterpret_cast<const T *>(data) + index);
    for (unsigned i = 0; i < n; ++i)
      to[i] = toFloat(pack.value[i]);
  }
  template <unsigned n>
  __device__ void load(uint64_t index, float (&to)[n]) const {
    if (type == DType::f32)
      loadAs<float>(index, to);
    else if (type == DType::bf16)
      loadAs<BF16>(index, to);
    else
      loadAs<F16>(index, to);
  }
  __device__ float operator[](uint64_t index) const {
    float value[1];
    load(index, value);
    return value[0];
  }
};

struct FloatsOut {
  std::byte *data = nullptr;
  DType type = DType::f32;

  FloatsOut() = default;
  explicit FloatsOut(const Operand &operand)
      : data(operand.data), type(operand.type) {}

  template <typename T, unsigned n>
  __device__ void storeAs(uint64_t index, const float (&from)[n]) const {
    Pack<T, n> pack;
    for (unsigned i = 0; i < n; ++i)
      pack.value[i] = fromFloat<T>(from[i]);
    packAt<n>(reinterpret_cast<T *>(data) + index) = pack;
  }
  template <unsigned n>
  __device__ void store(uint64_t index, const float (&from)[n]) const {
    if (type == DType::f32)
      storeAs<float>(index, from);
    else if (type == DType::bf16)
      storeAs<BF16>(index, from);
    else
      storeAs<F16>(index, from);
  }
  __device__ void set(uint64_t index, float to) const {
    const float value[1] = {to};
    store(index, value);
  }
};

/// body(T()) with the element type that stands for `type`, one of the three
/// floats; returns what it returns.
template <typename Body> auto withFloat(DType type, const Body &body) {
  switch (type) {
  case DType::bf16:
    return body(BF16());
  case DType::f16:
    return body(F16());
  default:
    return body(float());
  }
}

} // namespace peft::cuda

#endif // PEFT_CUDA_NUMBERS_H
