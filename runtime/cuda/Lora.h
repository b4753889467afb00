//===- Lora.h - the skinny products of LoRA under dropout -------*- C++ -*-===//
//
// Our own kernels: a mask belongs to a module, so no product serves two of them,
// and the masked input is never written. Tensor cores in bf16 and f16, PlainGemm in
// f32. The calls are those of kernels.def, with dropout > 0.
//
//===----------------------------------------------------------------------===//
#ifndef PEFT_CUDA_LORA_H
#define PEFT_CUDA_LORA_H

#include "cuda/Call.h"

namespace peft::cuda {

/// All of lora_down_fwd: t = scale (mask(x) a^T). No workspace.
Status loraDownFwdMasked(const Call &call);

/// All of lora_down_group_fwd: the same for every adapter, with its own mask, in
/// one launch (in f32 one each). No workspace.
Status loraDownGroupFwdMasked(const Call &call);

/// All of lora_down_dw: da += dt^T mask(x). The workspace begins with
/// cudaMaskedSums bytes of ours.
Status loraDownDwMasked(const Call &call);

/// The first half of linear_lora_dx: out = init + mask(dt a), [m, k] f32; dy w
/// is then added to it. `out` may be the call's init. Rows past the count stay.
/// No workspace.
Status loraDxMasked(const Call &call, const Operand &out);

} // namespace peft::cuda

#endif // PEFT_CUDA_LORA_H
