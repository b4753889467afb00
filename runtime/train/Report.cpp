//===- Report.cpp - what is printed before a run starts -------------------===//
#include "Report.h"

#include "PeftData.h"
#include "peft/MemoryReport.h"

#include <algorithm>

using namespace peft;

namespace {
std::string grouped(uint64_t value) {
  std::string digits = std::to_string(value);
  for (size_t i = digits.size(); i > 3; i -= 3)
    digits.insert(i - 3, ",");
  return digits;
}

uint64_t elements(const std::vector<uint64_t> &shape) {
  uint64_t product = 1;
  for (uint64_t extent : shape)
    product *= extent;
  return product;
}
} // namespace

ParameterCount peft::countParameters(const Plan &plan) {
  ParameterCount count;
  uint64_t own = 0;
  for (const Parameter &parameter : plan.parameters) {
    uint64_t size = elements(plan.buffers[parameter.buffer].shape);
    own += size;
    if (parameter.trains()) {
      count.trainable += size;
      ++count.tensors;
    }
  }
  for (const Weight &weight : plan.weights)
    if (weight.of == none) // what belongs to codes is no parameter
      count.all += elements(weight.shape);
  // A full fine-tune's parameters are the weights themselves; so are trained
  // biases and modules_to_save, which start from one.
  for (const Initializer &initial : plan.initializers)
    if (initial.kind == Initializer::Kind::weight)
      for (const Parameter &parameter : plan.parameters)
        if (parameter.buffer == initial.buffer)
          own -= elements(plan.buffers[parameter.buffer].shape);
  count.all += own;
  return count;
}

/// By class: what stays, and what the entry that needs most adds at its worst
/// moment.
static void printMemory(Console &console, const Plan &plan) {
  MemoryTotals totals = memoryTotals(plan);
  EntryMemory largest;
  for (const EntryMemory &entry : totals.entries)
    if (entry.localBytes >= largest.localBytes)
      largest = entry;
  std::string scratch;
  if (totals.hostBytes)
    scratch = formatBytes(totals.hostBytes) + " scratch of the CPU device, ";
  console.print("memory", formatBytes(totals.deviceBytes()) + " arena, " +
                              scratch + formatBytes(totals.mappedBytes) +
                              " weights mapped from their files");
  for (size_t i = 0; i < bufferClassCount; ++i) {
    uint64_t bytes = totals.persistent[i] + largest.atPeak[i];
    if (bytes)
      console.print("", "  " + std::string(name(static_cast<BufferClass>(i))) +
                            " " + formatBytes(bytes));
  }
  if (largest.localBytes > largest.lowerBound)
    console.print("", "  between buffers " +
                          formatBytes(largest.localBytes - largest.lowerBound));
}

/// Memory outside the plan's arenas and what the card holds in all.
static void printLedger(Console &console, const Device &device) {
  for (const LedgerRow &row : device.ledger()) {
    std::string text = "  " + row.name + " " + formatBytes(row.measuredBytes);
    if (row.plannedBytes && row.plannedBytes != row.measuredBytes)
      text += " (planned " + formatBytes(row.plannedBytes) + ")";
    console.print("", text + (row.onDevice ? "" : " of the host"));
  }
}

void peft::printPlan(Console &console, const Executor &executor,
                     const std::string &deviceNote) {
  const Plan &plan = executor.plan();
  console.print(
      "plan", plan.modelName + ", compute " + std::string(name(plan.compute)) +
                  ", " + std::to_string(plan.batch) + " x " +
                  std::to_string(plan.seq) + " tokens, by " + plan.producer);
  console.print("device", executor.device().description() +
                              (deviceNote.empty() ? "" : "; " + deviceNote));
  for (const std::string &note : executor.device().notes())
    console.print("", "  " + note);
  printLedger(console, executor.device());
  printMemory(console, plan);
  ParameterCount count = countParameters(plan);
  Line share;
  share.fixed(count.all ? 100.0 * static_cast<double>(count.trainable) /
                              static_cast<double>(count.all)
                        : 0,
              4);
  console.print("trainable",
                grouped(count.trainable) + " of " + grouped(count.all) +
                    " parameters (" + std::string(share.view()) + " %) in " +
                    std::to_string(count.tensors) + " tensors");
}

std::string peft::describeRow(const TokenFile &file, uint64_t row,
                              uint64_t most) {
  auto index = static_cast<int64_t>(row);
  std::span<const int32_t> ids = file.inputIds(index);
  std::span<const int32_t> labels = file.labels(index);
  std::string text;
  bool marked = false;
  uint64_t count = std::min<uint64_t>(ids.size(), most);
  for (uint64_t i = 0; i < count; ++i) {
    bool trained = i > 0 && labels[i] != ignoredLabel;
    if (trained && file.hasSegmentIds())
      trained = file.segmentIds(index)[i] == file.segmentIds(index)[i - 1];
    if (marked && !trained)
      text += "」";
    text += i ? " " : "";
    if (trained && !marked)
      text += "「";
    marked = trained;
    text += std::to_string(ids[i]);
  }
  if (marked)
    text += "」";
  if (count < ids.size())
    text += " ... (" + std::to_string(ids.size()) + " tokens)";
  return text;
}

void peft::printRow(Console &console, const TokenFile &file, uint64_t row,
                    const ModelDirectory &model) {
  if (console.quiet())
    return;
  std::string label = "row " + std::to_string(row);
  if (hasTokenizer(model)) {
    // Only for people to look at: without the program the ids are shown.
    auto shown = runPeftData({"show", "--model", model.directory, "--data",
                              file.path(), "--row", std::to_string(row)},
                             "", true);
    if (shown.ok()) {
      std::string text = *shown;
      while (!text.empty() && text.back() == '\n')
        text.pop_back();
      for (size_t at = 0; (at = text.find('\n', at)) != text.npos; at += 12)
        text.insert(at + 1, 11, ' ');
      return console.print(label, text);
    }
  }
  console.print(label, describeRow(file, row, 64));
}
