//===- AttentionGates.h - what surrounds attention by a library -*- C++ -*-===//
#ifndef PEFT_CUDA_ATTENTIONGATES_H
#define PEFT_CUDA_ATTENTIONGATES_H

#include "cuda/Call.h"

namespace peft::cuda {

/// Which of two ways a launch of attention takes, in device memory: at most one
/// of them is 1.
struct AttentionGates {
  int32_t library = 0; ///< every batch row is one segment
  int32_t own = 0;     ///< some row is not: the library knows no segments
};

/// Enqueues kernels that set `gates`: both 0 while the call's own gate is
/// closed. `call` is one of attention_bwd (`backward`) or attention_fwd with
/// segments. Errors: internal.
Status openAttentionGates(const Call &call, bool backward,
                          AttentionGates *gates);

/// to [heads, batch, seq] = from [batch, heads, seq], or the other way round:
/// the numbers of each query as kernels.def and as a library have them.
struct QueryNumberShape {
  uint64_t batch = 1, heads = 1, seq = 1;
};
Status numbersByHead(const Call &call, const QueryNumberShape &shape,
                     const float *from, float *to);
Status numbersByRow(const Call &call, const QueryNumberShape &shape,
                    const float *from, float *to);

} // namespace peft::cuda

#endif // PEFT_CUDA_ATTENTIONGATES_H
