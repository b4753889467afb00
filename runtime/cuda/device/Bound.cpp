//===- Bound.cpp - a program with addresses -------------------------------===//
#include "Bound.h"

#include "LibraryAttention.h"

#include "cuda/MultiTensor.h"
#include "cuda/library/Libraries.h"
#include "peft/KernelSpec.h"

#include <algorithm>
#include <cstring>

namespace peft::cuda {

std::byte *Places::of(uint32_t index) const {
  if (index == none)
    return nullptr;
  const Buffer &buffer = plan->buffers[index];
  if (buffer.arena == none)
    return weights + weightLayout->offsets[index];
  return arenas[buffer.arena].data() + buffer.offset;
}

uint64_t Tables::add(const void *data, uint64_t size) {
  uint64_t offset = (bytes.size() + 255) / 256 * 256;
  bytes.resize(offset + size);
  if (data)
    std::memcpy(bytes.data() + offset, data, size);
  return offset;
}

static Expected<Operand> operandOf(const Places &places, uint32_t index) {
  Operand operand;
  if (index == none)
    return operand;
  const Buffer &buffer = places.plan->buffers[index];
  if (buffer.arena != none &&
      places.arenas[buffer.arena].space() == Space::pageable)
    return Status::error(Code::unsuitable,
                         "buffer '" + buffer.name +
                             "' lies in host memory that a card cannot reach");
  operand.data = places.of(index);
  operand.type = buffer.dtype;
  operand.rows = buffer.shape.size() == 2 ? buffer.shape[0] : 1;
  operand.columns = buffer.shape.back();
  return operand;
}

/// The launch's own workspace, or the scratch of its stream.
static void setWorkspace(const Places &places, uint32_t stream,
                         const Launch &launch, uint64_t need, Call &call) {
  const uint32_t own = ownWorkspace(*places.plan, launch, need);
  if (own != none) {
    call.workspace = places.of(own);
    call.workspaceBytes = places.plan->buffers[own].size;
  } else if (need > 0) {
    call.workspace = (*places.scratch)[stream].data();
    call.workspaceBytes = (*places.scratch)[stream].size();
  }
}

static FaultSlot *faultSlot(const Places &places, uint32_t entry,
                            uint32_t item) {
  for (size_t i = 1; i < places.faultOwners.size(); ++i)
    if (places.faultOwners[i].entry == entry &&
        places.faultOwners[i].item == item)
      return places.faults + i;
  return places.faults;
}

Expected<Call> BoundProgram::bind(const Places &places, uint32_t entry,
                                  uint32_t item) {
  const Item &source = places.plan->entries[entry].items[item];
  const auto &launch = std::get<Launch>(source.action);
  PEFT_ASSIGN(std::vector<AttributeValue> values,
              bindAttributes(*findKernel(launch.kernel), launch));
  std::vector<Operand> resolved;
  for (uint32_t index : launch.operands) {
    PEFT_ASSIGN(Operand operand, operandOf(places, index));
    resolved.push_back(operand);
  }
  operands.push_back(std::move(resolved));
  attributes.push_back(std::move(values));
  Call call;
  call.operands = operands.back();
  call.attributes = attributes.back();
  PEFT_ASSIGN(uint64_t need, workspaceBytes(*places.plan, launch));
  if (const AttentionChoice *choice = places.attention->find(entry, item))
    need = std::max(need, choice->needBytes());
  setWorkspace(places, source.stream, launch, need, call);
  PEFT_ASSIGN(Operand value, operandOf(places, launch.predicate.buffer));
  call.gate = {value.as<const int32_t>(), launch.predicate.above};
  call.fault = faultSlot(places, entry, item);
  call.libraries = places.libraries;
  return call;
}

//===----------------------------------------------------------------------===//
// Merged launches
//===----------------------------------------------------------------------===//

template <typename Part>
static std::vector<Part> partsOf(const std::vector<Call> &calls) {
  std::vector<Part> parts;
  for (const Call &call : calls)
    appendParts(call, parts);
  return parts;
}

template <typename Part>
static const Part *partsAt(const Tables &tables, uint64_t offset) {
  return reinterpret_cast<const Part *>(tables.base + offset);
}

/// One launch over the tensors of all `calls`, which are of kernel `kernel`.
static std::function<Status(const Call &)>
mergeCalls(std::string_view kernel, const std::vector<Call> &calls,
           Tables &tables) {
  auto table = [&](const auto &parts) {
    return tables.add(parts.data(), parts.size() * sizeof(parts[0]));
  };
  if (kernel == "adamw") {
    auto parts = partsOf<AdamwPart>(calls);
    auto *adam = calls[0][kernels::adamw::adam].as<const double>();
    return [&tables, at = table(parts), count = parts.size(),
            adam](const Call &call) {
      return adamwTable(call, partsAt<AdamwPart>(tables, at), count, adam);
    };
  }
  if (kernel == "adamw8bit") {
    auto parts = partsOf<CodedAdamwPart>(calls);
    auto *adam = calls[0][kernels::adamw8bit::adam].as<const double>();
    return [&tables, at = table(parts), count = parts.size(),
            adam](const Call &call) {
      return adamw8bitTable(call, partsAt<CodedAdamwPart>(tables, at), count,
                            adam);
    };
  }
  if (kernel == "fill_zero") {
    auto parts = partsOf<ZeroPart>(calls);
    return [&tables, at = table(parts), count = parts.size()](const Call &call) {
      return fillZeroTable(call, partsAt<ZeroPart>(tables, at), count);
    };
  }
  auto parts = partsOf<NormPart>(calls);
  uint64_t sums = tables.add(nullptr, parts.size() * sizeof(double));
  auto *sum = calls[0][kernels::norm_square::sum].as<double>();
  return [&tables, at = table(parts), count = parts.size(), sums,
          sum](const Call &original) {
    Call call = original;
    call.workspace = tables.base + sums;
    call.workspaceBytes = count * sizeof(double);
    return normSquareTable(call, partsAt<NormPart>(tables, at), count, sum);
  };
}

//===----------------------------------------------------------------------===//
// Steps
//===----------------------------------------------------------------------===//

/// Lets the libraries choose how they compute a launch of the linear family.
static Status prepareLibraries(uint32_t kernel, const Call &call) {
  if (!isLinear(kernel))
    return {};
  PEFT_ASSIGN(LinearWork work, describeLinear(kernel, call));
  PEFT_ASSIGN(LibraryArea area, libraryArea(call, work));
  return call.libraries->prepare(work, area.bytes);
}

Expected<BoundStep> BoundProgram::addStep(const Places &places, uint32_t entry,
                                          const ProgramStep &step,
                                          Tables &tables) {
  BoundStep bound;
  bound.kind = step.kind;
  bound.items = step.items;
  bound.item = step.items.front();
  bound.kernel = step.kernel;
  bound.event = step.event;
  bound.launches = step.items.size();
  const auto &action = places.plan->entries[entry].items[bound.item].action;
  if (step.kind == ProgramStep::Kind::copy) {
    const auto &copy = std::get<Copy>(action);
    bound.source = places.of(copy.source) + copy.sourceOffset;
    bound.destination = places.of(copy.destination) + copy.destinationOffset;
    bound.size = copy.size;
  }
  if (step.kind != ProgramStep::Kind::launch)
    return bound;
  std::vector<Call> calls;
  for (uint32_t item : step.items) {
    PEFT_ASSIGN(Call call, bind(places, entry, item));
    calls.push_back(call);
  }
  bound.call = calls.front();
  PEFT_TRY(prepareLibraries(step.kernel, bound.call));
  if (calls.size() > 1)
    bound.run = mergeCalls(allKernels()[step.kernel].name, calls, tables);
  else
    bound.run = findFunction(step.kernel);
  return bound;
}

/// A launch of attention that the library does: up to three blocks, since a
/// library is stopped only as a whole. With segments the card looks up first
/// which of the two ways is open.
void BoundProgram::addLibraryAttention(uint32_t stream,
                                       const AttentionChoice &choice,
                                       BoundStep own) {
  BoundStep library = own;
  library.run = [choice](const Call &call) {
    return runLibraryAttention(call, choice);
  };
  auto add = [&](bool conditional, BoundStep step) {
    Gate gate = step.call.gate;
    blocks.push_back({stream, conditional, gate, {std::move(step)}});
  };
  if (!choice.areas.hasGates)
    return add(library.call.gate.value != nullptr, std::move(library));
  auto *gates = reinterpret_cast<AttentionGates *>(own.call.workspace +
                                                   choice.areas.gates);
  BoundStep choose = own;
  choose.run = [gates, backward = choice.problem.backward](const Call &call) {
    return openAttentionGates(call, backward, gates);
  };
  library.call.gate = {&gates->library, 0};
  own.call.gate = {&gates->own, 0};
  // One launch of the plan is counted once.
  library.launches = own.launches = 0;
  add(false, std::move(choose));
  add(true, std::move(library));
  add(false, std::move(own));
}

Status BoundProgram::addBlock(const Places &places, uint32_t entry,
                              const ProgramBlock &block, Tables &tables) {
  BoundBlock bound{block.stream, block.conditional, {}, {}};
  auto close = [&] {
    if (!bound.steps.empty())
      blocks.push_back(std::move(bound));
    bound = {block.stream, block.conditional, {}, {}};
  };
  for (const ProgramStep &step : block.steps) {
    auto added = addStep(places, entry, step, tables);
    if (!added.ok())
      return added.status().in(
          describeItem(places.plan->entries[entry], step.items.front()));
    const AttentionChoice *choice =
        places.attention->find(entry, step.items.front());
    if (choice && choice->graph) {
      close();
      addLibraryAttention(block.stream, *choice, std::move(*added));
      continue;
    }
    bound.gate = added->call.gate;
    bound.steps.push_back(std::move(*added));
  }
  close();
  return {};
}

Expected<std::unique_ptr<BoundProgram>>
BoundProgram::build(const Places &places, uint32_t entry, Tables &tables) {
  const Plan &plan = *places.plan;
  auto bound = std::make_unique<BoundProgram>();
  PEFT_ASSIGN(Program program, buildProgram(plan, entry));
  bound->streams = program.streams;
  bound->events = program.events;
  for (const ProgramBlock &block : program.blocks)
    PEFT_TRY(bound->addBlock(places, entry, block, tables));
  bound->ends.resize(plan.arenas.size());
  std::vector<ByteAccess> accesses;
  for (const Item &item : plan.entries[entry].items) {
    collectAccesses(plan, item, accesses);
    for (const ByteAccess &access : accesses)
      bound->ends[access.arena] =
          std::max(bound->ends[access.arena], access.end);
  }
  return bound;
}

} // namespace peft::cuda
