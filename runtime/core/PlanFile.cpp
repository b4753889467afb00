//===- PlanFile.cpp - a plan from its file --------------------------------===//
#include "peft/File.h"
#include "peft/Plan.h"

namespace peft {

/// FlatBuffers cannot address more.
constexpr uint64_t planFileLimit = (uint64_t(1) << 31) - 1;

template <typename T>
static uint32_t findByName(const std::vector<T> &tables,
                           std::string_view name) {
  for (size_t i = 0; i < tables.size(); ++i)
    if (tables[i].name == name)
      return static_cast<uint32_t>(i);
  return none;
}

uint32_t Plan::findEntry(std::string_view name) const {
  return findByName(entries, name);
}

uint32_t Plan::findPort(std::string_view name) const {
  return findByName(ports, name);
}

Expected<Plan> parsePlan(std::span<const std::byte> bytes) {
  PEFT_ASSIGN(Plan plan, decodePlan(bytes));
  PEFT_TRY(verifyPlan(plan));
  return plan;
}

Expected<Plan> loadPlan(const std::string &path) {
  PEFT_ASSIGN(std::string bytes, readFile(path, planFileLimit));
  Expected<Plan> plan = parsePlan(asBytes(bytes));
  if (!plan.ok())
    return plan.status().in(path);
  return plan;
}

} // namespace peft
