//===- KernelSpec.cpp - kernels.def as a table ----------------------------===//
#include "peft/KernelSpec.h"

#include "../schema/CpuWorkspace.h"
#include "../schema/CudaWorkspace.h"
#include "../schema/QuantizedParts.h"

#include <unordered_map>

namespace peft {

// One function per kernel, inside the namespace that holds the names of its
// operands and attributes, so that conditions can say `d[head_dim]`.
#define KERNEL(kernelName, text)                                               \
  namespace kernels::kernelName {                                              \
  static KernelSpec describe() {                                               \
    KernelSpec spec;                                                           \
    spec.name = #kernelName;                                                   \
    spec.summary = text;
#define IN(operand, shape, types)                                              \
  spec.operands.push_back({#operand, shape, types, Access::in, false});
#define OPTIONAL_IN(operand, shape, types)                                     \
  spec.operands.push_back({#operand, shape, types, Access::in, true});
#define OUT(operand, shape, types)                                             \
  spec.operands.push_back({#operand, shape, types, Access::out, false});
#define OPTIONAL_OUT(operand, shape, types)                                    \
  spec.operands.push_back({#operand, shape, types, Access::out, true});
#define INOUT(operand, shape, types)                                           \
  spec.operands.push_back({#operand, shape, types, Access::inout, false});
#define ATTRIBUTES
#define INTEGER(attribute, byDefault, least, most)                             \
  spec.attributes.push_back({#attribute, AttributeSpec::Kind::integer,         \
                             byDefault, least, most, 0, 0, 0});
#define FLOAT(attribute, byDefault, least, most)                               \
  spec.attributes.push_back({#attribute, AttributeSpec::Kind::real, 0, 0, 0,   \
                             byDefault, least, most});
#define FLOATS(attribute)                                                      \
  spec.attributes.push_back(                                                   \
      {#attribute, AttributeSpec::Kind::reals, 0, 0, 0, 0, 0, 0});
#define REQUIRE(text, condition)                                               \
  spec.requirements.push_back(                                                 \
      {text, [](const LaunchShape &d) -> bool { return condition; }});
#define WORKSPACE(sharedBytes, threadBytes)                                    \
  spec.cpuWorkspace = {                                                        \
      [](const LaunchShape &d) -> Saturating { return sharedBytes; },          \
      [](const LaunchShape &d) -> Saturating { return threadBytes; }};
#define CUDA_WORKSPACE(bytes)                                                  \
  spec.cudaWorkspace = [](const LaunchShape &d) -> Saturating { return bytes; };
#define END_KERNEL(kernelName)                                                 \
  return spec;                                                                 \
  }                                                                            \
  }
#include "../schema/kernels.def"
#include "peft/EndKernels.inc"

static std::vector<KernelSpec> describeAll() {
  return {
#define KERNEL(name, summary) kernels::name::describe(),
#define IN(name, shape, types)
#define OPTIONAL_IN(name, shape, types)
#define OUT(name, shape, types)
#define OPTIONAL_OUT(name, shape, types)
#define INOUT(name, shape, types)
#define ATTRIBUTES
#define INTEGER(name, byDefault, least, most)
#define FLOAT(name, byDefault, least, most)
#define FLOATS(name)
#define REQUIRE(text, condition)
#define WORKSPACE(shared, thread)
#define CUDA_WORKSPACE(bytes)
#define END_KERNEL(name)
#include "../schema/kernels.def"
#include "peft/EndKernels.inc"
  };
}

int KernelSpec::findOperand(std::string_view operand) const {
  for (size_t i = 0; i < operands.size(); ++i)
    if (operands[i].name == operand)
      return static_cast<int>(i);
  return -1;
}

int KernelSpec::findAttribute(std::string_view attribute) const {
  for (size_t i = 0; i < attributes.size(); ++i)
    if (attributes[i].name == attribute)
      return static_cast<int>(i);
  return -1;
}

std::span<const KernelSpec> allKernels() {
  static const std::vector<KernelSpec> table = describeAll();
  return table;
}

const KernelSpec *findKernel(std::string_view name) {
  static const auto index = [] {
    std::unordered_map<std::string_view, const KernelSpec *> map;
    for (const KernelSpec &spec : allKernels())
      map.emplace(spec.name, &spec);
    return map;
  }();
  auto found = index.find(name);
  return found == index.end() ? nullptr : found->second;
}

WorkspaceNeed workspaceNeed(const KernelSpec &spec, const LaunchShape &shape,
                            uint32_t maxThreads, DeviceKind kind) {
  Saturating shared, threads;
  if (spec.cpuWorkspace.shared)
    shared = spec.cpuWorkspace.shared(shape);
  if (spec.cpuWorkspace.thread)
    threads =
        roundUp(spec.cpuWorkspace.thread(shape), bufferAlignment) * maxThreads;
  if (kind == DeviceKind::cpu)
    return {shared.value, threads.value, 0};
  WorkspaceNeed need;
  if (spec.cudaWorkspace)
    need.shared = spec.cudaWorkspace(shape).value;
  need.thread = (threads + shared).value;
  need.hostShared = shared.value;
  return need;
}

} // namespace peft
