//===- Extra.cpp - device memory beside the plan's arenas -----------------===//
#include "Extra.h"

#include "AttentionChoices.h"

#include "peft/ItemAccess.h"
#include "peft/KernelSpec.h"
#include "peft/MemoryReport.h"

#include <algorithm>
#include <cstdio>
#include <numeric>

namespace peft::cuda {

constexpr uint64_t alignment = 256;

static uint64_t aligned(uint64_t bytes) {
  return (bytes + alignment - 1) / alignment * alignment;
}

WeightLayout layOutWeights(const Plan &plan) {
  WeightLayout layout;
  layout.offsets.resize(plan.buffers.size());
  for (size_t i = 0; i < plan.buffers.size(); ++i)
    if (plan.buffers[i].arena == none) {
      layout.offsets[i] = layout.bytes;
      layout.bytes += aligned(plan.buffers[i].size);
    }
  return layout;
}

Expected<uint64_t> workspaceBytes(const Plan &plan, const Launch &launch) {
  const KernelSpec &spec = *findKernel(launch.kernel);
  if (!spec.cudaWorkspace)
    return uint64_t(0);
  PEFT_ASSIGN(std::vector<AttributeValue> attributes,
              bindAttributes(spec, launch));
  std::vector<OperandShape> operands;
  for (uint32_t index : launch.operands)
    if (index == none)
      operands.emplace_back();
    else
      operands.push_back(
          {true, plan.buffers[index].dtype, plan.buffers[index].shape});
  std::vector<DType> types;
  PEFT_ASSIGN(LaunchShape shape, bindShapes(spec, operands, attributes, types));
  return spec.cudaWorkspace(shape).value;
}

uint32_t ownWorkspace(const Plan &plan, const Launch &launch, uint64_t need) {
  const uint32_t own = launch.sharedWorkspace;
  const bool serves = own != none && plan.buffers[own].size >= need &&
                      plan.buffers[own].offset % alignment == 0;
  return serves ? own : none;
}

Expected<std::vector<uint64_t>>
scratchBytes(const Plan &plan, const AttentionChoices *attention) {
  std::vector<uint64_t> scratch(plan.streams.size());
  for (uint32_t e = 0; e < plan.entries.size(); ++e)
    for (uint32_t i = 0; i < plan.entries[e].items.size(); ++i) {
      const Entry &entry = plan.entries[e];
      const auto *launch = std::get_if<Launch>(&entry.items[i].action);
      if (!launch)
        continue;
      auto need = workspaceBytes(plan, *launch);
      if (!need.ok())
        return need.status().in("entry '" + entry.name +
                                "': " + describeItem(entry, i));
      if (const AttentionChoice *choice =
              attention ? attention->find(e, i) : nullptr)
        *need = std::max(*need, choice->needBytes());
      if (ownWorkspace(plan, *launch, *need) != none)
        continue;
      uint64_t &most = scratch[entry.items[i].stream];
      most = std::max(most, aligned(*need));
    }
  return scratch;
}

bool hasFaultSlot(const Launch &launch) {
  for (const OperandSpec &operand : findKernel(launch.kernel)->operands)
    if (operand.types == "i32" && operand.access == Access::in)
      return true;
  return false;
}

std::vector<FaultOwner> faultOwners(const Plan &plan) {
  std::vector<FaultOwner> owners(1);
  for (uint32_t entry = 0; entry < plan.entries.size(); ++entry) {
    const std::vector<Item> &items = plan.entries[entry].items;
    for (uint32_t item = 0; item < items.size(); ++item)
      if (const auto *launch = std::get_if<Launch>(&items[item].action);
          launch && hasFaultSlot(*launch))
        owners.push_back({entry, item});
  }
  return owners;
}

//===----------------------------------------------------------------------===//
// Whether it fits
//===----------------------------------------------------------------------===//

static std::string mebibytes(uint64_t bytes) {
  char text[32];
  std::snprintf(text, sizeof text, "%.1f MiB",
                static_cast<double>(bytes) / (1 << 20));
  return text;
}

static std::string largestClasses(const Plan &plan) {
  MemoryTotals totals = memoryTotals(plan);
  ClassBytes bytes = totals.persistent;
  bytes[static_cast<size_t>(BufferClass::base)] += totals.mappedBytes;
  const EntryMemory *largest = nullptr;
  for (const EntryMemory &entry : totals.entries)
    if (!largest || entry.localBytes > largest->localBytes)
      largest = &entry;
  for (size_t i = 0; largest && i < bufferClassCount; ++i)
    bytes[i] += largest->atPeak[i];
  std::vector<size_t> order(bufferClassCount);
  std::iota(order.begin(), order.end(), 0);
  std::sort(order.begin(), order.end(), [&](size_t a, size_t b) {
    return bytes[a] != bytes[b] ? bytes[a] > bytes[b] : a < b;
  });
  std::string text;
  for (size_t i = 0; i < 4 && bytes[order[i]] > 0; ++i)
    text += (i ? ", " : "") +
            std::string(name(static_cast<BufferClass>(order[i]))) + " " +
            mebibytes(bytes[order[i]]);
  return text;
}

std::string largestConsumers(const Plan &plan) {
  std::vector<const Buffer *> buffers;
  for (const Buffer &buffer : plan.buffers)
    if (buffer.arena == none || plan.arenas[buffer.arena].space == Space::device)
      buffers.push_back(&buffer);
  size_t shown = std::min<size_t>(3, buffers.size());
  std::sort(buffers.begin(), buffers.end(), [](const Buffer *a, const Buffer *b) {
    return a->size != b->size ? a->size > b->size : a < b;
  });
  std::string text = "the most is for " + largestClasses(plan);
  if (shown)
    text += "; the largest buffers are ";
  for (size_t i = 0; i < shown; ++i)
    text += (i ? ", " : "") + buffers[i]->name + " " +
            mebibytes(buffers[i]->size);
  return text;
}

Expected<DeviceTotals> deviceTotals(const Plan &plan,
                                    const AttentionChoices *attention) {
  DeviceTotals totals;
  for (const Arena &arena : plan.arenas)
    if (arena.space == Space::device)
      totals.arenas += arena.size;
  totals.weights = layOutWeights(plan).bytes;
  PEFT_ASSIGN(std::vector<uint64_t> scratch, scratchBytes(plan, attention));
  totals.scratch = std::reduce(scratch.begin(), scratch.end());
  return totals;
}

Status checkFits(const Plan &plan, const DeviceTotals &totals, uint64_t free) {
  if (totals.all() <= free)
    return {};
  return Status::error(
      Code::doesNotFit,
      "the plan needs " + mebibytes(totals.all()) + " of the card (arenas " +
          mebibytes(totals.arenas) + ", mapped weights " +
          mebibytes(totals.weights) + ", scratch " + mebibytes(totals.scratch) +
          "), free are " + mebibytes(free) + "; " + largestConsumers(plan) +
          "; compile it with a smaller --memory, --batch or --seq");
}

} // namespace peft::cuda
