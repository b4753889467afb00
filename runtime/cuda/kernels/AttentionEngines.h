//===- AttentionEngines.h - the engines of attention ------------*- C++ -*-===//
//
// Attention.cu reads a call, prepares what every engine needs and takes one:
// tensor cores for bf16 and f16 with heads of up to 256 features in whole
// chunks of 16 bytes, CUDA cores for all others (f32 above all).
//
//===----------------------------------------------------------------------===//
#ifndef PEFT_CUDA_KERNELS_ATTENTIONENGINES_H
#define PEFT_CUDA_KERNELS_ATTENTIONENGINES_H

#include "cuda/AttentionShape.h"

namespace peft::cuda {

/// What the backward pass needs of a query, in workspace as [heads, rows].
struct QueryNumbers {
  float lse2; ///< lse in base 2
  /// Sum over the features of o x d_o. Infinite for a query that sees one key:
  /// its scores have no gradient, whatever rounding errors say.
  float delta;
};

struct ForwardOperands {
  Operand q, k, v, o, lse;
};
struct BackwardOperands {
  Operand q, k, v, dO, dq, dk, dv;
  const QueryNumbers *numbers;
};

/// The gradient of a score whose probability is p.
__device__ inline float scoreGradient(float p, float dp, float delta,
                                      float scale) {
  return delta == INFINITY ? 0.0f : p * (dp - delta) * scale;
}

Status tensorForward(const Call &call, const AttentionShape &shape,
                     const ForwardOperands &operands);
Status tensorBackward(const Call &call, const AttentionShape &shape,
                      const BackwardOperands &operands);
Status plainForward(const Call &call, const AttentionShape &shape,
                    const ForwardOperands &operands);
Status plainBackward(const Call &call, const AttentionShape &shape,
                     const BackwardOperands &operands);

/// Sizes of a call of attention_fwd or attention_bwd, with `ranges` at its place
/// in the call's workspace, and the kernel that fills them.
AttentionShape forwardShape(const Call &call);
AttentionShape backwardShape(const Call &call);
Status fillRanges(const Call &call, const AttentionShape &shape);

} // namespace peft::cuda

#endif // PEFT_CUDA_KERNELS_ATTENTIONENGINES_H
