//===- TargetFit.cpp - a plan against the memory of its target ------------===//
#include "TargetFit.h"

#include "Units.h"

#include "peftc/Analysis/StepCost.h"

#include <algorithm>

using namespace peft;
using peftc::TargetDescription;

ClassBytes bytesByClass(const MemoryTotals &totals) {
  ClassBytes bytes = totals.persistent;
  const EntryMemory *largest = nullptr;
  for (const EntryMemory &entry : totals.entries)
    if (!largest || entry.lowerBound > largest->lowerBound)
      largest = &entry;
  if (largest)
    for (size_t kind = 0; kind < bytes.size(); ++kind)
      bytes[kind] += largest->atPeak[kind];
  return bytes;
}

TargetFit fitOf(const Plan &plan, const TargetDescription &target) {
  return {memoryTotals(plan).deviceBytes() + target.allowanceBytes,
          target.memoryBytes};
}

/// "base 15.0 GiB, activation 8.2 GiB": what there is most of.
static std::string largestClasses(const MemoryTotals &totals) {
  constexpr size_t shown = 4;
  ClassBytes bytes = bytesByClass(totals);
  std::vector<size_t> order;
  for (size_t kind = 0; kind < bytes.size(); ++kind)
    if (bytes[kind])
      order.push_back(kind);
  std::stable_sort(order.begin(), order.end(),
                   [&](size_t a, size_t b) { return bytes[a] > bytes[b]; });
  order.resize(std::min(order.size(), shown));
  std::string text;
  for (size_t kind : order)
    text += (text.empty() ? "" : ", ") +
            std::string(name(static_cast<BufferClass>(kind))) + " " +
            formatBytes(bytes[kind]);
  return text;
}

/// "model.embed_tokens.weight 1.2 GiB, ...": the largest single buffers.
static std::string largestBuffers(const Plan &plan) {
  constexpr size_t shown = 3;
  std::vector<const Buffer *> order;
  for (const Buffer &buffer : plan.buffers)
    if (buffer.arena != none &&
        plan.arenas[buffer.arena].space == Space::device)
      order.push_back(&buffer);
  size_t count = std::min(order.size(), shown);
  std::stable_sort(
      order.begin(), order.end(),
      [](const Buffer *a, const Buffer *b) { return a->size > b->size; });
  std::string text;
  for (size_t i = 0; i < count; ++i)
    text +=
        (i ? ", " : "") + order[i]->name + " " + formatBytes(order[i]->size);
  return text;
}

/// What a plan does not do yet that would take less memory.
static std::string adviceFor(const Plan &plan) {
  bool recomputes = false;
  for (const Entry &entry : plan.entries)
    for (const Item &item : entry.items)
      if (const auto *launch = std::get_if<Launch>(&item.action))
        recomputes |= launch->recomputed;
  const bool quantized =
      std::ranges::any_of(plan.weights, [](const Weight &weight) {
        return weight.part != WeightPart::whole;
      });
  const bool frozen = std::ranges::any_of(plan.buffers, [](const Buffer &buffer) {
    return buffer.kind == BufferClass::base;
  });
  std::string advice;
  if (!recomputes)
    advice += "--recompute layers keeps fewer activations; ";
  if (frozen && !quantized)
    advice += "--base nf4 --double-quant makes the base smaller; ";
  return advice + "a smaller --batch or --seq needs less of all, and another "
                  "--target may have more";
}

Status checkFit(const Plan &plan, const TargetDescription &target) {
  TargetFit fit = fitOf(plan, target);
  if (fit.fits())
    return {};
  MemoryTotals totals = memoryTotals(plan);
  return Status::error(
      Code::doesNotFit,
      "the plan needs " + formatBytes(fit.needed) + " (arena " +
          formatBytes(totals.deviceBytes()) + " + " +
          formatBytes(target.allowanceBytes) +
          " for context and libraries), target " + target.name + " has " +
          formatBytes(fit.memory) + "; most of it is " +
          largestClasses(totals) + "; the largest buffers are " +
          largestBuffers(plan) + "; " + adviceFor(plan));
}

std::string describeFit(const Plan &plan, const TargetDescription &target) {
  TargetFit fit = fitOf(plan, target);
  std::string text = "target " + target.name + " (" + target.description +
                     "): " + formatBytes(fit.needed);
  if (fit.memory)
    text += " of " + formatBytes(fit.memory);
  text += ", " + formatBytes(target.allowanceBytes) +
          " of it for context and libraries";
  if (fit.memory)
    text += fit.fits() ? ": fits" : ": does not fit";
  peftc::StepCost cost = peftc::stepCost(plan, &target);
  return text + "\nprediction: " + formatSeconds(cost.seconds("micro_step")) +
         " per micro-step at the target's full rates (" +
         formatCount(cost.bytes("micro_step")) + "B moved, " +
         std::to_string(cost.launches("micro_step")) +
         " launches); a real step takes longer\n";
}

Expected<std::string> chooseCompute(const std::string &asked,
                                    const TargetDescription &target) {
  std::string compute(asked.empty() ? target.defaultCompute() : asked);
  std::optional<DType> type = parseDType(compute);
  if (!type || !target.supports(*type))
    return usageError("--compute " + compute + ": target " + target.name +
                      " does not compute in " + compute + "; take --compute " +
                      std::string(target.defaultCompute()));
  return compute;
}
