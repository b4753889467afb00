//===- Program.cpp - an entry as a card runs it ---------------------------===//
#include "Program.h"

#include "cuda/library/Linear.h"
#include "peft/KernelSpec.h"

#include <algorithm>

namespace peft::cuda {

bool isMergeable(size_t kernel) {
  std::string_view name = allKernels()[kernel].name;
  return name == "adamw" || name == "adamw8bit" || name == "norm_square" ||
         name == "fill_zero";
}

namespace {

/// The operand that all launches of a merged step have in common: a sum, or
/// AdamW's scalars. Negative: none.
int sharedOperand(std::string_view kernel) {
  if (kernel == "norm_square")
    return kernels::norm_square::sum;
  if (kernel == "adamw")
    return kernels::adamw::adam;
  if (kernel == "adamw8bit")
    return kernels::adamw8bit::adam;
  return -1;
}

bool overlap(const ByteAccess &a, const ByteAccess &b) {
  return a.arena == b.arena && a.begin < b.end && b.begin < a.end;
}

bool conflict(const std::vector<ByteAccess> &a,
              const std::vector<ByteAccess> &b) {
  for (const ByteAccess &x : a)
    for (const ByteAccess &y : b)
      if ((x.writes || y.writes) && overlap(x, y))
        return true;
  return false;
}

bool samePredicate(const Predicate &a, const Predicate &b) {
  return a.buffer == b.buffer && a.above == b.above;
}

class Builder {
public:
  Builder(const Plan &plan, const Entry &entry, const MergeRules &rules)
      : entry(entry), rules(rules) {
    program.streams.resize(plan.streams.size());
    open.resize(plan.streams.size(), none);
    accessesOf.resize(entry.items.size());
    for (size_t i = 0; i < entry.items.size(); ++i)
      collectAccesses(plan, entry.items[i], accessesOf[i]);
  }

  Expected<Program> build();

private:
  void add(uint32_t item, const Launch &launch);
  void addSync(uint32_t stream, ProgramStep step);
  ProgramBlock &blockFor(uint32_t stream, const Predicate &predicate);
  bool merge(ProgramBlock &block, uint32_t item, uint32_t kernel);
  bool mayJoin(const ProgramStep &step, uint32_t item) const;

  const Entry &entry;
  const MergeRules &rules;
  Program program;
  std::vector<uint32_t> open; ///< by stream: the block that still grows
  std::vector<std::vector<ByteAccess>> accessesOf; ///< by item
};

ProgramBlock &Builder::blockFor(uint32_t stream, const Predicate &predicate) {
  uint32_t &index = open[stream];
  if (index == none ||
      !samePredicate(program.blocks[index].predicate, predicate)) {
    index = static_cast<uint32_t>(program.blocks.size());
    program.blocks.push_back({stream, predicate, false, {}});
  }
  program.streams[stream] = true;
  return program.blocks[index];
}

/// Launches of one kernel run at once if none writes what another uses. The sum
/// that all norm_square launches of a step add to is the exception: the merged
/// kernel adds in their order.
bool Builder::mayJoin(const ProgramStep &step, uint32_t item) const {
  const auto &mine = std::get<Launch>(entry.items[item].action);
  const auto &first = std::get<Launch>(entry.items[step.items[0]].action);
  const int common = sharedOperand(mine.kernel);
  const uint32_t shared = common < 0 ? none : mine.operands[common];
  if (common >= 0 && shared != first.operands[common])
    return false;
  for (uint32_t other : step.items)
    for (const ByteAccess &a : accessesOf[other])
      for (const ByteAccess &b : accessesOf[item]) {
        bool both = shared != none && a.buffer == shared && b.buffer == shared;
        if (!both && (a.writes || b.writes) && overlap(a, b))
          return false;
      }
  return true;
}

/// Puts `item` into an earlier step of its kernel if everything that stands
/// between does not mind.
bool Builder::merge(ProgramBlock &block, uint32_t item, uint32_t kernel) {
  if (!rules.merges || !isMergeable(kernel))
    return false;
  for (size_t i = block.steps.size(); i-- > 0;) {
    ProgramStep &step = block.steps[i];
    if (step.kind == ProgramStep::Kind::launch && step.kernel == kernel &&
        mayJoin(step, item)) {
      step.items.push_back(item);
      return true;
    }
    for (uint32_t other : step.items)
      if (conflict(accessesOf[other], accessesOf[item]))
        return false;
  }
  return false;
}

void Builder::add(uint32_t item, const Launch &launch) {
  uint32_t stream = entry.items[item].stream;
  auto kernel =
      static_cast<uint32_t>(findKernel(launch.kernel) - allKernels().data());
  ProgramBlock &block = blockFor(stream, launch.predicate);
  if (!merge(block, item, kernel))
    block.steps.push_back({ProgramStep::Kind::launch, {item}, kernel, none});
  block.conditional |= launch.predicate.buffer != none && isLinear(kernel);
  // The predicate keeps its value inside a block: the verifier lets no launch
  // write its own, and other streams would need a wait, which ends the block.
}

/// Records and waits end a block, so that what is grouped never moves across
/// what another stream was told.
void Builder::addSync(uint32_t stream, ProgramStep step) {
  program.events = std::max(program.events, step.event + 1);
  open[stream] = none;
  blockFor(stream, {}).steps.push_back(std::move(step));
  open[stream] = none;
}

Expected<Program> Builder::build() {
  using Kind = ProgramStep::Kind;
  for (uint32_t item = 0; item < entry.items.size(); ++item) {
    uint32_t stream = entry.items[item].stream;
    const auto &action = entry.items[item].action;
    if (const auto *launch = std::get_if<Launch>(&action))
      add(item, *launch);
    else if (std::holds_alternative<Copy>(action))
      blockFor(stream, {}).steps.push_back({Kind::copy, {item}, none, none});
    else if (const auto *record = std::get_if<Record>(&action))
      addSync(stream, {Kind::record, {item}, none, record->event});
    else if (const auto *wait = std::get_if<Wait>(&action))
      addSync(stream, {Kind::wait, {item}, none, wait->event});
    else
      return Status::error(Code::unsuitable,
                           "collectives need several ranks; this version "
                           "runs one");
  }
  return std::move(program);
}

} // namespace

Program::Count Program::count() const {
  Count count;
  for (const ProgramBlock &block : blocks) {
    count.conditional += block.conditional;
    for (const ProgramStep &step : block.steps)
      if (step.kind == ProgramStep::Kind::launch) {
        count.launches += step.items.size();
        ++count.steps;
      }
  }
  return count;
}

Expected<Program> buildProgram(const Plan &plan, uint32_t entry,
                               const MergeRules &rules) {
  return Builder(plan, plan.entries[entry], rules).build();
}

} // namespace peft::cuda
