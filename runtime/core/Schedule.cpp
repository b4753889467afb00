//===- Schedule.cpp - other orders an entry may run in --------------------===//
//
// The orders that must hold form a graph over the items; a schedule is a random
// topological order of it. Within a stream and with ScheduleMode::shuffle:
//  * records and waits form a chain;
//  * a launch comes before the next record and after the previous wait, since
//    that is what the other streams were told;
//  * two launches that use the same bytes, one of them writing, stay in order.
//
//===----------------------------------------------------------------------===//
#include "peft/Schedule.h"

#include "ByteMap.h"
#include "peft/ItemAccess.h"

#include <algorithm>

namespace peft {

namespace {

class Order {
public:
  Order(const Plan &plan, uint32_t entry, ScheduleMode mode)
      : plan(plan), items(plan.entries[entry].items), mode(mode),
        successors(items.size()), blockers(items.size()) {}

  std::vector<uint32_t> draw(uint64_t seed);

private:
  /// What one stream did to a byte.
  struct ByteUse {
    uint32_t writer = none;
    std::vector<uint32_t> readers; ///< since the writer
  };
  /// The last items of a stream that later ones refer to.
  struct Stream {
    uint32_t last = none, lastSync = none, lastWait = none;
    std::vector<uint32_t> sinceRecord; ///< launches no record covers yet
    std::vector<ByteMap<ByteUse>> bytes;
  };

  void before(uint32_t first, uint32_t second) {
    if (first == none || first == second)
      return;
    successors[first].push_back(second);
    ++blockers[second];
  }
  void build();
  void addShuffled(uint32_t item, Stream &stream);
  void addConflicts(uint32_t item, Stream &stream);

  const Plan &plan;
  const std::vector<Item> &items;
  ScheduleMode mode;
  std::vector<std::vector<uint32_t>> successors;
  std::vector<uint32_t> blockers; ///< predecessors not yet drawn
  std::vector<ByteAccess> accesses;
};

} // namespace

void Order::addConflicts(uint32_t item, Stream &stream) {
  if (stream.bytes.empty())
    for (const Arena &arena : plan.arenas)
      stream.bytes.emplace_back(std::max<uint64_t>(arena.size, 1));
  collectAccesses(plan, items[item], accesses);
  for (const ByteAccess &access : accesses) {
    ByteMap<ByteUse> &map = stream.bytes[access.arena];
    map.visit(access.begin, access.end, [&](uint64_t, uint64_t, ByteUse &use) {
      before(use.writer, item);
      if (access.writes)
        for (uint32_t reader : use.readers)
          before(reader, item);
      else if (use.readers.empty() || use.readers.back() != item)
        use.readers.push_back(item);
    });
    if (access.writes)
      map.assign(access.begin, access.end, {item, {}});
  }
}

void Order::addShuffled(uint32_t item, Stream &stream) {
  bool isRecord = std::holds_alternative<Record>(items[item].action);
  bool isWait = std::holds_alternative<Wait>(items[item].action);
  if (!isRecord && !isWait) {
    before(stream.lastWait, item);
    addConflicts(item, stream);
    stream.sinceRecord.push_back(item);
    return;
  }
  before(stream.lastSync, item);
  stream.lastSync = item;
  if (isWait) {
    stream.lastWait = item;
    return;
  }
  for (uint32_t launch : stream.sinceRecord)
    before(launch, item);
  stream.sinceRecord.clear();
}

void Order::build() {
  std::vector<Stream> streams(plan.streams.size());
  std::vector<uint32_t> recordOf(items.size(), none); // by event
  for (uint32_t item = 0; item < items.size(); ++item) {
    Stream &stream = streams[items[item].stream];
    if (const auto *record = std::get_if<Record>(&items[item].action))
      recordOf[record->event] = item;
    if (const auto *wait = std::get_if<Wait>(&items[item].action))
      before(recordOf[wait->event], item);
    if (mode == ScheduleMode::shuffle)
      addShuffled(item, stream);
    else
      before(stream.last, item);
    stream.last = item;
  }
}

std::vector<uint32_t> Order::draw(uint64_t seed) {
  build();
  auto random = [state = seed]() mutable {
    state += 0x9E3779B97F4A7C15u;
    uint64_t word = (state ^ state >> 30) * 0xBF58476D1CE4E5B9u;
    word = (word ^ word >> 27) * 0x94D049BB133111EBu;
    return word ^ word >> 31;
  };
  std::vector<uint32_t> ready, order;
  for (uint32_t item = 0; item < items.size(); ++item)
    if (blockers[item] == 0)
      ready.push_back(item);
  order.reserve(items.size());
  // One seed in (streams + 1) draws evenly; the others let one stream run ahead
  // as far as its waits allow, where a missing wait shows.
  uint64_t favourite = seed % (plan.streams.size() + 1);
  while (!ready.empty()) {
    size_t chosen = random() % ready.size();
    for (size_t i = 0; i < ready.size() && favourite > 0; ++i) {
      size_t other = (chosen + i) % ready.size();
      if (items[ready[other]].stream != favourite - 1)
        continue;
      chosen = other;
      break;
    }
    uint32_t item = ready[chosen];
    ready[chosen] = ready.back();
    ready.pop_back();
    order.push_back(item);
    for (uint32_t next : successors[item])
      if (--blockers[next] == 0)
        ready.push_back(next);
  }
  return order;
}

std::vector<uint32_t> drawSchedule(const Plan &plan, uint32_t entry,
                                   uint64_t seed, ScheduleMode mode) {
  return Order(plan, entry, mode).draw(seed);
}

ScheduleReport compareSchedule(const Entry &entry,
                               const std::vector<uint32_t> &order) {
  auto isLaunch = [&](uint32_t item) {
    return std::holds_alternative<Launch>(entry.items[item].action);
  };
  std::vector<uint32_t> inFile, drawn;
  for (uint32_t item = 0; item < entry.items.size(); ++item)
    if (isLaunch(item))
      inFile.push_back(item);
  std::copy_if(order.begin(), order.end(), std::back_inserter(drawn), isLaunch);
  ScheduleReport report;
  report.launches = inFile.size();
  for (size_t i = 0; i < inFile.size() && i < drawn.size(); ++i)
    report.moved += inFile[i] != drawn[i];
  return report;
}

} // namespace peft
