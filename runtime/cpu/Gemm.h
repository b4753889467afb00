//===- Gemm.h - one description for all linear kernels ----------*- C++ -*-===//
//
// Every kernel of the linear family is out = scale (start + left right), where
// each output element is one chain of f32 fma over the reduction in ascending
// order. Gemm.cpp reads the calls into this form; plain/Gemm.cpp is its
// reference and simd/Gemm.cpp its fast implementation.
//
//===----------------------------------------------------------------------===//
#ifndef PEFT_CPU_GEMM_H
#define PEFT_CPU_GEMM_H

#include "Dropout.h"
#include "Quantized.h"

namespace peft::cpu {

/// left [rows, depth] times right [depth, columns]. A transposed operand is
/// stored the other way round.
struct Product {
  Operand left, right;
  bool leftTransposed = false, rightTransposed = false;
  uint64_t depth = 0;
  Quantized rightQuantized = {}; ///< what `right` holds the codes of
};

enum class Masked : uint8_t {
  nothing,
  left,  ///< dropout of the left operand, rows x depth
  right, ///< dropout of the right operand, depth x columns
  first, ///< dropout of the first product, rows x columns
};

/// Mask positions are (row, feature) with the row of the launch.
struct Gemm {
  DType compute = DType::f32;
  uint64_t rows = 0, columns = 0;
  Product products[2];
  unsigned productCount = 1;
  /// The first product is formed from zero and then added to `init` (and
  /// masked); otherwise all products form one chain from init + bias.
  bool firstApart = false;
  Operand init; ///< f32 [rows, columns], may be `out`
  Operand bias; ///< one row, in a weight's type
  Operand out;
  float scale = 1;
  Masked masked = Masked::nothing;
  Dropout dropout;
};

/// The Gemm of a call of the kernel of the same name.
Fault describeLinearFwd(const Call &call, Gemm &gemm);
Fault describeLinearLoraFwd(const Call &call, Gemm &gemm);
Fault describeLinearDx(const Call &call, Gemm &gemm);
Fault describeLinearLoraDx(const Call &call, Gemm &gemm);
Fault describeLinearDw(const Call &call, Gemm &gemm);
Fault describeLoraDownFwd(const Call &call, Gemm &gemm);
Fault describeLoraDownDw(const Call &call, Gemm &gemm);

/// How many adapters a call of lora_down_group_fwd has, and the Gemm of one.
unsigned downGroupSize(const Call &call);
Fault describeLoraDownGroupFwd(const Call &call, unsigned member, Gemm &gemm);

} // namespace peft::cpu

/// Defines the kernels of the linear family over `multiply(call, gemm)`.
#define PEFT_LINEAR_KERNEL(kernel, describe)                                   \
  Fault kernel(const Call &call) {                                             \
    Gemm gemm;                                                                 \
    if (Fault fault = describe(call, gemm))                                    \
      return fault;                                                            \
    multiply(call, gemm);                                                      \
    return {};                                                                 \
  }
#define PEFT_LINEAR_GROUP(kernel, size, describe)                              \
  Fault kernel(const Call &call) {                                             \
    for (unsigned member = 0; member < size(call); ++member) {                 \
      Gemm gemm;                                                               \
      if (Fault fault = describe(call, member, gemm))                          \
        return fault;                                                          \
      multiply(call, gemm);                                                    \
    }                                                                          \
    return {};                                                                 \
  }
#define PEFT_LINEAR_KERNELS                                                    \
  PEFT_LINEAR_KERNEL(linear_fwd, describeLinearFwd)                            \
  PEFT_LINEAR_KERNEL(linear_lora_fwd, describeLinearLoraFwd)                   \
  PEFT_LINEAR_KERNEL(linear_dx, describeLinearDx)                              \
  PEFT_LINEAR_KERNEL(linear_lora_dx, describeLinearLoraDx)                     \
  PEFT_LINEAR_KERNEL(linear_dw, describeLinearDw)                              \
  PEFT_LINEAR_KERNEL(lora_down_fwd, describeLoraDownFwd)                       \
  PEFT_LINEAR_GROUP(lora_down_group_fwd, downGroupSize,                        \
                    describeLoraDownGroupFwd)                                  \
  PEFT_LINEAR_KERNEL(lora_down_dw, describeLoraDownDw)

#endif // PEFT_CPU_GEMM_H
