//===- PlainGemm.h - the linear family on CUDA cores ------------*- C++ -*-===//
//
// Any shape, type and alignment, f32 sums in one order. It stands in where a
// library has no algorithm (odd leading dimensions), and is the LoRA kernels
// with dropout in f32.
//
//===----------------------------------------------------------------------===//
#ifndef PEFT_CUDA_PLAINGEMM_H
#define PEFT_CUDA_PLAINGEMM_H

#include "cuda/Dropout.h"

namespace peft::cuda {

/// left [rows, depth] times right [depth, columns]; a transposed operand is
/// stored the other way round. Elements of another type than the compute type
/// are rounded to it.
struct PlainProduct {
  Operand left, right;
  bool leftTransposed = false, rightTransposed = false;
  uint64_t depth = 0;
};

/// Which factors dropout masks, at (row, feature) of the launch.
enum class Masked : uint8_t {
  nothing,
  left,  ///< the left operand, [rows, depth]
  right, ///< the right operand, [depth, columns]
  first, ///< the first product, [rows, columns]
};

/// out = scale (init + bias + products), sums in ascending order.
struct PlainGemm {
  DType compute = DType::f32;
  uint64_t rows = 0, columns = 0;
  PlainProduct products[2];
  unsigned productCount = 1;
  /// The first product is formed from zero, masked, and then added to `init`.
  bool firstApart = false;
  Operand init; ///< any float type, may be `out`
  Operand bias; ///< one row, rounded to the compute type
  Operand out;
  float scale = 1;
  /// Not: out = init + bias + scale products.
  bool scalesStart = true;
  Masked masked = Masked::nothing;
  Dropout dropout;
  /// Limits the rows of the launch: those of `out`, or the depth if
  /// `countsDepth`; the rows of `out` past it are not written.
  Operand count;
  int64_t rowStart = 0;
  bool countsDepth = false;
  /// f32 scratch: a long product into few outputs is split into as many parts
  /// as fit, which are added in order. None: one part.
  std::byte *scratch = nullptr;
  uint64_t scratchBytes = 0;
};

Status plainGemm(const Call &call, const PlainGemm &gemm);

/// The kernels of kernels.def, dropout included. The workspace of the call is
/// scratch.
Status plainLinearFwd(const Call &call);
Status plainLinearLoraFwd(const Call &call);
Status plainLinearDx(const Call &call);
Status plainLinearLoraDx(const Call &call);
Status plainLinearDw(const Call &call);
Status plainLoraDownFwd(const Call &call);
Status plainLoraDownGroupFwd(const Call &call);
Status plainLoraDownDw(const Call &call);

} // namespace peft::cuda

#endif // PEFT_CUDA_PLAINGEMM_H
