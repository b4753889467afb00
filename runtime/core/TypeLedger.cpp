//===- TypeLedger.cpp - every type that numbers are stored or computed in -===//
#include "peft/KernelSpec.h"
#include "peft/MemoryReport.h"

#include <map>
#include <tuple>

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

  const Plan &plan;
  std::map<std::tuple<BufferClass, DType, bool>, StorageTypes> storage;
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

TypeLedger LedgerBuilder::build() {
  for (const Buffer &buffer : plan.buffers) {
    bool mapped = buffer.arena == none;
    StorageTypes &row = storage[{buffer.kind, buffer.dtype, mapped}];
    row.kind = buffer.kind;
    row.dtype = buffer.dtype;
    row.mapped = mapped;
    ++row.tensors;
    row.bytes += buffer.size;
  }
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
