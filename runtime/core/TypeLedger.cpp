//===- TypeLedger.cpp - every type that numbers are stored or computed in -===//
#include "peft/KernelSpec.h"
#include "peft/MemoryReport.h"

#include <algorithm>
#include <map>
#include <tuple>
#include <vector>

namespace peft {

namespace {

class LedgerBuilder {
public:
  explicit LedgerBuilder(const Plan &plan) : plan(plan) {}

  TypeLedger build();

private:
  void addLaunch(const Launch &launch);
  void addConversion(std::string_view where, std::string_view operand,
                     DType from, DType to, std::string_view example);

  using StorageKey = std::tuple<BufferClass, DType, bool>;
  /// Bytes [begin, end) of an arena.
  struct Range {
    uint32_t arena;
    uint64_t begin, end;
    auto operator<=>(const Range &) const = default;
  };
  static uint64_t coveredBytes(std::vector<Range> ranges);

  const Plan &plan;
  std::map<StorageKey, StorageTypes> storage;
  std::map<StorageKey, std::vector<Range>> places; ///< in arenas
  std::map<std::tuple<std::string_view, DType>, ComputeTypes> compute;
  std::map<std::tuple<std::string_view, std::string_view, DType, DType>,
           Conversion>
      conversions;
};

} // namespace

void LedgerBuilder::addConversion(std::string_view where,
                                  std::string_view operand, DType from,
                                  DType to, std::string_view example) {
  if (from == to)
    return;
  auto [found, isNew] = conversions.try_emplace({where, operand, from, to});
  Conversion &row = found->second;
  if (isNew)
    row = {where, operand, from, to, 0, example};
  ++row.times;
}

void LedgerBuilder::addLaunch(const Launch &launch) {
  const KernelSpec &spec = *findKernel(launch.kernel);
  auto buffer = [&](size_t operand) -> const Buffer * {
    uint32_t index = launch.operands[operand];
    return index == none ? nullptr : &plan.buffers[index];
  };
  DType type = DType::f32;
  for (size_t i = 0; i < spec.operands.size(); ++i)
    if (spec.operands[i].types == "C" && buffer(i))
      type = buffer(i)->dtype;
  ComputeTypes &row = compute[{spec.name, type}];
  row.kernel = spec.name;
  row.compute = type;
  ++row.launches;
  for (size_t i = 0; i < spec.operands.size(); ++i)
    if (spec.operands[i].types.starts_with("W") && buffer(i) &&
        spec.name != "embed_fwd")
      addConversion(spec.name, spec.operands[i].name, buffer(i)->dtype, type,
                    buffer(i)->name);
  if (spec.name == "cast" || spec.name == "gather_rows" ||
      spec.name == "scatter_rows") {
    size_t last = spec.operands.size() - 1;
    addConversion(spec.name, spec.operands[0].name, buffer(0)->dtype,
                  buffer(last)->dtype, buffer(0)->name);
  }
}

/// The bytes that at least one of the ranges has.
uint64_t LedgerBuilder::coveredBytes(std::vector<Range> ranges) {
  std::ranges::sort(ranges);
  uint64_t bytes = 0, end = 0;
  uint32_t arena = none;
  for (const Range &range : ranges) {
    if (range.arena != arena)
      end = 0;
    arena = range.arena;
    if (range.end > end)
      bytes += range.end - std::max(end, range.begin);
    end = std::max(end, range.end);
  }
  return bytes;
}

TypeLedger LedgerBuilder::build() {
  for (const Buffer &buffer : plan.buffers) {
    bool mapped = buffer.arena == none;
    StorageKey key{buffer.kind, buffer.dtype, mapped};
    StorageTypes &row = storage[key];
    row.kind = buffer.kind;
    row.dtype = buffer.dtype;
    row.mapped = mapped;
    ++row.tensors;
    if (mapped)
      row.bytes += buffer.size;
    else
      places[key].push_back(
          {buffer.arena, buffer.offset, buffer.offset + buffer.size});
  }
  for (const auto &[key, ranges] : places)
    storage[key].bytes = coveredBytes(ranges);
  for (const Initializer &start : plan.initializers)
    if (start.kind == Initializer::Kind::weight)
      addConversion("load", "weight", plan.weights[start.weight].dtype,
                    plan.buffers[start.buffer].dtype,
                    plan.weights[start.weight].name);
  for (const Entry &entry : plan.entries)
    for (const Item &item : entry.items)
      if (const auto *launch = std::get_if<Launch>(&item.action))
        addLaunch(*launch);
  TypeLedger ledger;
  for (const auto &[key, row] : storage)
    ledger.storage.push_back(row);
  for (const auto &[key, row] : compute)
    ledger.compute.push_back(row);
  for (const auto &[key, row] : conversions)
    ledger.conversions.push_back(row);
  return ledger;
}

TypeLedger typeLedger(const Plan &plan) { return LedgerBuilder(plan).build(); }

} // namespace peft
