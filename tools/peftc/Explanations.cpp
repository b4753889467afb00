//===- Explanations.cpp - where the bytes of a plan go --------------------===//
#include "Explanations.h"

#include "Units.h"

#include "peft/MemoryReport.h"

#include "llvm/ADT/STLExtras.h"
#include "llvm/ADT/StringExtras.h"
#include "llvm/Support/raw_ostream.h"

#include <map>
#include <tuple>

using namespace peft;

static llvm::StringRef ref(std::string_view text) {
  return {text.data(), text.size()};
}

static llvm::json::Object classObject(const ClassBytes &bytes) {
  llvm::json::Object object;
  for (size_t kind = 0; kind < bytes.size(); ++kind)
    object[ref(name(BufferClass(kind)))] = bytes[kind];
  return object;
}

//===----------------------------------------------------------------------===//
// Totals
//===----------------------------------------------------------------------===//

Explanation explainTotals(const Plan &plan) {
  MemoryTotals totals = memoryTotals(plan);
  Explanation result{"memory", "", nullptr};
  llvm::raw_string_ostream out(result.text);
  out << plan.modelName << ": batch " << plan.batch << ", seq " << plan.seq
      << ", " << name(plan.compute) << ", up to " << plan.maxThreads
      << " threads, for target " << plan.target
      << (plan.deviceKind == DeviceKind::cuda ? " (cuda)" : "") << "\n";
  out << column("class", 12) << rightColumn("persistent", 13);
  for (const EntryMemory &entry : totals.entries)
    out << rightColumn(entry.entry, 13);
  out << "\n";
  for (size_t kind = 0; kind < bufferClassCount; ++kind) {
    uint64_t sum = totals.persistent[kind];
    for (const EntryMemory &entry : totals.entries)
      sum += entry.atPeak[kind];
    bool base = BufferClass(kind) == BufferClass::base;
    if (!sum && !(base && totals.mappedBytes))
      continue;
    out << column(name(BufferClass(kind)), 12)
        << rightColumn(formatBytes(totals.persistent[kind]), 13);
    for (const EntryMemory &entry : totals.entries)
      out << rightColumn(formatBytes(entry.atPeak[kind]), 13);
    if (base && totals.mappedBytes)
      out << "  + " << formatBytes(totals.mappedBytes)
          << " mapped from the model's files";
    out << "\n";
  }
  out << column("in the arena", 12)
      << rightColumn(formatBytes(totals.persistentBytes), 13);
  for (const EntryMemory &entry : totals.entries)
    out << rightColumn(formatBytes(entry.localBytes), 13);
  out << "\narena: " << formatBytes(totals.deviceBytes())
      << " = persistent + the largest entry\n";
  if (totals.hostBytes)
    out << "host scratch: " << formatBytes(totals.hostBytes)
        << ", used only when the plan runs on the CPU device\n";
  for (const Remark &remark : plan.remarks)
    out << remark.module << ": " << remark.message << "\n";

  llvm::json::Array entries;
  for (const EntryMemory &entry : totals.entries)
    entries.push_back(
        llvm::json::Object{{"entry", ref(entry.entry)},
                           {"local_bytes", entry.localBytes},
                           {"lower_bound", entry.lowerBound},
                           {"at_peak", classObject(entry.atPeak)}});
  result.json =
      llvm::json::Object{{"target", plan.target},
                         {"arena_bytes", totals.deviceBytes()},
                         {"host_scratch_bytes", totals.hostBytes},
                         {"persistent_bytes", totals.persistentBytes},
                         {"mapped_bytes", totals.mappedBytes},
                         {"persistent", classObject(totals.persistent)},
                         {"entries", std::move(entries)}};
  return result;
}

//===----------------------------------------------------------------------===//
// The peak
//===----------------------------------------------------------------------===//

/// `model.layers.7.mlp` as `model.layers.*.mlp`: the same place of every layer.
static std::string withoutLayer(llvm::StringRef module) {
  llvm::SmallVector<llvm::StringRef> parts;
  module.split(parts, '.');
  for (llvm::StringRef &part : parts)
    if (!part.empty() && llvm::all_of(part, llvm::isDigit))
      part = "*";
  return llvm::join(parts, ".");
}

/// The live buffers, those of equal layers in one line, the most bytes first.
static void printLayerGroups(llvm::raw_ostream &out, const Plan &plan,
                             const MemoryPeak &peak) {
  struct Group {
    std::string kernel, module;
    bool recomputed = false;
    uint64_t buffers = 0, bytes = 0;
  };
  std::map<std::tuple<std::string, std::string, bool>, Group> groups;
  for (const auto &each : peak.live) {
    std::string module = withoutLayer(ref(each.module));
    Group &group =
        groups[{std::string(each.kernel), module, each.recomputed}];
    group.recomputed = each.recomputed;
    group.kernel = each.kernel;
    group.module = module;
    ++group.buffers;
    group.bytes += plan.buffers[each.buffer].size;
  }
  std::vector<Group> ordered;
  for (auto &entry : groups)
    ordered.push_back(std::move(entry.second));
  llvm::stable_sort(ordered, [](const Group &a, const Group &b) {
    return a.bytes > b.bytes;
  });
  constexpr size_t shown = 24;
  uint64_t rest = 0;
  for (auto [index, group] : llvm::enumerate(ordered)) {
    if (index >= shown) {
      rest += group.bytes;
      continue;
    }
    out << rightColumn(formatBytes(group.bytes), 12) << "  "
        << rightColumn(std::to_string(group.buffers) + " x", 7) << " "
        << column(group.kernel, 24) << group.module
        << (group.recomputed ? " (recomputed)" : "") << "\n";
  }
  if (rest)
    out << rightColumn(formatBytes(rest), 12) << "  in "
        << ordered.size() - shown << " smaller groups\n";
}

Explanation explainPeak(const Plan &plan) {
  Explanation result{"peak", "", nullptr};
  llvm::raw_string_ostream out(result.text);
  uint32_t worst = 0;
  for (uint32_t entry = 1; entry < plan.entries.size(); ++entry)
    if (plan.entries[entry].lowerBound > plan.entries[worst].lowerBound)
      worst = entry;
  if (plan.entries.empty()) {
    out << "the plan has no entries\n";
    return result;
  }
  MemoryPeak peak = memoryPeak(plan, worst);
  const Entry &entry = plan.entries[worst];
  if (peak.item == none) {
    out << entry.name << " has no local buffers\n";
    return result;
  }
  out << "most local bytes are live in " << entry.name << " at item "
      << peak.item;
  llvm::StringRef at;
  if (auto *launch = std::get_if<Launch>(&entry.items[peak.item].action)) {
    out << " (" << launch->kernel << ", " << launch->module << ")";
    at = launch->module;
  }
  out << ": " << formatBytes(peak.bytes) << " in " << peak.live.size()
      << " buffers\n";
  printLayerGroups(out, plan, peak);
  constexpr size_t shown = 12;
  out << "the largest:\n";
  uint64_t rest = 0;
  llvm::json::Array live;
  for (auto [index, each] : llvm::enumerate(peak.live)) {
    const Buffer &buffer = plan.buffers[each.buffer];
    live.push_back(llvm::json::Object{{"buffer", buffer.name},
                                      {"bytes", buffer.size},
                                      {"class", ref(name(buffer.kind))},
                                      {"kernel", ref(each.kernel)},
                                      {"module", ref(each.module)},
                                      {"recomputed", each.recomputed}});
    if (index >= shown) {
      rest += buffer.size;
      continue;
    }
    out << rightColumn(formatBytes(buffer.size), 12) << "  "
        << column(name(buffer.kind), 12) << column(each.kernel, 24)
        << each.module << (each.recomputed ? " (recomputed)" : "") << "\n";
  }
  if (rest)
    out << rightColumn(formatBytes(rest), 12) << "  in "
        << peak.live.size() - shown
        << " smaller buffers (--json lists every one)\n";
  result.json = llvm::json::Object{{"entry", entry.name},
                                   {"item", peak.item},
                                   {"module", at},
                                   {"bytes", peak.bytes},
                                   {"live", std::move(live)}};
  return result;
}

//===----------------------------------------------------------------------===//
// Types
//===----------------------------------------------------------------------===//

/// "bf16", or "bf16+f32" for a tensor that kernels read in both.
static std::string computedIn(const TensorTypes &tensor) {
  std::string text;
  for (DType type : tensor.computed)
    text += (text.empty() ? "" : "+") + std::string(name(type));
  return text.empty() ? "-" : text;
}

/// Every tensor, those of the same place of every layer in one line, the most
/// bytes first.
static void printTensors(llvm::raw_ostream &out, const Plan &plan,
                         const TypeLedger &ledger) {
  struct Group {
    uint64_t tensors = 0, bytes = 0;
    const Buffer *first = nullptr;
    std::string name, computed;
  };
  std::map<std::tuple<BufferClass, DType, std::string, std::string>, Group>
      groups;
  for (const TensorTypes &tensor : ledger.tensors) {
    const Buffer &buffer = plan.buffers[tensor.buffer];
    std::string place = withoutLayer(buffer.name), computed = computedIn(tensor);
    Group &group = groups[{buffer.kind, buffer.dtype, computed, place}];
    if (!group.first)
      group = {0, 0, &buffer, place, computed};
    ++group.tensors;
    group.bytes += buffer.size;
  }
  std::vector<Group> ordered;
  for (auto &entry : groups)
    ordered.push_back(std::move(entry.second));
  llvm::stable_sort(ordered, [](const Group &a, const Group &b) {
    return a.bytes > b.bytes;
  });
  out << "tensors (stored in, computed in)\n";
  for (const Group &group : ordered)
    out << rightColumn(formatBytes(group.bytes), 12)
        << rightColumn(std::to_string(group.tensors) + " x", 7) << " "
        << column(name(group.first->kind), 12)
        << column(name(group.first->dtype), 6) << column(group.computed, 11)
        << group.name << "\n";
}

Explanation explainTypes(const Plan &plan) {
  Explanation result{"dtypes", "", nullptr};
  llvm::raw_string_ostream out(result.text);
  TypeLedger ledger = typeLedger(plan);
  llvm::json::Array storage, tensors, compute, conversions;
  for (const TensorTypes &tensor : ledger.tensors) {
    const Buffer &buffer = plan.buffers[tensor.buffer];
    llvm::json::Array computed;
    for (DType type : tensor.computed)
      computed.push_back(ref(name(type)));
    tensors.push_back(llvm::json::Object{{"tensor", buffer.name},
                                         {"class", ref(name(buffer.kind))},
                                         {"dtype", ref(name(buffer.dtype))},
                                         {"computed", std::move(computed)},
                                         {"bytes", buffer.size},
                                         {"mapped", buffer.arena == none}});
  }
  out << "stored\n";
  for (const StorageTypes &each : ledger.storage) {
    out << "  " << column(name(each.kind), 12) << column(name(each.dtype), 6)
        << rightColumn(formatBytes(each.bytes), 12)
        << rightColumn(std::to_string(each.tensors), 8) << " tensors"
        << (each.mapped ? ", mapped" : "") << "\n";
    storage.push_back(llvm::json::Object{{"class", ref(name(each.kind))},
                                         {"dtype", ref(name(each.dtype))},
                                         {"mapped", each.mapped},
                                         {"tensors", each.tensors},
                                         {"bytes", each.bytes}});
  }
  printTensors(out, plan, ledger);
  out << "computed in (products: their sums are f32)\n";
  for (const ComputeTypes &each : ledger.compute) {
    out << "  " << column(each.kernel, 24) << column(name(each.compute), 6)
        << rightColumn(std::to_string(each.launches), 8) << " launches\n";
    compute.push_back(llvm::json::Object{{"kernel", ref(each.kernel)},
                                         {"dtype", ref(name(each.compute))},
                                         {"launches", each.launches}});
  }
  out << "converted" << (ledger.conversions.empty() ? ": nothing\n" : "\n");
  for (const Conversion &each : ledger.conversions) {
    std::string place(each.where);
    if (!each.operand.empty())
      place += "." + std::string(each.operand);
    std::string types =
        std::string(name(each.from)) + " -> " + std::string(name(each.to));
    out << "  " << column(place, 28) << column(types, 14)
        << column(each.rounds() ? "rounded" : "exact", 8)
        << rightColumn(std::to_string(each.times), 8) << " times, first "
        << each.example << "\n";
    conversions.push_back(llvm::json::Object{{"where", place},
                                             {"from", ref(name(each.from))},
                                             {"to", ref(name(each.to))},
                                             {"rounds", each.rounds()},
                                             {"times", each.times},
                                             {"first", ref(each.example)}});
  }
  result.json = llvm::json::Object{{"stored", std::move(storage)},
                                   {"tensors", std::move(tensors)},
                                   {"computed", std::move(compute)},
                                   {"converted", std::move(conversions)}};
  return result;
}

//===----------------------------------------------------------------------===//
// One name
//===----------------------------------------------------------------------===//

/// "bf16 [512, 576], activation of micro_step at 1048576 in arena 0"
static std::string describeBuffer(const Plan &plan, const Buffer &buffer) {
  std::string text(name(buffer.dtype));
  text += " [";
  for (size_t i = 0; i < buffer.shape.size(); ++i)
    text += (i ? ", " : "") + std::to_string(buffer.shape[i]);
  text +=
      "], " + formatBytes(buffer.size) + ", " + std::string(name(buffer.kind));
  text += buffer.entry == none ? ", persistent"
                               : " of " + plan.entries[buffer.entry].name;
  if (buffer.arena == none)
    return text + ", mapped from the model's files";
  return text + ", at " + std::to_string(buffer.offset) + " of arena " +
         std::to_string(buffer.arena);
}

Expected<Explanation> explainName(const Plan &plan, const std::string &wanted) {
  std::vector<BufferUse> uses = usesOf(plan, wanted);
  if (uses.empty())
    return badInput("no buffer of the plan is called '" + wanted +
                    "' or has that in its name; peftc explain --peak shows "
                    "names");
  Explanation result{"why", "", nullptr};
  llvm::raw_string_ostream out(result.text);
  llvm::json::Array buffers;
  std::vector<uint32_t> order;
  std::vector<std::vector<const BufferUse *>> byBuffer(plan.buffers.size());
  for (const BufferUse &use : uses) {
    if (byBuffer[use.buffer].empty())
      order.push_back(use.buffer);
    byBuffer[use.buffer].push_back(&use);
  }
  for (uint32_t index : order) {
    const Buffer &buffer = plan.buffers[index];
    std::string description = describeBuffer(plan, buffer);
    out << buffer.name << ": " << description << "\n";
    llvm::json::Array users;
    for (const BufferUse *use : byBuffer[index]) {
      llvm::StringRef access = use->reads && use->writes ? "updates"
                               : use->writes             ? "writes"
                                                         : "reads";
      llvm::StringRef entry = plan.entries[use->entry].name;
      out << "  " << column(entry.str(), 11)
          << rightColumn(std::to_string(use->item), 6) << "  "
          << column(access.str(), 8) << use->kernel << "." << use->operand
          << "  " << use->module << (use->recomputed ? " (recomputed)" : "")
          << "\n";
      users.push_back(llvm::json::Object{{"entry", entry},
                                         {"item", use->item},
                                         {"access", access},
                                         {"kernel", ref(use->kernel)},
                                         {"operand", ref(use->operand)},
                                         {"module", ref(use->module)},
                                         {"recomputed", use->recomputed}});
    }
    buffers.push_back(llvm::json::Object{{"buffer", buffer.name},
                                         {"bytes", buffer.size},
                                         {"description", description},
                                         {"uses", std::move(users)}});
  }
  result.json = std::move(buffers);
  return result;
}
