//===- TypeLedger.cpp - every type that numbers are stored or computed in -===//
#include "peft/KernelSpec.h"
#include "peft/MemoryReport.h"

#include <algorithm>
#include <map>
#include <tuple>

namespace peft {

namespace {

/// Where a kernel's numbers meet.
enum class Arithmetic {
  none,     ///< integers, or nothing is computed
  copy,     ///< the first operand's numbers become the last one's
  f32,      ///< every number is widened to f32, results are rounded from it
  f64,      ///< sums in f64
  products, ///< factors meet in the compute type, their sums are f32
};

/// A rounding inside a kernel, of numbers that no operand holds.
struct Inside {
  std::string_view numbers;
  bool withDropout; ///< only then
};

struct KernelArithmetic {
  std::string_view kernel;
  Arithmetic arithmetic;
  Inside inside = {};
};

constexpr KernelArithmetic arithmetics[] = {
    {"embed_fwd", Arithmetic::copy},
    {"embed_dw", Arithmetic::f32},
    {"rms_norm_fwd", Arithmetic::f32},
    {"rms_norm_dx", Arithmetic::f32},
    {"rms_norm_dw", Arithmetic::f32},
    {"linear_fwd", Arithmetic::products},
    {"linear_lora_fwd", Arithmetic::products},
    {"linear_dx", Arithmetic::products},
    {"dequantize", Arithmetic::copy},
    {"linear_lora_dx", Arithmetic::products},
    {"linear_dw", Arithmetic::products},
    {"bias_dw", Arithmetic::f32},
    {"lora_down_fwd", Arithmetic::products, {"dropped x", true}},
    {"lora_down_group_fwd", Arithmetic::products, {"dropped x", true}},
    {"lora_down_dw", Arithmetic::products, {"dropped x", true}},
    {"dora_norm", Arithmetic::f32},
    {"dora_scale", Arithmetic::f32},
    {"dora_dw", Arithmetic::f32},
    {"dropout_fwd", Arithmetic::f32},
    {"join", Arithmetic::copy},
    {"first_columns", Arithmetic::copy},
    {"rope_table", Arithmetic::f32},
    {"rope_fwd", Arithmetic::f32},
    {"attention_fwd", Arithmetic::products, {"probabilities", false}},
    {"attention_bwd", Arithmetic::products, {"probabilities", false}},
    {"swiglu_fwd", Arithmetic::f32},
    {"swiglu_bwd", Arithmetic::f32},
    {"geglu_fwd", Arithmetic::f32},
    {"geglu_bwd", Arithmetic::f32},
    {"softcap_fwd", Arithmetic::f32},
    {"softcap_bwd", Arithmetic::f32},
    {"take_columns", Arithmetic::copy},
    {"join_columns", Arithmetic::copy},
    {"add_fwd", Arithmetic::f32},
    {"cast", Arithmetic::copy},
    {"fill_zero", Arithmetic::none},
    {"accumulate", Arithmetic::f32},
    {"compact_rows", Arithmetic::none},
    {"gather_rows", Arithmetic::copy},
    {"scatter_rows", Arithmetic::copy},
    {"cross_entropy_fwd", Arithmetic::f32},
    {"cross_entropy_fwd_bwd", Arithmetic::f32},
    {"loss_sum", Arithmetic::f64},
    {"count_tokens", Arithmetic::none},
    {"norm_square", Arithmetic::f64},
    {"finish_step", Arithmetic::f64},
    {"adjust_loss_scale", Arithmetic::none},
    {"adamw", Arithmetic::f32},
    {"adamw8bit", Arithmetic::f32},
};

/// Whether numbers of this type stand for real numbers: not for ids or counts.
bool isReal(DType type) { return type != DType::i32 && type != DType::i64; }

/// The scales of a quantized weight, which its values are computed from.
bool isScale(std::string_view operand) {
  return operand == "absmax" || operand == "nested_absmax" ||
         operand == "tables";
}

class LedgerBuilder {
public:
  explicit LedgerBuilder(const Plan &plan) : plan(plan) {}

  TypeLedger build();

private:
  void addBuffers();
  void addLaunch(const Launch &launch);
  void addOperand(const Launch &launch, const KernelSpec &spec, size_t index,
                  Arithmetic arithmetic, DType compute);
  void addConversion(std::string_view where, std::string_view operand,
                     DType from, DType to, std::string_view example);
  void addComputed(uint32_t buffer, DType type);
  void addFiles();

  using StorageKey = std::tuple<BufferClass, DType, bool>;
  /// Bytes [begin, end) of an arena.
  struct Range {
    uint32_t arena;
    uint64_t begin, end;
    auto operator<=>(const Range &) const = default;
  };
  static uint64_t coveredBytes(std::vector<Range> ranges);

  const Plan &plan;
  std::vector<TensorTypes> tensors;
  std::map<StorageKey, StorageTypes> storage;
  std::map<StorageKey, std::vector<Range>> places; ///< in arenas
  std::map<std::tuple<std::string_view, DType>, ComputeTypes> compute;
  std::map<std::tuple<std::string_view, std::string_view, DType, DType>,
           Conversion>
      conversions;
};

} // namespace

bool isInLedger(std::string_view kernel) {
  return std::ranges::any_of(arithmetics, [&](const KernelArithmetic &each) {
    return each.kernel == kernel;
  });
}

bool Conversion::rounds() const {
  return to != DType::f64 && (to != DType::f32 || from == DType::f64);
}

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

void LedgerBuilder::addComputed(uint32_t buffer, DType type) {
  std::vector<DType> &types = tensors[buffer].computed;
  if (std::ranges::find(types, type) == types.end())
    types.push_back(type);
}

/// What becomes of the numbers of one operand inside its kernel.
void LedgerBuilder::addOperand(const Launch &launch, const KernelSpec &spec,
                               size_t index, Arithmetic arithmetic,
                               DType compute) {
  const OperandSpec &operand = spec.operands[index];
  const uint32_t number = launch.operands[index];
  const Buffer &buffer = plan.buffers[number];
  if (!isReal(buffer.dtype) || isScale(operand.name))
    return;
  DType inside = buffer.dtype;
  switch (arithmetic) {
  case Arithmetic::none:
    break;
  case Arithmetic::copy: {
    const uint32_t target = launch.operands[spec.findOperand("y")];
    inside = plan.buffers[target].dtype;
    break;
  }
  case Arithmetic::f32:
    inside = DType::f32;
    break;
  case Arithmetic::f64:
    inside = DType::f64;
    break;
  case Arithmetic::products:
    // A weight meets the compute type; what is f32 by itself joins the sum.
    if (operand.access == Access::in)
      inside = operand.types.starts_with("W") ? compute : buffer.dtype;
    else
      inside = DType::f32;
    break;
  }
  addComputed(number, inside);
  if (operand.access != Access::out)
    addConversion(spec.name, operand.name, buffer.dtype, inside, buffer.name);
  if (operand.access != Access::in && arithmetic != Arithmetic::copy)
    addConversion(spec.name, operand.name, inside, buffer.dtype, buffer.name);
}

void LedgerBuilder::addLaunch(const Launch &launch) {
  const KernelSpec &spec = *findKernel(launch.kernel);
  const auto *kernel = std::ranges::find(arithmetics, launch.kernel,
                                         &KernelArithmetic::kernel);
  const Arithmetic arithmetic = kernel == std::end(arithmetics)
                                    ? Arithmetic::none
                                    : kernel->arithmetic;
  DType type = arithmetic == Arithmetic::f64 ? DType::f64 : DType::f32;
  if (arithmetic == Arithmetic::products)
    for (size_t i = 0; i < spec.operands.size(); ++i)
      if (spec.operands[i].types == "C" && launch.operands[i] != none)
        type = plan.buffers[launch.operands[i]].dtype;
  if (arithmetic != Arithmetic::none) {
    ComputeTypes &row = compute[{spec.name, type}];
    row.kernel = spec.name;
    row.compute = type;
    ++row.launches;
  }
  for (size_t i = 0; i < spec.operands.size(); ++i)
    if (launch.operands[i] != none)
      addOperand(launch, spec, i, arithmetic, type);
  if (kernel == std::end(arithmetics) || kernel->inside.numbers.empty())
    return;
  const bool dropout = std::ranges::any_of(
      launch.attributes,
      [](const Attribute &each) { return each.name == "dropout"; });
  if (dropout || !kernel->inside.withDropout)
    addConversion(spec.name, kernel->inside.numbers, DType::f32, type,
                  launch.module);
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

void LedgerBuilder::addBuffers() {
  for (const Buffer &buffer : plan.buffers) {
    const bool mapped = buffer.arena == none;
    tensors.push_back({static_cast<uint32_t>(tensors.size()), {}});
    const StorageKey key{buffer.kind, buffer.dtype, mapped};
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
}

/// From the model's files, and back into those of a trained model: an adapter
/// is saved in f32, as it is.
void LedgerBuilder::addFiles() {
  for (const Initializer &start : plan.initializers)
    if (start.kind == Initializer::Kind::weight)
      addConversion("load", "weight", plan.weights[start.weight].dtype,
                    plan.buffers[start.buffer].dtype,
                    plan.weights[start.weight].name);
  if (plan.adapterConfig.empty())
    for (const Parameter &parameter : plan.parameters)
      addConversion("save", "weight", plan.buffers[parameter.buffer].dtype,
                    parameter.sourceType, parameter.name);
}

TypeLedger LedgerBuilder::build() {
  addBuffers();
  addFiles();
  for (const Entry &entry : plan.entries)
    for (const Item &item : entry.items)
      if (const auto *launch = std::get_if<Launch>(&item.action))
        addLaunch(*launch);
  TypeLedger ledger;
  ledger.tensors = std::move(tensors);
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
