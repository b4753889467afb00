//===- VerifyOrder.cpp - events, races, definitions -----------------------===//
//
// The race check walks an entry in file order with a vector clock per stream:
// clock[s][t] is how many items of stream t are known to be done when the next
// item of stream s starts. A wait joins the clock that its event saw. For every
// byte of an arena the last write and, per stream, the last read since are
// kept; an access that the clock does not order after a conflicting one is an
// error. As waits stand after their records, one walk suffices, and waiting in
// a circle is impossible.
//
// The definition check uses the same walk: what an entry reads of its local
// bytes must have been written in this entry through the same buffer.
//
//===----------------------------------------------------------------------===//
#include "ByteMap.h"
#include "PlanVerifier.h"
#include "peft/ItemAccess.h"

#include <algorithm>
#include <array>

namespace peft::verifier {

namespace {

using Clock = std::array<uint32_t, maxStreams>;

/// What is known of a byte while an entry is walked.
struct ByteState {
  uint32_t owner = none;  ///< the buffer it was last written through
  uint32_t writer = none; ///< item
  uint32_t writerStream = 0, writerTime = 0;
  std::array<uint32_t, maxStreams> readTime{}; ///< 0: not read since
  std::array<uint32_t, maxStreams> reader{};   ///< item
};

class OrderChecker {
public:
  OrderChecker(const Plan &plan, uint32_t entry)
      : plan(plan), entry(plan.entries[entry]),
        records(this->entry.items.size()) {
    for (const Arena &arena : plan.arenas)
      bytes.emplace_back(std::max<uint64_t>(arena.size, 1));
  }

  Status check();

private:
  Status synchronize(size_t item);
  Status checkAccess(size_t item, const ByteAccess &access);
  Status checkBytes(size_t item, const ByteAccess &access, uint64_t begin,
                    const ByteState &state) const;
  Status race(size_t item, size_t other, const ByteAccess &access,
              uint64_t begin) const;
  Status undefined(const ByteAccess &access, uint64_t begin,
                   const ByteState &state) const;

  struct Recorded {
    bool done = false;
    Clock clock{};
  };

  const Plan &plan;
  const Entry &entry;
  std::vector<ByteMap<ByteState>> bytes; ///< by arena
  std::array<Clock, maxStreams> clocks{};
  std::vector<Recorded> records; ///< by event
  std::vector<ByteAccess> accesses;
};

} // namespace

Status OrderChecker::race(size_t item, size_t other, const ByteAccess &access,
                          uint64_t begin) const {
  uint32_t stream = entry.items[item].stream;
  return badInput("it uses byte " + std::to_string(begin) + " of arena " +
                  std::to_string(access.arena) + " (buffer " +
                  quoted(plan.buffers[access.buffer].name) +
                  ") without order after " + describeItem(entry, other) +
                  ": stream " + std::to_string(stream) +
                  " does not wait for stream " +
                  std::to_string(entry.items[other].stream) + " in between");
}

Status OrderChecker::undefined(const ByteAccess &access, uint64_t begin,
                               const ByteState &state) const {
  std::string text = "it reads buffer " +
                     quoted(plan.buffers[access.buffer].name) + " at byte " +
                     std::to_string(begin) + " of arena " +
                     std::to_string(access.arena);
  if (state.owner == none)
    return badInput(text + ", which nothing in this entry has written");
  return badInput(text + ", which " + describeItem(entry, state.writer) +
                  " has overwritten through buffer " +
                  quoted(plan.buffers[state.owner].name));
}

Status OrderChecker::checkBytes(size_t item, const ByteAccess &access,
                                uint64_t begin, const ByteState &state) const {
  uint32_t stream = entry.items[item].stream;
  const Clock &clock = clocks[stream];
  if (state.writer != none && clock[state.writerStream] < state.writerTime)
    return race(item, state.writer, access, begin);
  if (access.writes)
    for (size_t other = 0; other < plan.streams.size(); ++other)
      if (clock[other] < state.readTime[other])
        return race(item, state.reader[other], access, begin);
  bool local = begin >= plan.arenas[access.arena].persistentBytes;
  if (local && access.reads && state.owner != access.buffer)
    return undefined(access, begin, state);
  return {};
}

Status OrderChecker::checkAccess(size_t item, const ByteAccess &access) {
  uint32_t stream = entry.items[item].stream;
  uint32_t time = clocks[stream][stream];
  ByteMap<ByteState> &map = bytes[access.arena];
  Status status;
  map.visit(access.begin, access.end,
            [&](uint64_t begin, uint64_t, ByteState &state) {
              if (!status.ok())
                return;
              status = checkBytes(item, access, begin, state);
              state.readTime[stream] = time;
              state.reader[stream] = static_cast<uint32_t>(item);
            });
  if (status.ok() && access.writes) {
    ByteState state;
    state.owner = access.buffer;
    state.writer = static_cast<uint32_t>(item);
    state.writerStream = stream;
    state.writerTime = time;
    map.assign(access.begin, access.end, state);
  }
  return status;
}

Status OrderChecker::synchronize(size_t index) {
  const Item &item = entry.items[index];
  if (const auto *record = std::get_if<Record>(&item.action)) {
    if (records[record->event].done)
      return badInput("event " + std::to_string(record->event) +
                      " is recorded twice");
    records[record->event] = {true, clocks[item.stream]};
  } else if (const auto *wait = std::get_if<Wait>(&item.action)) {
    if (!records[wait->event].done)
      return badInput("event " + std::to_string(wait->event) +
                      " has not been recorded before");
    Clock &clock = clocks[item.stream];
    const Clock &seen = records[wait->event].clock;
    for (size_t i = 0; i < clock.size(); ++i)
      clock[i] = std::max(clock[i], seen[i]);
  }
  return {};
}

Status OrderChecker::check() {
  for (size_t i = 0; i < entry.items.size(); ++i) {
    uint32_t stream = entry.items[i].stream;
    ++clocks[stream][stream];
    Status status = synchronize(i);
    collectAccesses(plan, entry.items[i], accesses);
    // Reads first: an item may write what it has read.
    for (bool writes : {false, true})
      for (const ByteAccess &access : accesses)
        if (status.ok() && access.writes == writes)
          status = checkAccess(i, access);
    if (!status.ok())
      return status.in(describeItem(entry, i));
  }
  return {};
}

Status checkOrder(const Plan &plan, uint32_t entry) {
  return OrderChecker(plan, entry).check();
}

} // namespace peft::verifier
