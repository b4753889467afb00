//===- QuantizedWeight.h - the parts of a quantized weight ------*- C++ -*-===//
//
// Host side; device code is in Quantized.h.
//
//===----------------------------------------------------------------------===//
#ifndef PEFT_CUDA_QUANTIZEDWEIGHT_H
#define PEFT_CUDA_QUANTIZEDWEIGHT_H

#include "cuda/Call.h"
#include "schema/QuantizedParts.h"

namespace peft::cuda {

/// The operands of a launch that make up a quantized weight.
struct QuantizedWeight {
  Operand codes, absmax, nestedAbsmax, tables;
  uint64_t block = 0, nested = 0;
};

inline QuantizedWeight readQuantized(const Call &call,
                                     const QuantizedOperands &parts) {
  return {call[parts.codes],
          call[parts.absmax],
          call[parts.nestedAbsmax],
          call[parts.tables],
          static_cast<uint64_t>(call.integer(parts.block)),
          static_cast<uint64_t>(call.integer(parts.nested))};
}

/// to = the weight's values in to's type. Not a kernel of kernels.def by
/// itself: linear kernels call it for their workspace.
Status dequantizeTo(const Call &call, const QuantizedWeight &weight,
                    const Operand &to);

struct RowIndex;
/// y[i] = scale times the row of `table` that the index names.
Status embedQuantized(const Call &call, const RowIndex &index,
                      const QuantizedWeight &table, const Operand &y,
                      float scale);

} // namespace peft::cuda

#endif // PEFT_CUDA_QUANTIZEDWEIGHT_H
