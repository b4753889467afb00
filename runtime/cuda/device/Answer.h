//===- Answer.h - what the driver answers -----------------------*- C++ -*-===//
#ifndef PEFT_CUDA_DEVICE_ANSWER_H
#define PEFT_CUDA_DEVICE_ANSWER_H

#include "peft/Status.h"

#include <cuda_runtime_api.h>

namespace peft::cuda {

/// Ok, or internal with the call and the driver's words.
Status answer(cudaError_t error, const char *call);

} // namespace peft::cuda

/// Returns from the enclosing function when a call of the CUDA runtime fails.
#define PEFT_CUDA(call) PEFT_TRY(::peft::cuda::answer(call, #call))

#endif // PEFT_CUDA_DEVICE_ANSWER_H
