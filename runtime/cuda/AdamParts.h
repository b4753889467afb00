//===- AdamParts.h - what the kinds of AdamW have in common -----*- C++ -*-===//
#ifndef PEFT_CUDA_ADAMPARTS_H
#define PEFT_CUDA_ADAMPARTS_H

#include "cuda/Grid.h"
#include "cuda/MultiTensor.h"
#include "peft/DynamicMap.h"
#include "schema/CudaParts.h"

namespace peft::cuda {

/// What finish_step's scalars are for one tensor: computed in f64, rounded
/// once.
struct AdamScalars {
  float scale, shrink, oldFirst, newFirst, oldSecond, newSecond, correction,
      epsilon, minusStep;
};

/// The whole block calls.
__device__ inline AdamScalars adamScalars(const double *adam, double rateFactor,
                                          bool decays) {
  __shared__ AdamScalars shared;
  // f64 is slow on most cards: once per block.
  if (threadIdx.x == 0) {
    const double rate = adam[1] * rateFactor;
    shared.scale = static_cast<float>(adam[0]);
    shared.shrink = static_cast<float>(decays ? 1 - rate * adam[5] : 1.0);
    shared.oldFirst = static_cast<float>(adam[2]);
    shared.newFirst = static_cast<float>(1 - adam[2]);
    shared.oldSecond = static_cast<float>(adam[3]);
    shared.newSecond = static_cast<float>(1 - adam[3]);
    shared.correction = static_cast<float>(sqrt(adam[7]));
    shared.epsilon = static_cast<float>(adam[4]);
    shared.minusStep = static_cast<float>(-rate / adam[6]);
  }
  __syncthreads();
  return shared;
}

/// What is left of a part without its first `elements`.
__host__ __device__ inline AdamwPart skip(AdamwPart part, uint64_t elements) {
  part.parameter += elements;
  part.gradient += elements;
  part.firstMoment += elements;
  part.secondMoment += elements;
  return part;
}

__host__ __device__ inline CodedMoment skip(CodedMoment moment,
                                            uint64_t elements) {
  return {moment.codes + elements, moment.scales + elements / momentBlock};
}

__host__ __device__ inline CodedAdamwPart skip(CodedAdamwPart part,
                                               uint64_t elements) {
  part.parameter += elements;
  part.gradient += elements;
  part.first = skip(part.first, elements);
  part.second = skip(part.second, elements);
  return part;
}

/// The tensors of one launch as one part that is too long.
template <typename Part> struct WholeTensor {
  Part part;
  uint64_t elements;

  __host__ __device__ Part cut(uint64_t number) const {
    const uint64_t begin = number * cudaTensorPart, left = elements - begin;
    Part result = skip(part, begin);
    result.elements =
        static_cast<uint32_t>(left < cudaTensorPart ? left : cudaTensorPart);
    return result;
  }
  unsigned parts() const {
    return static_cast<unsigned>((elements + cudaTensorPart - 1) /
                                 cudaTensorPart);
  }
};

} // namespace peft::cuda

#endif // PEFT_CUDA_ADAMPARTS_H
