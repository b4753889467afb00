//===- SetCondition.h - the predicate of a conditional node -----*- C++ -*-===//
#ifndef PEFT_CUDA_DEVICE_SETCONDITION_H
#define PEFT_CUDA_DEVICE_SETCONDITION_H

#include "cuda/Call.h"

#include <cuda_runtime_api.h>

namespace peft::cuda {

/// Brings the kernel of setCondition onto the card. It only runs in graphs.
cudaError_t loadCondition();

/// Enqueues a kernel that opens `condition` iff `gate` is open. The body of a
/// conditional node of the graph that `condition` belongs to then runs or not,
/// without the host.
Status setCondition(cudaStream_t stream, cudaGraphConditionalHandle condition,
                    const Gate &gate);

} // namespace peft::cuda

#endif // PEFT_CUDA_DEVICE_SETCONDITION_H
