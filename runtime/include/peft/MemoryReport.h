//===- MemoryReport.h - what a plan's memory is for -------------*- C++ -*-===//
//
// Pure functions over a verified plan, for `peftc explain` and for the table
// that `peft-run` prints before it starts. All sizes are bytes.
//
//===----------------------------------------------------------------------===//
#ifndef PEFT_MEMORYREPORT_H
#define PEFT_MEMORYREPORT_H

#include "peft/Plan.h"

#include <array>
#include <string>
#include <string_view>
#include <vector>

namespace peft {

constexpr size_t bufferClassCount = 8;
/// "activation"
std::string_view name(BufferClass kind);

/// Bytes by BufferClass.
using ClassBytes = std::array<uint64_t, bufferClassCount>;

struct EntryMemory {
  std::string_view entry;
  uint64_t localBytes = 0; ///< what the entry's buffers take of arena 0
  uint64_t lowerBound = 0; ///< of these, live at the worst moment
  ClassBytes atPeak{};     ///< the live bytes at that moment, by class
};

struct MemoryTotals {
  uint64_t arenaBytes = 0; ///< all arenas
  uint64_t hostBytes = 0;  ///< of them in host memory: pinned or pageable
  uint64_t persistentBytes = 0;
  uint64_t mappedBytes = 0; ///< weights read in place from their files
  ClassBytes persistent{};  ///< in arenas, by class
  std::vector<EntryMemory> entries;

  uint64_t deviceBytes() const { return arenaBytes - hostBytes; }
};
MemoryTotals memoryTotals(const Plan &plan);

/// A local buffer is live from the first to the last item that uses it, in file
/// order.
struct LiveRange {
  uint32_t buffer = none;
  uint32_t first = 0, last = 0; ///< items
};
/// By buffer index; buffers without a use are left out.
std::vector<LiveRange> liveRanges(const Plan &plan, uint32_t entry);

struct LiveBuffer {
  uint32_t buffer = none;
  std::string_view kernel, module; ///< of the launch that first writes it
  bool recomputed = false;         ///< by a launch that repeats another
};
/// The moment of an entry with the most live local bytes of arena 0.
struct MemoryPeak {
  uint32_t item = none; ///< none: the entry has no local buffers there
  uint64_t bytes = 0;
  std::vector<LiveBuffer> live; ///< the largest first
};
MemoryPeak memoryPeak(const Plan &plan, uint32_t entry);

struct BufferUse {
  uint32_t buffer = none, entry = none, item = none;
  std::string_view kernel; ///< or "copy", "collective"
  std::string_view module;
  std::string_view operand; ///< or "workspace", "predicate"
  bool reads = false, writes = false;
  bool recomputed = false; ///< the launch repeats one of the forward pass
};
/// Every use of the buffers called `name` (`--why`), or, when there is none of
/// that name, of those whose name contains it. In file order.
std::vector<BufferUse> usesOf(const Plan &plan, std::string_view name);

/// How many tensors of one class are stored in one type.
struct StorageTypes {
  BufferClass kind = BufferClass::base;
  DType dtype = DType::f32;
  bool mapped = false;
  uint64_t tensors = 0;
  uint64_t bytes = 0; ///< those that several tensors have in turn count once
};
/// One tensor of the plan and the types its numbers have inside kernels.
struct TensorTypes {
  uint32_t buffer = none;
  std::vector<DType> computed; ///< in order of first use; empty: only counts
};
/// In which type a kernel computes: products in the type its operands `C` have
/// (their sums are f32), everything else in f32 or f64. Kernels over integers
/// are left out.
struct ComputeTypes {
  std::string_view kernel;
  DType compute = DType::f32;
  uint64_t launches = 0;
};
/// Numbers that change their type: a weight that is rounded as it is read, a
/// result that is rounded from its sum, a number that is widened, a buffer that
/// starts from a weight of another type, a trained weight that is saved.
struct Conversion {
  std::string_view where;   ///< kernel, or "load", "save"
  std::string_view operand; ///< or what has no operand: "probabilities"
  DType from = DType::f32, to = DType::f32;
  uint64_t times = 0;       ///< launches, or buffers
  std::string_view example; ///< the first tensor

  bool rounds() const; ///< else every value stays what it is
};
struct TypeLedger {
  std::vector<TensorTypes> tensors; ///< every buffer, by index
  std::vector<StorageTypes> storage;
  std::vector<ComputeTypes> compute;
  std::vector<Conversion> conversions;
};
TypeLedger typeLedger(const Plan &plan);

/// Whether the ledger knows what `kernel` does to types: it must know each.
bool isInLedger(std::string_view kernel);

} // namespace peft

#endif // PEFT_MEMORYREPORT_H
