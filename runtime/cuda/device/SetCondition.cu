//===- SetCondition.cu - the predicate of a conditional node --------------===//
//
// Not among the kernels: it needs a graph, which the emulation has not.
//
//===----------------------------------------------------------------------===//
#include "SetCondition.h"

#include "Answer.h"

#include <cuda_runtime.h>

namespace peft::cuda {

static __global__ void openCondition(Gate gate,
                                     cudaGraphConditionalHandle condition) {
  cudaGraphSetConditional(condition, *gate.value > gate.above);
}

cudaError_t loadCondition() {
  cudaFuncAttributes attributes{};
  return cudaFuncGetAttributes(&attributes, openCondition);
}

Status setCondition(cudaStream_t stream, cudaGraphConditionalHandle condition,
                    const Gate &gate) {
  openCondition<<<1, 1, 0, stream>>>(gate, condition);
  return answer(cudaGetLastError(), "openCondition");
}

} // namespace peft::cuda
