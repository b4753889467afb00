//===- StepCost.cpp - the work of a plan's entries ------------------------===//
#include "peftc/Analysis/StepCost.h"

#include "peft/KernelSpec.h"

#include <map>

using namespace peftc;

double StepCost::flops(std::string_view entry) const {
  double sum = 0;
  for (const KernelCost &cost : kernels)
    if (cost.entry == entry)
      sum += cost.flops;
  return sum;
}

/// Pairs of a query and a key that it sees, in one row of `seq` tokens.
static double visiblePairs(double seq, double window) {
  if (window <= 0 || window >= seq)
    return seq * (seq + 1) / 2;
  return window * (window + 1) / 2 + (seq - window) * window;
}

/// Matrix products dominate: everything else is counted as one operation per
/// element of its largest operand.
static double flopsOf(const peft::KernelSpec &spec,
                      const peft::LaunchShape &shape, double largest) {
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
  bool forward = name == "attention_fwd";
  if (forward || name == "attention_bwd") {
    double rows = m / attribute("seq");
    double pairs = visiblePairs(attribute("seq"), attribute("window"));
    // Two products of head_dim per pair forward, five backward.
    return rows * attribute("heads") * pairs * attribute("head_dim") *
           (forward ? 4 : 10);
  }
  return largest;
}

static double costOf(const peft::Plan &plan, const peft::Launch &launch) {
  const peft::KernelSpec *spec = peft::findKernel(launch.kernel);
  if (!spec)
    return 0;
  auto attributes = peft::bindAttributes(*spec, launch);
  if (!attributes.ok())
    return 0;
  std::vector<peft::OperandShape> operands;
  double largest = 0;
  for (uint32_t index : launch.operands) {
    peft::OperandShape &operand = operands.emplace_back();
    if (index == peft::none)
      continue;
    const peft::Buffer &buffer = plan.buffers[index];
    operand = {true, buffer.dtype, buffer.shape};
    largest =
        std::max(largest, double(buffer.size) / double(byteSize(buffer.dtype)));
  }
  std::vector<peft::DType> types;
  auto shape = peft::bindShapes(*spec, operands, *attributes, types);
  return shape.ok() ? flopsOf(*spec, *shape, largest) : 0;
}

StepCost peftc::stepCost(const peft::Plan &plan) {
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
        result.kernels.push_back({entry.name, launch->kernel, 0, 0});
      KernelCost &cost = result.kernels[it->second];
      ++cost.launches;
      cost.flops += costOf(plan, *launch);
    }
  return result;
}
