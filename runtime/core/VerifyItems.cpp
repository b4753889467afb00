//===- VerifyItems.cpp - each item for itself -----------------------------===//
#include "PlanVerifier.h"
#include "peft/ItemAccess.h"

namespace peft::verifier {

namespace {

/// Checks the items of one entry; keeps its scratch between them.
class ItemChecker {
public:
  ItemChecker(const Plan &plan, uint32_t entry) : plan(plan), entry(entry) {}

  Status check(const Item &item);

private:
  Status check(const Launch &launch);
  Status check(const Copy &copy);
  Status check(const Collective &collective);
  Status check(const Record &record) { return checkEvent(record.event); }
  Status check(const Wait &wait) { return checkEvent(wait.event); }

  Status checkEvent(uint32_t event) const;
  /// `index` may be used here: in range, persistent or of this entry.
  Status checkBuffer(uint32_t index, std::string_view role) const;
  Status checkWritable(uint32_t index, std::string_view role) const;
  Status checkWorkspace(uint32_t index, uint64_t need, const char *role) const;
  Status checkReached(uint32_t index, std::string_view role) const;
  Status checkPredicate(const Predicate &predicate) const;
  Status checkOverlap(const Item &item);

  const Plan &plan;
  uint32_t entry;
  std::vector<OperandShape> shapes;
  std::vector<DType> types;
  std::vector<ByteAccess> accesses;
};

} // namespace

Status ItemChecker::checkEvent(uint32_t event) const {
  size_t limit = plan.entries[entry].items.size();
  if (event >= limit)
    return badInput("event " + std::to_string(event) +
                    " is beyond the number of items, " + std::to_string(limit));
  return {};
}

Status ItemChecker::checkBuffer(uint32_t index, std::string_view role) const {
  if (index >= plan.buffers.size())
    return badInput(quoted(role) + " is buffer " + std::to_string(index) +
                    " of " + std::to_string(plan.buffers.size()));
  const Buffer &buffer = plan.buffers[index];
  if (buffer.entry != none && buffer.entry != entry)
    return badInput(quoted(role) + " is buffer " + quoted(buffer.name) +
                    ", which is local to entry " +
                    quoted(plan.entries[buffer.entry].name));
  return {};
}

Status ItemChecker::checkWritable(uint32_t index, std::string_view role) const {
  PEFT_TRY(checkBuffer(index, role));
  const Buffer &buffer = plan.buffers[index];
  if (buffer.arena == none)
    return badInput(quoted(role) + " would write buffer " +
                    quoted(buffer.name) +
                    ", a mapped weight; those are read only");
  return {};
}

Status ItemChecker::checkWorkspace(uint32_t index, uint64_t need,
                                   const char *role) const {
  if (index == none && need == 0)
    return {};
  if (index == none)
    return badInput(std::string(role) + " workspace is absent, needed are " +
                    std::to_string(need) + " bytes");
  PEFT_TRY(checkWritable(index, role));
  const Buffer &buffer = plan.buffers[index];
  if (buffer.dtype != DType::u8)
    return badInput(std::string(role) + " workspace " + quoted(buffer.name) +
                    " is " + std::string(name(buffer.dtype)) +
                    ", needed is u8");
  if (buffer.size < need)
    return badInput(std::string(role) + " workspace " + quoted(buffer.name) +
                    " has " + std::to_string(buffer.size) +
                    " bytes, needed are " + std::to_string(need) +
                    "; was the plan compiled for another version of the "
                    "kernels? compile it again");
  return {};
}

/// Kernels do not reach pageable memory.
Status ItemChecker::checkReached(uint32_t index, std::string_view role) const {
  const Buffer &buffer = plan.buffers[index];
  if (buffer.arena != none &&
      plan.arenas[buffer.arena].space == Space::pageable)
    return badInput(quoted(role) + " is buffer " + quoted(buffer.name) +
                    " in pageable memory, which kernels do not reach");
  return {};
}

Status ItemChecker::checkPredicate(const Predicate &predicate) const {
  if (predicate.buffer == none)
    return {};
  PEFT_TRY(checkBuffer(predicate.buffer, "predicate"));
  const Buffer &buffer = plan.buffers[predicate.buffer];
  if (buffer.dtype != DType::i32 || buffer.arena == none)
    return badInput("the predicate " + quoted(buffer.name) +
                    " is not an i32 in an arena");
  return checkReached(predicate.buffer, "predicate");
}

/// What one item writes, no other operand of it may touch.
Status ItemChecker::checkOverlap(const Item &item) {
  collectAccesses(plan, item, accesses);
  for (size_t i = 0; i < accesses.size(); ++i)
    for (size_t j = i + 1; j < accesses.size(); ++j) {
      const ByteAccess &a = accesses[i], &b = accesses[j];
      if (a.arena == b.arena && (a.writes || b.writes) && a.begin < b.end &&
          b.begin < a.end)
        return badInput("buffers " + quoted(plan.buffers[a.buffer].name) +
                        " [" + std::to_string(a.begin) + ", " +
                        std::to_string(a.end) + ") and " +
                        quoted(plan.buffers[b.buffer].name) + " [" +
                        std::to_string(b.begin) + ", " + std::to_string(b.end) +
                        ") overlap, and one of them is written");
    }
  return {};
}

Status ItemChecker::check(const Launch &launch) {
  const KernelSpec *spec = findKernel(launch.kernel);
  if (!spec)
    return badInput("there is no kernel " + quoted(launch.kernel));
  PEFT_TRY(checkText(launch.module, "module"));
  if (launch.operands.size() != spec->operands.size())
    return badInput("it has " + std::to_string(launch.operands.size()) +
                    " operands, needed are " +
                    std::to_string(spec->operands.size()));
  shapes.assign(launch.operands.size(), {});
  for (size_t i = 0; i < shapes.size(); ++i) {
    uint32_t index = launch.operands[i];
    const OperandSpec &operand = spec->operands[i];
    if (index == none)
      continue;
    PEFT_TRY(operand.access == Access::in ? checkBuffer(index, operand.name)
                                          : checkWritable(index, operand.name));
    PEFT_TRY(checkReached(index, operand.name));
    const Buffer &buffer = plan.buffers[index];
    shapes[i] = {true, buffer.dtype, buffer.shape};
  }
  PEFT_ASSIGN(std::vector<AttributeValue> attributes,
              bindAttributes(*spec, launch));
  PEFT_ASSIGN(LaunchShape shape, bindShapes(*spec, shapes, attributes, types));
  WorkspaceNeed need =
      workspaceNeed(*spec, shape, plan.maxThreads, plan.deviceKind);
  PEFT_TRY(checkWorkspace(launch.sharedWorkspace, need.shared, "shared"));
  if (launch.sharedWorkspace != none)
    PEFT_TRY(checkReached(launch.sharedWorkspace, "shared workspace"));
  PEFT_TRY(checkWorkspace(launch.threadWorkspace, need.thread, "thread"));
  return checkPredicate(launch.predicate);
}

Status ItemChecker::check(const Copy &copy) {
  PEFT_TRY(checkBuffer(copy.source, "source"));
  PEFT_TRY(checkWritable(copy.destination, "destination"));
  auto inside = [&](uint32_t index, uint64_t offset) -> Status {
    const Buffer &buffer = plan.buffers[index];
    if (offset > buffer.size || copy.size > buffer.size - offset)
      return badInput("the bytes [" + std::to_string(offset) + ", +" +
                      std::to_string(copy.size) + ") are not inside buffer " +
                      quoted(buffer.name) + " of " +
                      std::to_string(buffer.size) + " bytes");
    return {};
  };
  if (copy.size == 0)
    return badInput("it copies nothing");
  PEFT_TRY(inside(copy.source, copy.sourceOffset));
  return inside(copy.destination, copy.destinationOffset);
}

Status ItemChecker::check(const Collective &collective) {
  uint64_t ranks = uint64_t(plan.shard) * plan.tensorParallel;
  if (ranks < 2)
    return badInput("a collective needs more than one rank, the grid is " +
                    std::to_string(plan.shard) + " x " +
                    std::to_string(plan.tensorParallel));
  PEFT_TRY(checkText(collective.module, "module"));
  PEFT_TRY(checkBuffer(collective.source, "source"));
  PEFT_TRY(checkWritable(collective.destination, "destination"));
  const Buffer &source = plan.buffers[collective.source];
  const Buffer &destination = plan.buffers[collective.destination];
  Saturating needed = source.size, found = destination.size;
  if (collective.kind == Collective::Kind::allGather)
    needed = needed * ranks;
  if (collective.kind == Collective::Kind::reduceScatter)
    found = found * ranks;
  if (source.dtype != destination.dtype || needed != found)
    return badInput(
        "source " + quoted(source.name) + " (" + std::to_string(source.size) +
        " bytes of " + std::string(name(source.dtype)) + ") and destination " +
        quoted(destination.name) + " (" + std::to_string(destination.size) +
        " of " + std::string(name(destination.dtype)) + ") do not fit for " +
        std::to_string(ranks) + " ranks");
  return {};
}

Status ItemChecker::check(const Item &item) {
  if (item.stream >= plan.streams.size())
    return badInput("it is on stream " + std::to_string(item.stream) + " of " +
                    std::to_string(plan.streams.size()));
  PEFT_TRY(std::visit([&](const auto &action) { return check(action); },
                      item.action));
  return checkOverlap(item);
}

Status checkItems(const Plan &plan, uint32_t entry) {
  ItemChecker checker(plan, entry);
  const std::vector<Item> &items = plan.entries[entry].items;
  for (size_t i = 0; i < items.size(); ++i) {
    Status status = checker.check(items[i]);
    if (!status.ok())
      return status.in(describeItem(plan.entries[entry], i));
  }
  return {};
}

} // namespace peft::verifier
