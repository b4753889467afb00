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

#include "../unit/TinyPlan.h"

#include <cstdint>
#include <cstdio>
#include <cstdlib>

using namespace peft;

extern "C" size_t LLVMFuzzerMutate(uint8_t *data, size_t size, size_t maxSize);

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
  if (seed % 4 == 0)
    return LLVMFuzzerMutate(data, size, maxSize);
  Expected<Plan> plan =
      decodePlan({reinterpret_cast<const std::byte *>(data), size});
  Plan changed = plan.ok() ? std::move(*plan) : test::tinyPlan();
  test::PlanMutator(seed).mutate(changed);
  std::string bytes = serializePlan(changed);
  if (bytes.size() > maxSize)
    return LLVMFuzzerMutate(data, size, maxSize);
  std::copy(bytes.begin(), bytes.end(), data);
  return bytes.size();
}
