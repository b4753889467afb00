//===- EveryKernelPlan.h - one launch of each kernel ------------*- C++ -*-===//
#ifndef PEFT_TEST_EVERYKERNELPLAN_H
#define PEFT_TEST_EVERYKERNELPLAN_H

#include "TinyPlan.h"

namespace peft::test {

/// Values of the shape symbols of kernels.def under which every requirement
/// holds, together with the attributes below.
inline uint64_t symbolValue(char letter) {
  switch (letter) {
  case 'b': // blocks of at most 256 elements
    return 1;
  case 'h': // heads
    return 2;
  case 'g': // columns of a norm group
  case 'y': // kv_heads x head_dim
  case 'w': // rotated columns
  case 'm':
  case 'c':
  case 'q':
    return 4;
  case 'r':
    return 3;
  case 'v':
    return 10;
  case 't': // what 4-bit codes stand for
    return 16;
  default:
    return 8;
  }
}

inline std::vector<uint64_t> shapeOf(const OperandSpec &operand) {
  if (operand.shape[0] == '#')
    return {3, symbolValue(operand.shape[1])};
  std::vector<uint64_t> shape;
  for (size_t i = 0; i < operand.shape.size(); i += 2) {
    char letter = operand.shape[i];
    shape.push_back(letter >= '0' && letter <= '9'
                        ? static_cast<uint64_t>(letter - '0')
                        : symbolValue(letter));
  }
  return shape;
}

inline DType typeOf(const OperandSpec &operand, DType compute) {
  std::string_view one = operand.types.substr(0, operand.types.find('|'));
  if (one == "C")
    return compute;
  return one == "W"   ? DType::bf16
         : one == "Q" ? DType::nf4
                      : *parseDType(one);
}

/// Scales are there iff a weight is quantized; nested ones are for others.
inline bool isGiven(const KernelSpec &spec, const OperandSpec &operand) {
  if (operand.name == "nested_absmax")
    return false;
  return (operand.name != "absmax" && operand.name != "tables") ||
         spec.operands[0].types == "Q";
}

inline std::vector<Attribute> attributesOf(const KernelSpec &spec) {
  const std::vector<Attribute> all = {
      {"seq", int64_t(2)},      {"heads", int64_t(2)},
      {"kv_heads", int64_t(1)}, {"head_dim", int64_t(4)},
      {"window", int64_t(1)},   {"vocab", int64_t(10)},
      {"dropout", 0.25},        {"inv_freq", std::vector<float>{1, 0.5}}};
  std::vector<Attribute> used;
  for (const Attribute &attribute : all)
    if (spec.findAttribute(attribute.name) >= 0)
      used.push_back(attribute);
  if (spec.operands[0].types == "Q")
    used.push_back({"block", int64_t(8)});
  return used;
}

/// An entry per kernel, or for `only` one, that launches it once with all its
/// operands, each in a persistent buffer of its own.
inline Plan everyKernelPlan(DType compute, DeviceKind kind = DeviceKind::cpu,
                            std::string_view only = "") {
  PlanBuilder builder;
  builder.plan.compute = compute;
  builder.plan.deviceKind = kind;
  for (const KernelSpec &spec : allKernels()) {
    if (!only.empty() && spec.name != only)
      continue;
    std::string kernel(spec.name);
    builder.entry(kernel);
    std::vector<std::string> operands;
    for (const OperandSpec &operand : spec.operands) {
      if (!isGiven(spec, operand)) {
        operands.emplace_back();
        continue;
      }
      operands.push_back(kernel + "." + std::string(operand.name));
      builder.persistent(operands.back(), typeOf(operand, compute),
                         shapeOf(operand), BufferClass::activation);
    }
    builder.launch(0, kernel, operands, attributesOf(spec));
  }
  return builder.finish();
}

} // namespace peft::test

#endif // PEFT_TEST_EVERYKERNELPLAN_H
