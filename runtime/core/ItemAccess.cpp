//===- ItemAccess.cpp - which bytes an item reads and writes --------------===//
#include "peft/ItemAccess.h"

namespace peft {

namespace {

class Collector {
public:
  Collector(const Plan &plan, std::vector<ByteAccess> &accesses)
      : plan(plan), accesses(accesses) {
    accesses.clear();
  }

  void add(uint32_t index, bool reads, bool writes) {
    if (index != none)
      add(index, 0, plan.buffers[index].size, reads, writes);
  }
  void add(uint32_t index, uint64_t offset, uint64_t size, bool reads,
           bool writes) {
    const Buffer &buffer = plan.buffers[index];
    if (buffer.arena == none || size == 0)
      return;
    uint64_t begin = buffer.offset + offset;
    accesses.push_back(
        {index, buffer.arena, begin, begin + size, reads, writes});
  }

  void operator()(const Launch &launch) {
    const KernelSpec &spec = *findKernel(launch.kernel);
    for (size_t i = 0; i < launch.operands.size(); ++i) {
      Access access = spec.operands[i].access;
      add(launch.operands[i], access != Access::out, access != Access::in);
    }
    add(launch.sharedWorkspace, false, true);
    add(launch.threadWorkspace, false, true);
    if (launch.predicate.buffer != none)
      add(launch.predicate.buffer, 0, sizeof(int32_t), true, false);
  }
  void operator()(const Copy &copy) {
    add(copy.source, copy.sourceOffset, copy.size, true, false);
    add(copy.destination, copy.destinationOffset, copy.size, false, true);
  }
  void operator()(const Collective &collective) {
    bool inPlace = collective.source == collective.destination;
    if (!inPlace)
      add(collective.source, true, false);
    add(collective.destination, inPlace, true);
  }
  void operator()(const Record &) {}
  void operator()(const Wait &) {}

private:
  const Plan &plan;
  std::vector<ByteAccess> &accesses;
};

} // namespace

void collectAccesses(const Plan &plan, const Item &item,
                     std::vector<ByteAccess> &accesses) {
  std::visit(Collector(plan, accesses), item.action);
}

std::string describeItem(const Entry &entry, size_t item) {
  const auto &action = entry.items[item].action;
  std::string text = "item " + std::to_string(item) + " (";
  auto of = [](const std::string &module) {
    return module.empty() ? std::string() : " of " + module;
  };
  if (const auto *launch = std::get_if<Launch>(&action))
    text += "launch " + launch->kernel + of(launch->module);
  else if (std::holds_alternative<Copy>(action))
    text += "copy";
  else if (const auto *collective = std::get_if<Collective>(&action))
    text += "collective" + of(collective->module);
  else if (const auto *record = std::get_if<Record>(&action))
    text += "record of event " + std::to_string(record->event);
  else
    text += "wait for event " + std::to_string(std::get<Wait>(action).event);
  return text + ")";
}

} // namespace peft
