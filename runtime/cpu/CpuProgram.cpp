//===- CpuProgram.cpp - an entry with addresses ---------------------------===//
#include "CpuProgram.h"

#include "cpu/AccessGuard.h"

#include <algorithm>
#include <cstring>

namespace peft::cpu {

std::byte *Addresses::of(uint32_t index) const {
  if (index == none)
    return nullptr;
  const Buffer &buffer = plan.buffers[index];
  if (buffer.arena != none)
    return arenas[buffer.arena].data() + buffer.offset;
  // Kernels never write operands that kernels.def calls inputs, and the
  // verifier lets mapped weights be nothing else.
  auto *bytes = const_cast<std::byte *>(weights[buffer.weight].data());
  const Weight &weight = plan.weights[buffer.weight];
  if (weight.slices.empty())
    return bytes;
  uint64_t row = weights[buffer.weight].size() / weight.shape[0];
  return bytes + weight.slices.front().start * row;
}

bool Step::enabled() const {
  if (!predicate)
    return true;
  int32_t value;
  std::memcpy(&value, predicate, sizeof value);
  return value > above;
}

static Operand operandOf(const Addresses &addresses, uint32_t index) {
  Operand operand;
  if (index == none)
    return operand;
  const Buffer &buffer = addresses.plan.buffers[index];
  operand.data = addresses.of(index);
  operand.type = buffer.dtype;
  operand.rows = buffer.shape.size() == 2 ? buffer.shape[0] : 1;
  operand.columns = buffer.shape.back();
  return operand;
}

/// In a plan for a card all scratch of this device is one buffer: the threads'
/// parts, then the shared one.
static Status setWorkspaces(const Addresses &addresses, const Launch &launch,
                            const KernelSpec &spec, Call &call) {
  const Plan &plan = addresses.plan;
  uint64_t hostShared = 0;
  if (plan.deviceKind == DeviceKind::cpu) {
    call.sharedWorkspace = addresses.of(launch.sharedWorkspace);
  } else {
    std::vector<OperandShape> shapes;
    for (uint32_t index : launch.operands)
      if (index == none)
        shapes.emplace_back();
      else
        shapes.push_back(
            {true, plan.buffers[index].dtype, plan.buffers[index].shape});
    std::vector<DType> types;
    PEFT_ASSIGN(LaunchShape shape,
                bindShapes(spec, shapes, call.attributes, types));
    hostShared =
        workspaceNeed(spec, shape, plan.maxThreads, plan.deviceKind).hostShared;
  }
  if (launch.threadWorkspace == none)
    return {};
  std::byte *scratch = addresses.of(launch.threadWorkspace);
  uint64_t threads = plan.buffers[launch.threadWorkspace].size - hostShared;
  call.threadWorkspace = scratch;
  call.threadWorkspaceBytes =
      threads / plan.maxThreads / bufferAlignment * bufferAlignment;
  if (hostShared)
    call.sharedWorkspace =
        scratch + call.threadWorkspaceBytes * plan.maxThreads;
  return {};
}

Status CpuProgram::addLaunch(const Addresses &addresses, const Launch &launch,
                             Path path, Step &step) {
  const KernelSpec *spec = findKernel(launch.kernel);
  if (!spec)
    return badInput("there is no such kernel");
  step.kernel = static_cast<uint32_t>(spec - allKernels().data());
  step.function = findFunction(path, step.kernel);
  if (!step.function)
    return internalError("the CPU device has no such kernel");
  PEFT_ASSIGN(std::vector<AttributeValue> values,
              bindAttributes(*spec, launch));
  std::vector<Operand> resolved;
  for (uint32_t index : launch.operands)
    resolved.push_back(operandOf(addresses, index));
  operands.push_back(std::move(resolved));
  attributes.push_back(std::move(values));
  step.call.operands = operands.back();
  step.call.attributes = attributes.back();
  PEFT_TRY(setWorkspaces(addresses, launch, *spec, step.call));
  step.predicate = addresses.of(launch.predicate.buffer);
  step.above = launch.predicate.above;
  return {};
}

Expected<CpuProgram> CpuProgram::build(const Addresses &addresses,
                                       uint32_t entry,
                                       const std::vector<uint32_t> &order,
                                       Path path, ThreadPool &pool) {
  const Plan &plan = addresses.plan;
  const Entry &source = plan.entries[entry];
  CpuProgram program;
  size_t arenaCount = plan.arenas.size();
  program.ends.resize(order.size() * arenaCount);
  std::vector<ByteAccess> accesses;
  for (uint32_t item : order) {
    const auto &action = source.items[item].action;
    Step step;
    step.item = item;
    step.call.pool = &pool;
    if (const auto *launch = std::get_if<Launch>(&action)) {
      Status status = program.addLaunch(addresses, *launch, path, step);
      if (!status.ok())
        return status.in(describeItem(source, item));
    } else if (const auto *copy = std::get_if<Copy>(&action)) {
      step.source = addresses.of(copy->source) + copy->sourceOffset;
      step.destination =
          addresses.of(copy->destination) + copy->destinationOffset;
      step.size = copy->size;
    } else {
      continue;
    }
    step.ends = program.ends.data() + program.stepList.size() * arenaCount;
    collectAccesses(plan, source.items[item], accesses);
    for (const ByteAccess &access : accesses)
      step.ends[access.arena] = std::max(step.ends[access.arena], access.end);
    if (AccessGuard::enabled)
      program.fences.push_back(accesses);
    program.stepList.push_back(step);
  }
  return program;
}

} // namespace peft::cpu
