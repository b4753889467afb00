//===- PlanRun.h - a stranger's plan, executed if it verifies ---*- C++ -*-===//
#ifndef PEFT_TEST_PLANRUN_H
#define PEFT_TEST_PLANRUN_H

#include "peft/CpuDevice.h"
#include "peft/Executor.h"

#include <cmath>
#include <memory>

namespace peft::test {

enum class PlanOutcome { refused, tooLarge, executed };

/// Whether executing the plan takes little memory and (roughly bounded by the
/// operands' sizes) little time.
inline bool isSmall(const Plan &plan) {
  constexpr uint64_t byteLimit = 64 << 20; // a card's library takes 32 of it
  uint64_t bytes = 0;
  for (const Arena &arena : plan.arenas)
    bytes += std::min(arena.size, byteLimit);
  for (const Weight &weight : plan.weights) {
    uint64_t size = byteSize(weight.dtype);
    for (uint64_t extent : weight.shape)
      size = size > byteLimit ? size : size * extent;
    bytes += std::min(size, byteLimit);
  }
  double work = 0;
  for (const Entry &entry : plan.entries)
    for (const Item &item : entry.items) {
      const auto *launch = std::get_if<Launch>(&item.action);
      double largest = 0;
      for (uint32_t operand :
           launch ? launch->operands : std::vector<uint32_t>())
        if (operand != none)
          largest = std::max(largest, double(plan.buffers[operand].size));
      bool square = launch && launch->kernel.starts_with("attention");
      work += std::pow(largest, square ? 2 : 1.5);
    }
  return bytes < byteLimit && work < 1e9;
}

/// Parses the bytes; a plan that verifies runs every entry once with weights,
/// ids and everything else zero. A fault that a kernel reports is as good an
/// end as success. Anything else that fails after verification is a bug.
inline Expected<PlanOutcome> runIfValid(std::span<const std::byte> bytes) {
  Expected<Plan> plan = parsePlan(bytes);
  if (!plan.ok())
    return PlanOutcome::refused;
  if (!isSmall(*plan))
    return PlanOutcome::tooLarge;
  auto zeros = std::make_shared<std::vector<std::byte>>(8 << 20);
  BoundWeights weights;
  weights.owner = zeros;
  for (const Weight &weight : plan->weights) {
    uint64_t elements = 1;
    for (uint64_t extent : weight.shape)
      elements *= extent;
    uint64_t size = byteCount(weight.dtype, elements);
    weights.bytes.push_back(std::span(*zeros).first(size));
  }
  DeviceOptions options;
  options.threads = 1;
  PEFT_ASSIGN(std::unique_ptr<Device> device, createCpuDevice(options));
  Expected<std::unique_ptr<Executor>> executor =
      Executor::create(*plan, std::move(weights), std::move(device));
  if (!executor.ok())
    return executor.status().code() == Code::unsuitable
               ? Expected<PlanOutcome>(PlanOutcome::refused)
               : executor.status();
  for (const Entry &entry : plan->entries) {
    Status status = (*executor)->run(entry.name);
    if (!status.ok() && status.code() != Code::badInput)
      return status;
  }
  return PlanOutcome::executed;
}

} // namespace peft::test

#endif // PEFT_TEST_PLANRUN_H
