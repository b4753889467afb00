//===- StepCost.cpp - the work of a plan's entries ------------------------===//
#include "peftc/Analysis/StepCost.h"

#include "peft/KernelSpec.h"

#include <map>

using namespace peftc;

template <typename Number>
static Number sumOf(const std::vector<KernelCost> &kernels,
                    std::string_view entry, Number KernelCost::*field) {
  Number sum = 0;
  for (const KernelCost &cost : kernels)
    if (cost.entry == entry)
      sum += cost.*field;
  return sum;
}

double StepCost::flops(std::string_view entry) const {
  return sumOf(kernels, entry, &KernelCost::flops);
}
double StepCost::recomputedFlops(std::string_view entry) const {
  return sumOf(kernels, entry, &KernelCost::recomputedFlops);
}
double StepCost::bytes(std::string_view entry) const {
  return sumOf(kernels, entry, &KernelCost::bytes);
}
uint64_t StepCost::launches(std::string_view entry) const {
  return sumOf(kernels, entry, &KernelCost::launches);
}
double StepCost::seconds(std::string_view entry) const {
  return sumOf(kernels, entry, &KernelCost::seconds);
}

/// Pairs of a query and a key that it sees, in one row of `seq` tokens.
static double visiblePairs(double seq, double window) {
  if (window <= 0 || window >= seq)
    return seq * (seq + 1) / 2;
  return window * (window + 1) / 2 + (seq - window) * window;
}

/// The operations of a kernel that multiplies matrices, or 0.
static double productsOf(const peft::KernelSpec &spec,
                         const peft::LaunchShape &shape) {
  auto symbol = [&](char letter) { return double(shape.symbol(letter).value); };
  auto attribute = [&](const char *name) {
    return double(shape[spec.findAttribute(name)].value);
  };
  std::string_view name = spec.name;
  double m = symbol('m'), n = symbol('n'), k = symbol('k'), r = symbol('r');
  if (name == "linear_fwd" || name == "linear_dx" || name == "linear_dw")
    return 2 * m * n * k;
  if (name == "linear_lora_fwd")
    return 2 * m * n * (k + r);
  if (name == "linear_lora_dx")
    return 2 * m * k * (n + r);
  if (name == "lora_down_fwd" || name == "lora_down_dw")
    return 2 * m * k * r;
  if (name == "lora_down_group_fwd")
    return 2 * m * k * (r + symbol('s') + symbol('u'));
  bool forward = name == "attention_fwd";
  if (forward || name == "attention_bwd") {
    double rows = m / attribute("seq");
    double pairs = visiblePairs(attribute("seq"), attribute("window"));
    // Two products of head_dim per pair forward, five backward.
    return rows * attribute("heads") * pairs * attribute("head_dim") *
           (forward ? 4 : 10);
  }
  return 0;
}

/// Whether a launch touches only some rows of an operand, as many as its others
/// have: a row of the table per token.
static bool isTable(const peft::OperandSpec &operand) {
  return operand.name == "table" || operand.name == "dtable";
}

/// Matrix products dominate: everything else is counted as one operation per
/// element of its largest operand.
static LaunchCost costOf(const peft::Plan &plan, const peft::Launch &launch) {
  LaunchCost cost;
  const peft::KernelSpec *spec = peft::findKernel(launch.kernel);
  if (!spec)
    return cost;
  auto attributes = peft::bindAttributes(*spec, launch);
  if (!attributes.ok())
    return cost;
  bool embedding = spec->name.starts_with("embed_");
  std::vector<peft::OperandShape> operands;
  double largest = 0;
  for (size_t i = 0; i < launch.operands.size(); ++i) {
    uint32_t index = launch.operands[i];
    peft::OperandShape &operand = operands.emplace_back();
    if (index == peft::none)
      continue;
    const peft::Buffer &buffer = plan.buffers[index];
    operand = {true, buffer.dtype, buffer.shape};
    if (embedding && isTable(spec->operands[i]))
      continue;
    largest = std::max(largest, double(buffer.elements()));
    bool twice = spec->operands[i].access == peft::Access::inout;
    cost.bytes += double(buffer.size) * (twice ? 2 : 1);
  }
  std::vector<peft::DType> types;
  auto shape = peft::bindShapes(*spec, operands, *attributes, types);
  if (!shape.ok())
    return cost;
  if (embedding)
    cost.bytes *= 2; // as many rows of the table again
  cost.flops = productsOf(*spec, *shape);
  cost.product = cost.flops > 0;
  if (!cost.product)
    cost.flops = largest;
  return cost;
}

/// Elementwise work runs at the rate of f32, which memory hides.
static double secondsOf(const LaunchCost &cost, peft::DType compute,
                        const TargetDescription &target) {
  double rate = target.flops(cost.product ? compute : peft::DType::f32);
  double work = rate > 0 ? cost.flops / rate : 0;
  return std::max(work, cost.bytes / target.memoryBytesPerSecond) +
         target.launchSeconds;
}

StepCost peftc::stepCost(const peft::Plan &plan,
                         const TargetDescription *target) {
  StepCost result;
  std::map<std::pair<std::string_view, std::string_view>, size_t> places;
  for (const peft::Entry &entry : plan.entries)
    for (const peft::Item &item : entry.items) {
      const auto *launch = std::get_if<peft::Launch>(&item.action);
      if (!launch)
        continue;
      auto [it, added] = places.try_emplace({entry.name, launch->kernel},
                                            result.kernels.size());
      if (added)
        result.kernels.push_back({entry.name, launch->kernel});
      KernelCost &sum = result.kernels[it->second];
      LaunchCost cost = costOf(plan, *launch);
      ++sum.launches;
      sum.flops += cost.flops;
      if (launch->recomputed)
        sum.recomputedFlops += cost.flops;
      sum.bytes += cost.bytes;
      if (target)
        sum.seconds += secondsOf(cost, plan.compute, *target);
    }
  return result;
}
