//===- LibraryAttention.h - a launch of attention by a library --*- C++ -*-===//
#ifndef PEFT_CUDA_DEVICE_LIBRARYATTENTION_H
#define PEFT_CUDA_DEVICE_LIBRARYATTENTION_H

#include "cuda/AttentionGates.h"
#include "cuda/plan/AttentionChoices.h"

namespace peft::cuda {

/// Enqueues attention_fwd or attention_bwd (`call`) as `choice.graph` does it,
/// whether or not the call's gate is open. Errors: internal.
Status runLibraryAttention(const Call &call, const AttentionChoice &choice);

} // namespace peft::cuda

#endif // PEFT_CUDA_DEVICE_LIBRARYATTENTION_H
