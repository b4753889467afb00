//===- LinearParts.h - what surrounds the products of a library -*- C++ -*-===//
#ifndef PEFT_CUDA_LINEARPARTS_H
#define PEFT_CUDA_LINEARPARTS_H

#include "cuda/Call.h"

namespace peft::cuda {

/// to = from rounded to nearest even; any two float types, the same elements.
Status convertElements(const Call &call, const Operand &from,
                       const Operand &to);

/// to = from in the first count - rowStart rows, zero in the others. `count` is
/// an i32 in device memory. Both of one type and shape.
Status copyCountedRows(const Call &call, const Operand &from, const Operand &to,
                       const Operand &count, int64_t rowStart);

/// to = init + bias, the bias rounded to `compute` first and added to
/// every row. `init` is f32 and may be `to`, or absent.
Status writeStart(const Call &call, const Operand &init, const Operand &bias,
                  DType compute, const Operand &to);

/// Of a call of lora_down_group_fwd: to = its adapters one below the other,
/// rounded to to's type.
Status stackDownWeights(const Call &call, const Operand &to);
/// Of the same: every output = its scale times its columns of `from`, f32
/// [m, all ranks].
Status splitDownSums(const Call &call, const Operand &from);

} // namespace peft::cuda

#endif // PEFT_CUDA_LINEARPARTS_H
