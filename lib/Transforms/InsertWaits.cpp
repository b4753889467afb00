//===- InsertWaits.cpp - order conflicting accesses of streams ------------===//
//
// File order is a correct serial order. Going through it once, a map from byte
// intervals to their last accesses finds the conflicts of each item, and one
// vector clock per stream tells which of them are ordered already.
//
//===----------------------------------------------------------------------===//
#include "peftc/Dialect/Plan/Plan.h"
#include "peftc/Target/PlanTypes.h"
#include "peftc/Transforms/Passes.h"

#include "peft/KernelSpec.h"

#include "llvm/ADT/DenseMap.h"

#include <map>

namespace peftc {
#define GEN_PASS_DEF_INSERTWAITS
#include "peftc/Transforms/Passes.h.inc"
} // namespace peftc

using namespace mlir;
using namespace peftc;

namespace {

/// Per stream, how many of its items are known to be done.
using Clock = SmallVector<uint32_t, 4>;

struct Access {
  int64_t arena;
  uint64_t begin, end;
  bool write;
};

/// The last accesses to the bytes of one interval, as positions in streams
/// (item i of a stream has position i + 1; 0 is none).
struct LastAccess {
  uint64_t end;
  uint32_t writeStream = 0, writePosition = 0;
  Clock reads;
};

/// Disjoint intervals of one arena by their begin.
class AccessMap {
public:
  explicit AccessMap(size_t streams) : streams(streams) {}

  /// Raises `needed` to the positions that `access` must come after, and
  /// enters it at `position` of `stream`.
  void add(const Access &access, uint32_t stream, uint32_t position,
           Clock &needed);

private:
  using Intervals = std::map<uint64_t, LastAccess>;
  void splitAt(uint64_t byte);

  size_t streams;
  Intervals intervals;
};

class EntryWaits {
public:
  EntryWaits(plan::EntryOp entry, ArrayRef<plan::ArenaOp> arenas,
             size_t streams);
  LogicalResult insert();
  unsigned waits() const { return waitCount; }

private:
  FailureOr<SmallVector<Access>> accessesOf(Operation *item);
  LogicalResult addAccess(Value buffer, bool write,
                          SmallVectorImpl<Access> &accesses);
  void waitFor(Operation *item, uint32_t stream, const Clock &needed);
  int64_t eventAfter(uint32_t stream, uint32_t position);

  plan::EntryOp entry;
  size_t streams;
  std::vector<AccessMap> maps; ///< by arena
  std::vector<Clock> clocks;   ///< by stream, now
  /// By stream and position: the item, the clock after it, its event.
  struct Done {
    Operation *item;
    Clock clock;
    int64_t event = -1;
  };
  std::vector<std::vector<Done>> done;
  int64_t eventCount = 0;
  unsigned waitCount = 0;
};

} // namespace

//===----------------------------------------------------------------------===//
// AccessMap
//===----------------------------------------------------------------------===//

void AccessMap::splitAt(uint64_t byte) {
  auto it = intervals.upper_bound(byte);
  if (it == intervals.begin())
    return;
  --it;
  if (it->first == byte || it->second.end <= byte)
    return;
  LastAccess upper = it->second;
  it->second.end = byte;
  intervals.emplace(byte, std::move(upper));
}

void AccessMap::add(const Access &access, uint32_t stream, uint32_t position,
                    Clock &needed) {
  if (access.begin == access.end)
    return;
  splitAt(access.begin);
  splitAt(access.end);
  auto first = intervals.lower_bound(access.begin), it = first;
  uint64_t reached = access.begin;
  for (; it != intervals.end() && it->first < access.end; ++it) {
    LastAccess &last = it->second;
    needed[last.writeStream] =
        std::max(needed[last.writeStream], last.writePosition);
    if (access.write) {
      for (size_t reader = 0; reader < streams; ++reader)
        needed[reader] = std::max(needed[reader], last.reads[reader]);
      continue;
    }
    last.reads[stream] = position;
    if (it->first > reached) { // bytes that nothing has touched yet
      LastAccess gap{it->first, 0, 0, Clock(streams, 0)};
      gap.reads[stream] = position;
      intervals.emplace_hint(it, reached, std::move(gap));
    }
    reached = last.end;
  }
  if (access.write) {
    intervals.erase(first, it);
    intervals.emplace(access.begin, LastAccess{access.end, stream, position,
                                               Clock(streams, 0)});
  } else if (reached < access.end) {
    LastAccess rest{access.end, 0, 0, Clock(streams, 0)};
    rest.reads[stream] = position;
    intervals.emplace(reached, std::move(rest));
  }
}

//===----------------------------------------------------------------------===//
// EntryWaits
//===----------------------------------------------------------------------===//

EntryWaits::EntryWaits(plan::EntryOp entry, ArrayRef<plan::ArenaOp> arenas,
                       size_t streams)
    : entry(entry), streams(streams), maps(arenas.size(), AccessMap(streams)),
      clocks(streams, Clock(streams, 0)), done(streams) {}

LogicalResult EntryWaits::addAccess(Value value, bool write,
                                    SmallVectorImpl<Access> &accesses) {
  if (!value)
    return success();
  auto buffer = value.getDefiningOp<plan::BufferOp>();
  if (!buffer.getArena())
    return success(); // a mapped weight: only ever read
  if (!buffer.getOffset())
    return buffer.emitOpError(
        "has no offset; run peft-plan-memory before peft-insert-waits");
  if (*buffer.getArena() >= maps.size())
    return buffer.emitOpError("is in arena ")
           << *buffer.getArena() << ", the plan has " << maps.size();
  auto type = cast<RankedTensorType>(buffer.getType());
  uint64_t bytes =
      peft::byteCount(*dtypeOf(type.getElementType()), type.getNumElements());
  uint64_t begin = *buffer.getOffset();
  accesses.push_back(
      {static_cast<int64_t>(*buffer.getArena()), begin, begin + bytes, write});
  return success();
}

/// Everything `item` reads and writes; kernels.def says which operand is which.
FailureOr<SmallVector<Access>> EntryWaits::accessesOf(Operation *item) {
  SmallVector<Access> accesses;
  auto add = [&](Value value, bool write) {
    return addAccess(value, write, accesses);
  };
  if (auto launch = dyn_cast<plan::LaunchOp>(item)) {
    StringRef name = launch.getKernel();
    const peft::KernelSpec *spec =
        peft::findKernel(std::string_view(name.data(), name.size()));
    if (!spec)
      return launch.emitOpError("names the kernel '")
             << name << "', which kernels.def does not have";
    auto given = launch.getOperands_().begin();
    auto end = launch.getOperands_().end();
    for (auto [index, operand] : llvm::enumerate(spec->operands)) {
      if (!(launch.getPresent() >> index & 1))
        continue;
      if (given == end)
        return launch.emitOpError("has fewer operands than `present` says");
      if (failed(add(*given++, operand.access != peft::Access::in)))
        return failure();
    }
    if (failed(add(launch.getSharedWorkspace(), true)) ||
        failed(add(launch.getThreadWorkspace(), true)) ||
        failed(add(launch.getPredicate(), false)))
      return failure();
  } else if (auto copy = dyn_cast<plan::CopyOp>(item)) {
    if (failed(add(copy.getSource(), false)) ||
        failed(add(copy.getDestination(), true)))
      return failure();
  } else if (auto collective = dyn_cast<plan::CollectiveOp>(item)) {
    if (failed(add(collective.getSource(), false)) ||
        failed(add(collective.getDestination(), true)))
      return failure();
  }
  return accesses;
}

int64_t EntryWaits::eventAfter(uint32_t stream, uint32_t position) {
  Done &after = done[stream][position - 1];
  if (after.event >= 0)
    return after.event;
  OpBuilder builder(entry.getContext());
  builder.setInsertionPointAfter(after.item);
  after.event = eventCount++;
  plan::RecordOp::create(builder, after.item->getLoc(),
                         builder.getI64IntegerAttr(stream),
                         builder.getI64IntegerAttr(after.event));
  return after.event;
}

/// Adds the waits that `item` needs before it: for each other stream the latest
/// position, unless what is known already, or another of these waits, implies
/// it.
void EntryWaits::waitFor(Operation *item, uint32_t stream,
                         const Clock &needed) {
  Clock &clock = clocks[stream];
  SmallVector<uint32_t> candidates;
  for (uint32_t other = 0; other < streams; ++other)
    if (other != stream && needed[other] > clock[other])
      candidates.push_back(other);
  auto clockAfter = [&](uint32_t other) -> const Clock & {
    return done[other][needed[other] - 1].clock;
  };
  SmallVector<uint32_t> waits;
  for (uint32_t candidate : candidates)
    if (llvm::none_of(candidates, [&](uint32_t other) {
          return other != candidate &&
                 clockAfter(other)[candidate] >= needed[candidate];
        }))
      waits.push_back(candidate);
  for (uint32_t other : waits) {
    int64_t event = eventAfter(other, needed[other]);
    OpBuilder builder(item);
    plan::WaitOp::create(builder, item->getLoc(),
                         builder.getI64IntegerAttr(stream),
                         builder.getI64IntegerAttr(event));
    ++waitCount;
    for (size_t i = 0; i < streams; ++i)
      clock[i] = std::max(clock[i], clockAfter(other)[i]);
  }
}

LogicalResult EntryWaits::insert() {
  SmallVector<Operation *> items;
  for (Operation &op : entry->getRegion(0).front()) {
    if (isa<plan::LaunchOp, plan::CopyOp, plan::CollectiveOp>(op))
      items.push_back(&op);
    else if (isa<plan::RecordOp, plan::WaitOp>(op))
      return op.emitOpError("stands in a plan whose waits are not inserted "
                            "yet");
  }
  for (Operation *item : items) {
    int64_t stream = item->getAttrOfType<IntegerAttr>("stream").getInt();
    if (stream < 0 || stream >= static_cast<int64_t>(streams))
      return item->emitOpError("is on stream ")
             << stream << ", the plan has " << streams;
    FailureOr<SmallVector<Access>> accesses = accessesOf(item);
    if (failed(accesses))
      return failure();
    uint32_t position = done[stream].size() + 1;
    Clock needed(streams, 0);
    // Reads first: an item may write what it reads.
    for (bool write : {false, true})
      for (const Access &access : *accesses)
        if (access.write == write)
          maps[access.arena].add(access, stream, position, needed);
    waitFor(item, stream, needed);
    clocks[stream][stream] = position;
    done[stream].push_back({item, clocks[stream]});
  }
  return success();
}

namespace {

struct InsertWaitsPass : public peftc::impl::InsertWaitsBase<InsertWaitsPass> {
  using InsertWaitsBase::InsertWaitsBase;

  void runOnOperation() override {
    for (auto program : getOperation().getOps<plan::ProgramOp>()) {
      Block &body = program->getRegion(0).front();
      SmallVector<plan::ArenaOp> arenas(body.getOps<plan::ArenaOp>());
      size_t streams = llvm::range_size(body.getOps<plan::StreamOp>());
      for (auto entry : body.getOps<plan::EntryOp>()) {
        EntryWaits inserter(entry, arenas, streams);
        if (failed(inserter.insert()))
          return signalPassFailure();
        waits += inserter.waits();
      }
    }
  }
};

} // namespace
