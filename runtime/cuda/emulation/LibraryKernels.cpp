//===- LibraryKernels.cpp - what libraries compute on a card --------------===//
//
// The linear family is cuBLASLt's on a card, which does not run here: what
// stands in for the library there stands in for it here too, our own products on
// CUDA cores. With dropout the kernels are ours on a card as well.
//
//===----------------------------------------------------------------------===//
#include "cuda/Kernels.h"
#include "cuda/Lora.h"
#include "cuda/PlainGemm.h"

namespace peft::cuda {

Status linear_fwd(const Call &call) { return plainLinearFwd(call); }
Status linear_lora_fwd(const Call &call) { return plainLinearLoraFwd(call); }
Status linear_dx(const Call &call) { return plainLinearDx(call); }
Status linear_dw(const Call &call) { return plainLinearDw(call); }

Status linear_lora_dx(const Call &call) {
  using namespace kernels::linear_lora_dx;
  if (!(call.real(dropout) > 0))
    return plainLinearLoraDx(call);
  // The first half keeps f32 until the second is added.
  Operand sum = call[dx];
  if (sum.type != DType::f32) {
    sum.type = DType::f32;
    sum.data = call.workspace;
  }
  if (Status status = loraDxMasked(call, sum); !status.ok())
    return status;
  PlainGemm gemm;
  gemm.compute = call[dy].type;
  gemm.rows = call[dy].rows;
  gemm.columns = call[w].columns;
  gemm.products[0] = {call[dy], call[w], false, false, call[dy].columns};
  gemm.init = sum;
  gemm.out = call[dx];
  gemm.count = call[count];
  gemm.rowStart = call.integer(row_start);
  return plainGemm(call, gemm);
}

Status lora_down_fwd(const Call &call) {
  return call.real(kernels::lora_down_fwd::dropout) > 0
             ? loraDownFwdMasked(call)
             : plainLoraDownFwd(call);
}
Status lora_down_dw(const Call &call) {
  return call.real(kernels::lora_down_dw::dropout) > 0
             ? loraDownDwMasked(call)
             : plainLoraDownDw(call);
}

} // namespace peft::cuda
