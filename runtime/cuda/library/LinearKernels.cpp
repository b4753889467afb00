//===- LinearKernels.cpp - the kernels of the linear family ---------------===//
#include "Multiply.h"
#include "cuda/Kernels.h"
#include "cuda/LinearParts.h"
#include "cuda/Lora.h"

namespace peft::cuda {

static Status runStep(const Call &call, const LinearStep &step,
                      const LibraryArea &area) {
  switch (step.kind) {
  case LinearStep::Kind::convert:
    return convertElements(call, step.from, step.to);
  case LinearStep::Kind::dequantize:
    return dequantizeTo(call, step.weight, step.to);
  case LinearStep::Kind::rows:
    return copyCountedRows(call, step.from, step.to, step.count, step.rowStart);
  case LinearStep::Kind::start:
    return writeStart(call, step.from, step.bias, step.compute, step.to);
  case LinearStep::Kind::product:
    return multiply(call, step.product, area);
  case LinearStep::Kind::stackDown:
    return stackDownWeights(call, step.to);
  case LinearStep::Kind::splitDown:
    return splitDownSums(call, step.from);
  case LinearStep::Kind::maskedDown:
    return loraDownFwdMasked(call);
  case LinearStep::Kind::maskedDownGroup:
    return loraDownGroupFwdMasked(call);
  case LinearStep::Kind::maskedSums:
    return loraDownDwMasked(call);
  case LinearStep::Kind::maskedDx:
    return loraDxMasked(call, step.to);
  }
  return internalError("a step of unknown kind");
}

static Status run(const char *kernel, const Call &call) {
  auto number = static_cast<size_t>(findKernel(kernel) - allKernels().data());
  PEFT_ASSIGN(LinearWork work, describeLinear(number, call));
  PEFT_ASSIGN(LibraryArea area, libraryArea(call, work));
  for (const LinearStep &step : work.steps)
    PEFT_TRY(runStep(call, step, area));
  return {};
}

#define PEFT_LINEAR(kernel)                                                    \
  Status kernel(const Call &call) { return run(#kernel, call); }
PEFT_LINEAR(linear_fwd)
PEFT_LINEAR(linear_lora_fwd)
PEFT_LINEAR(linear_dx)
PEFT_LINEAR(linear_lora_dx)
PEFT_LINEAR(linear_dw)
PEFT_LINEAR(lora_down_fwd)
PEFT_LINEAR(lora_down_group_fwd)
PEFT_LINEAR(lora_down_dw)
#undef PEFT_LINEAR

} // namespace peft::cuda
