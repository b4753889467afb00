//===- MemoryReport.cpp - what a plan's memory is for ---------------------===//
#include "peft/MemoryReport.h"

#include "peft/ItemAccess.h"

#include <algorithm>

namespace peft {

std::string_view name(BufferClass kind) {
  constexpr std::string_view names[bufferClassCount] = {
      "base",       "adapter",   "optimizer", "gradient",
      "activation", "workspace", "input",     "scalar"};
  return names[static_cast<size_t>(kind)];
}

std::vector<LiveRange> liveRanges(const Plan &plan, uint32_t entry) {
  std::vector<LiveRange> ranges(plan.buffers.size());
  const std::vector<Item> &items = plan.entries[entry].items;
  std::vector<ByteAccess> accesses;
  for (uint32_t item = 0; item < items.size(); ++item) {
    collectAccesses(plan, items[item], accesses);
    for (const ByteAccess &access : accesses) {
      if (plan.buffers[access.buffer].entry != entry)
        continue;
      LiveRange &range = ranges[access.buffer];
      if (range.buffer == none)
        range = {access.buffer, item, item};
      range.last = item;
    }
  }
  std::erase_if(ranges,
                [](const LiveRange &range) { return range.buffer == none; });
  return ranges;
}

/// Kernel and module of an item.
static std::pair<std::string_view, std::string_view>
describe(const Item &item) {
  if (const auto *launch = std::get_if<Launch>(&item.action))
    return {launch->kernel, launch->module};
  if (const auto *collective = std::get_if<Collective>(&item.action))
    return {"collective", collective->module};
  return {"copy", ""};
}

/// Whether an item repeats a launch of the forward pass.
static bool isRecomputed(const Item &item) {
  const auto *launch = std::get_if<Launch>(&item.action);
  return launch && launch->recomputed;
}

MemoryPeak memoryPeak(const Plan &plan, uint32_t entry) {
  std::vector<LiveRange> ranges = liveRanges(plan, entry);
  std::erase_if(ranges, [&](const LiveRange &range) {
    return plan.buffers[range.buffer].arena != 0;
  });
  const std::vector<Item> &items = plan.entries[entry].items;
  MemoryPeak peak;
  if (ranges.empty())
    return peak;
  std::vector<uint64_t> begins(items.size() + 1), ends(items.size() + 1);
  for (const LiveRange &range : ranges) {
    begins[range.first] += plan.buffers[range.buffer].size;
    ends[range.last + 1] += plan.buffers[range.buffer].size;
  }
  uint64_t live = 0;
  for (uint32_t item = 0; item < items.size(); ++item) {
    live += begins[item] - ends[item];
    if (live > peak.bytes) {
      peak.bytes = live;
      peak.item = item;
    }
  }
  for (const LiveRange &range : ranges)
    if (range.first <= peak.item && peak.item <= range.last) {
      auto [kernel, module] = describe(items[range.first]);
      peak.live.push_back(
          {range.buffer, kernel, module, isRecomputed(items[range.first])});
    }
  auto before = [&](const LiveBuffer &a, const LiveBuffer &b) {
    uint64_t sizeA = plan.buffers[a.buffer].size;
    uint64_t sizeB = plan.buffers[b.buffer].size;
    return sizeA != sizeB ? sizeA > sizeB : a.buffer < b.buffer;
  };
  std::sort(peak.live.begin(), peak.live.end(), before);
  return peak;
}

MemoryTotals memoryTotals(const Plan &plan) {
  MemoryTotals totals;
  for (const Arena &arena : plan.arenas) {
    totals.arenaBytes += arena.size;
    if (arena.space != Space::device)
      totals.hostBytes += arena.size;
    totals.persistentBytes += arena.persistentBytes;
  }
  for (const Buffer &buffer : plan.buffers)
    if (buffer.arena == none)
      totals.mappedBytes += buffer.size;
    else if (buffer.entry == none)
      totals.persistent[static_cast<size_t>(buffer.kind)] += buffer.size;
  for (uint32_t i = 0; i < plan.entries.size(); ++i) {
    EntryMemory memory;
    memory.entry = plan.entries[i].name;
    memory.localBytes = plan.entries[i].localBytes;
    MemoryPeak peak = memoryPeak(plan, i);
    memory.lowerBound = peak.bytes;
    for (const LiveBuffer &live : peak.live) {
      const Buffer &buffer = plan.buffers[live.buffer];
      memory.atPeak[static_cast<size_t>(buffer.kind)] += buffer.size;
    }
    totals.entries.push_back(memory);
  }
  return totals;
}

//===----------------------------------------------------------------------===//
// Uses of a buffer
//===----------------------------------------------------------------------===//

namespace {

/// Lists the uses that the items of a plan make of chosen buffers.
class UseCollector {
public:
  UseCollector(const Plan &plan, std::vector<bool> chosen)
      : plan(plan), chosen(std::move(chosen)) {}

  std::vector<BufferUse> collect() {
    for (entry = 0; entry < plan.entries.size(); ++entry)
      for (item = 0; item < plan.entries[entry].items.size(); ++item)
        std::visit([&](const auto &action) { visit(action); },
                   plan.entries[entry].items[item].action);
    return std::move(uses);
  }

private:
  void add(uint32_t buffer, std::string_view operand, bool reads, bool writes) {
    if (buffer == none || !chosen[buffer])
      return;
    const Item &used = plan.entries[entry].items[item];
    auto [kernel, module] = describe(used);
    uses.push_back({buffer, entry, item, kernel, module, operand, reads, writes,
                    isRecomputed(used)});
  }
  void visit(const Launch &launch) {
    const KernelSpec &spec = *findKernel(launch.kernel);
    for (size_t i = 0; i < launch.operands.size(); ++i) {
      Access access = spec.operands[i].access;
      add(launch.operands[i], spec.operands[i].name, access != Access::out,
          access != Access::in);
    }
    add(launch.sharedWorkspace, "workspace", true, true);
    add(launch.threadWorkspace, "workspace", true, true);
    add(launch.predicate.buffer, "predicate", true, false);
  }
  void visit(const Copy &copy) {
    add(copy.source, "source", true, false);
    add(copy.destination, "destination", false, true);
  }
  void visit(const Collective &collective) {
    add(collective.source, "source", true, false);
    add(collective.destination, "destination", false, true);
  }
  void visit(const Record &) {}
  void visit(const Wait &) {}

  const Plan &plan;
  std::vector<bool> chosen;
  uint32_t entry = 0, item = 0;
  std::vector<BufferUse> uses;
};

} // namespace

std::vector<BufferUse> usesOf(const Plan &plan, std::string_view name) {
  std::vector<bool> chosen(plan.buffers.size());
  auto choose = [&](auto matches) {
    bool any = false;
    for (size_t i = 0; i < chosen.size(); ++i)
      any |= chosen[i] = matches(plan.buffers[i].name);
    return any;
  };
  if (!choose([&](const std::string &found) { return found == name; }))
    choose([&](const std::string &found) {
      return found.find(name) != std::string::npos;
    });
  return UseCollector(plan, std::move(chosen)).collect();
}

} // namespace peft
