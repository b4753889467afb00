//===- PlanVerifier.h - the parts of verifyPlan -----------------*- C++ -*-===//
//
// Each function checks one kind of table and may rely on those before it in
// this list having passed.
//
//===----------------------------------------------------------------------===//
#ifndef PEFT_CORE_PLANVERIFIER_H
#define PEFT_CORE_PLANVERIFIER_H

#include "peft/KernelSpec.h"
#include "peft/Plan.h"

#include <string>
#include <string_view>
#include <unordered_set>

namespace peft::verifier {

constexpr size_t maxStreams = 8;
constexpr size_t maxArenas = 16;
/// Larger than any machine's memory, small enough that sums never overflow.
constexpr uint64_t maxBytes = uint64_t(1) << 48;
constexpr uint64_t maxExtent = 0x7fffffff; ///< of one dimension

/// Numbers, texts, streams.
Status checkHeader(const Plan &plan);
/// Arenas, weights with their slices, buffers, overlap of persistent ones.
Status checkMemory(const Plan &plan);
/// Initializers, groups, parameters, ports.
Status checkRoles(const Plan &plan);
/// Operands, types, shapes, attributes, workspaces, ranges of every item.
Status checkItems(const Plan &plan, uint32_t entry);
/// Events, the race check and the definition check.
Status checkOrder(const Plan &plan, uint32_t entry);

/// A text that can be printed and put into JSON: UTF-8 without control
/// characters (line breaks and tabs where `lines`).
Status checkText(const std::string &text, const char *what, bool lines = false);

/// "buffers[3] 'x'"
std::string label(const char *table, size_t index, std::string_view name);
std::string quoted(std::string_view text);

/// Refuses the second table of one name.
class UniqueNames {
public:
  Status add(const std::string &name);

private:
  std::unordered_set<std::string_view> seen;
};

} // namespace peft::verifier

#endif // PEFT_CORE_PLANVERIFIER_H
