//===- LibraryKernels.cpp - what libraries compute on a card --------------===//
//
// The linear family is cuBLASLt's on a card, which does not run here: the plain
// CPU kernels stand in for it, on the same memory and with the same contract.
//
//===----------------------------------------------------------------------===//
#include "cpu/Call.h"
#include "cpu/ThreadPool.h"
#include "cuda/Kernels.h"

#include <string_view>
#include <vector>

namespace peft::cuda {

namespace {

Status runPlain(const Call &call, std::string_view kernel) {
  if (call.gate.value && *call.gate.value <= call.gate.above)
    return {};
  static cpu::ThreadPool pool(1);
  std::vector<cpu::Operand> operands;
  for (const Operand &operand : call.operands)
    operands.push_back(
        {operand.data, operand.type, operand.rows, operand.columns});
  cpu::Call onHost;
  onHost.operands = operands;
  onHost.attributes = call.attributes;
  onHost.pool = &pool;
  const size_t number =
      static_cast<size_t>(findKernel(kernel) - allKernels().data());
  if (cpu::Fault fault =
          cpu::findFunction(cpu::Path::plain, number)(onHost))
    return internalError(std::string(kernel) + ": " + fault.text);
  return {};
}

} // namespace

Status linear_fwd(const Call &call) { return runPlain(call, "linear_fwd"); }
Status linear_lora_fwd(const Call &call) {
  return runPlain(call, "linear_lora_fwd");
}
Status linear_dx(const Call &call) { return runPlain(call, "linear_dx"); }
Status linear_lora_dx(const Call &call) {
  return runPlain(call, "linear_lora_dx");
}
Status linear_dw(const Call &call) { return runPlain(call, "linear_dw"); }
Status lora_down_fwd(const Call &call) {
  return runPlain(call, "lora_down_fwd");
}
Status lora_down_dw(const Call &call) { return runPlain(call, "lora_down_dw"); }

} // namespace peft::cuda
