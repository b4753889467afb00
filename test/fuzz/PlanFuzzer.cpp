//===- PlanFuzzer.cpp - any bytes as a plan -------------------------------===//
//
// Whatever the bytes are: they are refused, or the plan in them executes
// without touching anything but its own buffers. Custom mutations change fields
// of valid plans, since random bytes rarely get past FlatBuffers' verifier. A
// run without a corpus starts from the tiny plan.
//
//===----------------------------------------------------------------------===//
#include "PlanMutations.h"
#include "PlanRun.h"

#include "../unit/EveryKernelPlan.h"

#include <cstdint>
#include <cstdio>
#include <cstdlib>

using namespace peft;

extern "C" size_t LLVMFuzzerMutate(uint8_t *data, size_t size, size_t maxSize);

/// Plans are larger than libFuzzer's default limit of 4096 bytes; flags that
/// the user gives come later and win.
extern "C" int LLVMFuzzerInitialize(int *count, char ***arguments) {
  static std::string flags[] = {"-max_len=200000", "-len_control=0"};
  static std::vector<char *> all(*arguments, *arguments + *count);
  for (std::string &flag : flags)
    all.insert(all.begin() + 1, flag.data());
  *count = static_cast<int>(all.size());
  all.push_back(nullptr);
  *arguments = all.data();
  return 0;
}

extern "C" int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  Expected<test::PlanOutcome> outcome =
      test::runIfValid({reinterpret_cast<const std::byte *>(data), size});
  if (!outcome.ok()) {
    std::fprintf(stderr, "%s\n", outcome.status().message().c_str());
    std::abort();
  }
  return 0;
}

extern "C" size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size,
                                          size_t maxSize, unsigned seed) {
  if (seed % 5 == 0)
    return LLVMFuzzerMutate(data, size, maxSize);
  Expected<Plan> plan =
      decodePlan({reinterpret_cast<const std::byte *>(data), size});
  Plan changed = plan.ok()       ? std::move(*plan)
                 : seed % 5 == 1 ? test::tinyPlan()
                 : seed % 5 == 2 ? test::everyKernelPlan(DType::f32)
                 : seed % 5 == 3 ? test::everyKernelPlan(DType::f16)
                                 : test::everyKernelPlan(DType::bf16);
  test::PlanMutator(seed).mutate(changed);
  std::string bytes = serializePlan(changed);
  if (bytes.size() > maxSize)
    return LLVMFuzzerMutate(data, size, maxSize);
  std::copy(bytes.begin(), bytes.end(), data);
  return bytes.size();
}
