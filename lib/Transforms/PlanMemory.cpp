//===- PlanMemory.cpp - give every buffer its offset ----------------------===//
#include "peftc/Analysis/MemoryLayout.h"
#include "peftc/Dialect/Plan/Plan.h"
#include "peftc/Target/PlanTypes.h"
#include "peftc/Transforms/Passes.h"

#include "peft/KernelSpec.h"

#include "llvm/ADT/DenseMap.h"
#include "llvm/Support/MathExtras.h"

namespace peftc {
#define GEN_PASS_DEF_PLANMEMORY
#include "peftc/Transforms/Passes.h.inc"
} // namespace peftc

using namespace mlir;
using namespace peftc;

namespace {

/// The local buffers of one entry, with the items that use them first and last.
struct EntryBuffers {
  plan::EntryOp entry;
  SmallVector<plan::BufferOp> buffers;
  std::vector<LiveRange> ranges;
};

FailureOr<uint64_t> bytesOf(plan::BufferOp buffer) {
  auto type = dyn_cast<RankedTensorType>(buffer.getType());
  std::optional<peft::DType> dtype;
  if (type && type.hasStaticShape())
    dtype = dtypeOf(type.getElementType());
  if (!dtype)
    return buffer.emitOpError("has type ")
           << buffer.getType() << ", which has no size in bytes";
  return peft::byteCount(*dtype, type.getNumElements());
}

struct PlanMemoryPass : public peftc::impl::PlanMemoryBase<PlanMemoryPass> {
  using PlanMemoryBase::PlanMemoryBase;

  void runOnOperation() override {
    if (alignment <= 0 || !llvm::isPowerOf2_64(alignment)) {
      getOperation().emitOpError("arena-alignment is ")
          << int64_t(alignment) << ", needed is a power of two";
      return signalPassFailure();
    }
    for (auto program : getOperation().getOps<plan::ProgramOp>())
      if (failed(planProgram(program)))
        return signalPassFailure();
  }

  LogicalResult planProgram(plan::ProgramOp program);
  FailureOr<EntryBuffers> findLifetimes(plan::EntryOp entry);
  void placeEntry(EntryBuffers &locals, MutableArrayRef<uint64_t> ends,
                  ArrayRef<uint64_t> persistent);
};

/// Item numbers count launches, copies and collectives, so that records and
/// waits, which come later, change no lifetime.
FailureOr<EntryBuffers> PlanMemoryPass::findLifetimes(plan::EntryOp entry) {
  EntryBuffers locals;
  locals.entry = entry;
  llvm::DenseMap<Value, size_t> indexOf;
  uint32_t item = 0;
  for (Operation &op : entry->getRegion(0).front()) {
    if (auto buffer = dyn_cast<plan::BufferOp>(op)) {
      FailureOr<uint64_t> bytes = bytesOf(buffer);
      if (failed(bytes))
        return failure();
      indexOf[buffer.getResult()] = locals.buffers.size();
      locals.buffers.push_back(buffer);
      locals.ranges.push_back({*bytes, UINT32_MAX, 0});
    } else if (isa<plan::LaunchOp, plan::CopyOp, plan::CollectiveOp>(op)) {
      for (Value operand : op.getOperands()) {
        auto it = indexOf.find(operand);
        if (it == indexOf.end())
          continue;
        LiveRange &range = locals.ranges[it->second];
        range.first = std::min(range.first, item);
        range.last = item;
      }
      ++item;
    }
  }
  for (auto [buffer, range] : llvm::zip_equal(locals.buffers, locals.ranges))
    if (range.first == UINT32_MAX)
      return buffer.emitOpError("is used by no item of its entry");
  return locals;
}

/// Leaves what was decided for peftc explain, at the end of the program.
static void addRemark(plan::EntryOp entry, const Twine &message) {
  auto builder = OpBuilder::atBlockEnd(entry->getBlock());
  plan::RemarkOp::create(builder, entry.getLoc(),
                         builder.getStringAttr("peft-plan-memory"),
                         entry.getNameAttr(), builder.getStringAttr(message));
}

/// Packs the buffers of each arena above its persistent part and raises `ends`.
/// What the entry itself says of its bytes is about arena 0, the device's.
void PlanMemoryPass::placeEntry(EntryBuffers &locals,
                                MutableArrayRef<uint64_t> ends,
                                ArrayRef<uint64_t> persistent) {
  Builder builder(locals.entry.getContext());
  uint64_t localBytes = 0, bound = 0;
  for (auto [arena, base] : llvm::enumerate(persistent)) {
    SmallVector<plan::BufferOp> buffers;
    std::vector<LiveRange> ranges;
    for (auto [buffer, range] : llvm::zip_equal(locals.buffers, locals.ranges))
      if (buffer.getArena().value_or(0) == arena) {
        buffers.push_back(buffer);
        ranges.push_back(range);
      }
    MemoryLayout layout = packBuffers(ranges, alignment);
    // What a wider alignment leaves behind the last buffer is no part of it.
    uint64_t tail = std::min<uint64_t>(alignment, peft::bufferAlignment);
    uint64_t size = 0;
    for (auto [index, buffer] : llvm::enumerate(buffers)) {
      size = std::max(size, layout.offsets[index] +
                                llvm::alignTo(ranges[index].size, tail));
      buffer.setOffsetAttr(
          builder.getI64IntegerAttr(base + layout.offsets[index]));
      buffer.setLiveAttr(builder.getDenseI64ArrayAttr(
          {int64_t(ranges[index].first), int64_t(ranges[index].last)}));
    }
    ends[arena] = std::max(ends[arena], base + size);
    if (arena == 0) {
      localBytes = size;
      bound = layout.lowerBound;
    }
    std::string where = arena ? " of arena " + std::to_string(arena) : "";
    if (!buffers.empty())
      addRemark(locals.entry, Twine(buffers.size()) + " buffers placed by " +
                                  layout.order + " in " + Twine(size) +
                                  " bytes" + where + "; at least " +
                                  Twine(layout.lowerBound) + " are needed");
  }
  locals.entry.setLocalBytesAttr(builder.getI64IntegerAttr(localBytes));
  locals.entry.setLowerBoundAttr(builder.getI64IntegerAttr(bound));
  lowerBound = std::max<uint64_t>(lowerBound, persistent.front() + bound);
}

LogicalResult PlanMemoryPass::planProgram(plan::ProgramOp program) {
  Builder builder(program.getContext());
  Block &body = program->getRegion(0).front();
  SmallVector<plan::ArenaOp> arenas(body.getOps<plan::ArenaOp>());
  if (arenas.empty())
    return program.emitOpError("has no arena");
  SmallVector<uint64_t> persistent(arenas.size());
  for (auto buffer : body.getOps<plan::BufferOp>()) {
    if (!buffer.getArena())
      continue;
    uint64_t arena = *buffer.getArena();
    if (arena >= arenas.size())
      return buffer.emitOpError("is in arena ")
             << arena << ", the plan has " << arenas.size();
    FailureOr<uint64_t> bytes = bytesOf(buffer);
    if (failed(bytes))
      return failure();
    buffer.setOffsetAttr(builder.getI64IntegerAttr(persistent[arena]));
    persistent[arena] =
        llvm::alignTo(persistent[arena] + *bytes, uint64_t(alignment));
  }
  SmallVector<uint64_t> ends(persistent);
  for (auto entry : body.getOps<plan::EntryOp>()) {
    FailureOr<EntryBuffers> locals = findLifetimes(entry);
    if (failed(locals))
      return failure();
    for (plan::BufferOp buffer : locals->buffers)
      if (buffer.getArena().value_or(0) >= arenas.size())
        return buffer.emitOpError("is in arena ")
               << *buffer.getArena() << ", the plan has " << arenas.size();
    placeEntry(*locals, ends, persistent);
  }
  for (auto [index, arena] : llvm::enumerate(arenas)) {
    arena.setPersistentAttr(builder.getI64IntegerAttr(persistent[index]));
    arena.setSizeAttr(builder.getI64IntegerAttr(ends[index]));
    arenaBytes += ends[index];
  }
  return success();
}

} // namespace
