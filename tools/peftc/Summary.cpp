//===- Summary.cpp - what a compile reports -------------------------------===//
#include "Summary.h"

#include "TargetFit.h"
#include "Units.h"

#include "peftc/Analysis/StepCost.h"

#include "peft/MemoryReport.h"
#include "peft/ModelConfig.h"

#include "llvm/ADT/STLExtras.h"
#include "llvm/Support/FormatVariadic.h"
#include "llvm/Support/JSON.h"
#include "llvm/Support/raw_ostream.h"

#include <unistd.h>

using namespace peft;

/// Bytes of the device's arena divided by the least that any placement could
/// need.
static double ratioToBound(const MemoryTotals &totals) {
  uint64_t most = 0;
  for (const EntryMemory &entry : totals.entries)
    most = std::max(most, entry.lowerBound);
  uint64_t bound = totals.persistentBytes + most;
  return bound ? double(totals.deviceBytes()) / double(bound) : 1;
}

std::vector<std::string> CompileSummary::notes() const {
  std::vector<std::string> reported = adapters.lines(), result;
  for (const Remark &remark : remarks)
    if (!llvm::is_contained(reported, remark.text))
      result.push_back((remark.where.empty() ? "" : remark.where + ": ") +
                       remark.text);
  return result;
}

std::string CompileSummary::memory(const Plan &plan) const {
  std::string result;
  llvm::raw_string_ostream out(result);
  MemoryTotals totals = memoryTotals(plan);
  out << "memory (batch " << plan.batch << ", seq " << plan.seq << ", "
      << name(plan.compute) << "):\n";
  ClassBytes bytes = bytesByClass(totals);
  constexpr auto adapter = static_cast<size_t>(BufferClass::adapter);
  for (size_t kind = 0; kind < bytes.size(); ++kind)
    if (bytes[kind])
      out << "  " << column(name(BufferClass(kind)), 12)
          << rightColumn(formatBytes(bytes[kind]), 12)
          << (kind == adapter && plan.adapterConfig.empty()
                  ? "  (the model's own weights, f32 masters)"
                  : "")
          << "\n";
  out << "  " << column("arena", 12)
      << rightColumn(formatBytes(totals.deviceBytes()), 12) << "  ("
      << formatRatio(ratioToBound(totals)) << " x the lower bound)\n";
  if (totals.hostBytes)
    out << "  " << column("scratch", 12)
        << rightColumn(formatBytes(totals.hostBytes), 12)
        << "  (host memory; only if the plan runs on the CPU device)\n";
  if (plan.deviceKind != DeviceKind::cpu)
    return result;
  out << "  " << column("mapped", 12)
      << rightColumn(formatBytes(totals.mappedBytes), 12)
      << "  (weights, read in place)\n";
  size_t base = static_cast<size_t>(BufferClass::base);
  if (uint64_t copied = totals.persistent[base])
    out << "note: --base keeps " << formatBytes(copied)
        << " of converted weights in the arena; they are not read in place\n";
  uint64_t machine = static_cast<uint64_t>(sysconf(_SC_PHYS_PAGES)) *
                     static_cast<uint64_t>(sysconf(_SC_PAGESIZE));
  if (totals.arenaBytes > machine)
    out << "note: this machine has " << formatBytes(machine)
        << ": the arena does not fit here; lower --batch or --seq\n";
  return result;
}

std::string CompileSummary::text(const Plan &plan) const {
  std::string result;
  llvm::raw_string_ostream out(result);
  for (const std::string &note : notes())
    out << "note: " << note << "\n";
  for (const std::string &line : adapters.lines())
    out << line << "\n";
  if (auto config = parseModelConfig(plan.modelConfig, plan.modelName);
      config.ok() && config->maxPositions > 0 &&
      plan.seq > static_cast<uint64_t>(config->maxPositions))
    out << "note: --seq " << plan.seq << " is more than the "
        << config->maxPositions
        << " positions that the model was made for (max_position_embeddings)\n";
  out << memory(plan);
  peftc::StepCost cost = peftc::stepCost(plan);
  out << "work: " << formatCount(cost.flops("micro_step"))
      << "FLOP per micro-step, ";
  if (double again = cost.recomputedFlops("micro_step"))
    out << formatCount(again) << "FLOP of it recomputed, ";
  out << "if every token is trained\n";
  if (target)
    out << describeFit(plan, *target);
  if (!output.empty())
    out << "wrote " << output << "\n";
  return result;
}

std::string CompileSummary::json(const Plan &plan) const {
  MemoryTotals totals = memoryTotals(plan);
  llvm::json::Object classes;
  ClassBytes bytes = bytesByClass(totals);
  for (size_t kind = 0; kind < bytes.size(); ++kind)
    classes[llvm::StringRef(name(BufferClass(kind)))] = bytes[kind];
  llvm::json::Array reported;
  for (const std::string &line : adapters.lines())
    reported.push_back(line);
  llvm::json::Array noted;
  for (const std::string &note : notes())
    noted.push_back(note);
  peftc::StepCost cost = peftc::stepCost(plan);
  llvm::json::Object object{{"adapters", std::move(reported)},
                            {"adapted_modules", adapters.adaptedModules},
                            {"trainable_parameters", adapters.trainable},
                            {"total_parameters", adapters.total},
                            {"batch", plan.batch},
                            {"seq", plan.seq},
                            {"compute", llvm::StringRef(name(plan.compute))},
                            {"bytes", std::move(classes)},
                            {"arena_bytes", totals.deviceBytes()},
                            {"host_scratch_bytes", totals.hostBytes},
                            {"persistent_bytes", totals.persistentBytes},
                            {"mapped_bytes", totals.mappedBytes},
                            {"ratio_to_lower_bound", ratioToBound(totals)},
                            {"micro_step_flops", cost.flops("micro_step")},
                            {"recomputed_flops",
                             cost.recomputedFlops("micro_step")},
                            {"target", plan.target},
                            {"notes", std::move(noted)}};
  if (target) {
    TargetFit fit = fitOf(plan, *target);
    object["target_needed_bytes"] = fit.needed;
    object["target_allowance_bytes"] = target->allowanceBytes;
    if (fit.memory)
      object["target_memory_bytes"] = fit.memory;
    object["fits"] = fit.fits();
    object["predicted_micro_step_seconds"] =
        peftc::stepCost(plan, &*target).seconds("micro_step");
  }
  if (!output.empty())
    object["plan"] = output;
  std::string result;
  llvm::raw_string_ostream(result)
      << llvm::formatv("{0:2}", llvm::json::Value(std::move(object))) << "\n";
  return result;
}
