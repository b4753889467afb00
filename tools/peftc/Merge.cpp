//===- Merge.cpp - peftc merge and export ---------------------------------===//
#include "Commands.h"
#include "ModelInput.h"
#include "Units.h"

#include "peftc/AdapterScales.h"

#include "peft/File.h"
#include "peft/GgufAdapter.h"
#include "peft/Merge.h"

#include "llvm/Support/FormatVariadic.h"
#include "llvm/Support/JSON.h"
#include "llvm/Support/raw_ostream.h"

#include <unistd.h>

using namespace peft;

/// The same error, with the config that it is about in front.
static Status ofConfig(const AdapterDirectory &adapter, const Status &status) {
  return Status::error(status.code(),
                       joinPath(adapter.directory, "adapter_config.json") +
                           ": " + status.message());
}

/// PEFT's patterns, which the runtime cannot match, as it asks for them. The
/// adapter must outlive the result.
static Expected<ScaleOfModule> scalesOf(const AdapterDirectory &adapter) {
  auto scales =
      peftc::AdapterScales::make(adapter.config, peftc::Overlap::first);
  if (!scales.ok())
    return ofConfig(adapter, scales.status());
  return ScaleOfModule(
      [scales = *scales,
       &adapter](const std::string &module) mutable -> Expected<ModuleScale> {
        auto found = scales.of(module);
        if (!found.ok())
          return ofConfig(adapter, found.status());
        return ModuleScale{found->rank, found->scale};
      });
}

/// A line on a terminal that shows how far a merge is.
static void showProgress(const std::string &name, size_t index, size_t count) {
  std::string line = std::to_string(index + 1) + "/" + std::to_string(count) +
                     " " + name;
  llvm::errs() << "\r" << column(line.substr(0, 78), 78)
               << (index + 1 == count ? "\n" : "");
}

/// "at most 0.00391 in one value (NAME), 0.00166 of the weights, 0.21 of what
/// the adapter changes"
static std::string describeLoss(const RoundingLoss &loss) {
  return llvm::formatv("at most {0} in one value ({1}), {2} of the weights' "
                       "norm, {3} of the norm of what the adapter changes",
                       llvm::format("%.3g", loss.maximum), loss.worst,
                       llvm::format("%.3g", loss.relative()),
                       llvm::format("%.3g", loss.relativeToChange()))
      .str();
}

static void print(const MergeModelOptions &options, const MergeReport &report) {
  llvm::raw_ostream &out = llvm::outs();
  out << report.merged << " modules merged, " << report.replaced
      << " tensors replaced by the adapter's, " << report.copied
      << " copied\n";
  if (report.dequantized)
    out << report.dequantized << " of the tensors were quantized; the merged "
        << "model is not\n";
  if (report.untied)
    out << "the head is stored apart from the embedding\n";
  out << "type " << options.dtype << ": rounding loses ";
  if (report.loss.maximum > 0)
    out << describeLoss(report.loss) << "\n";
  else
    out << "nothing\n";
  // So much that the merged model may answer as the base does.
  if (report.loss.relativeToChange() > 0.5)
    out << "warning: " << options.dtype << " keeps less than half of what the "
        << "adapter changes; --type f32 keeps it\n";
  if (!options.compare.empty())
    out << "onto " << options.compare << " instead: "
        << describeLoss(report.otherLoss) << "\n";
  if (report.copyLoss.maximum > 0)
    out << "of the other tensors it loses at most "
        << llvm::format("%.3g", report.copyLoss.maximum) << " in one value ("
        << report.copyLoss.worst << "), "
        << llvm::format("%.3g", report.copyLoss.relative())
        << " of their norm\n";
  out << "wrote " << options.output << ": " << formatBytes(report.bytes)
      << "\n";
}

static llvm::json::Object lossObject(const RoundingLoss &loss) {
  return llvm::json::Object{{"maximum", loss.maximum},
                            {"tensor", loss.worst},
                            {"relative", loss.relative()},
                            {"relative_to_change", loss.relativeToChange()}};
}

Status run(const MergeModelOptions &options) {
  PEFT_ASSIGN(AdapterDirectory adapter, openAdapter(options.adapter));
  PEFT_ASSIGN(const ScaleOfModule scaleOf, scalesOf(adapter));
  MergeOptions merge;
  merge.model = options.model;
  merge.adapter = options.adapter;
  merge.output = options.output;
  merge.dtype = parseDType(options.dtype);
  merge.compare = options.compare;
  merge.untie = options.untie;
  merge.shardBytes = options.shardBytes;
  if (!options.quiet && !options.json && isatty(STDERR_FILENO))
    merge.onTensor = showProgress;
  PEFT_ASSIGN(MergeReport report, mergeAdapter(merge, adapter, scaleOf));
  if (options.json)
    llvm::outs() << llvm::formatv(
                        "{0:2}",
                        llvm::json::Value(llvm::json::Object{
                            {"merged", report.merged},
                            {"replaced", report.replaced},
                            {"copied", report.copied},
                            {"bytes", report.bytes},
                            {"dequantized", report.dequantized},
                            {"untied", report.untied},
                            {"type", options.dtype},
                            {"rounding", lossObject(report.loss)},
                            {"compared", lossObject(report.otherLoss)},
                            {"rounding_of_others", lossObject(report.copyLoss)},
                            {"output", options.output}}))
                 << "\n";
  else if (!options.quiet)
    print(options, report);
  return {};
}

Status run(const ExportOptions &options) {
  PEFT_TRY(checkOutput(options.output, {options.adapter, options.model}));
  PEFT_ASSIGN(AdapterDirectory adapter, openAdapter(options.adapter));
  PEFT_ASSIGN(const ScaleOfModule scaleOf, scalesOf(adapter));
  PEFT_ASSIGN(ModelDirectory model, openModel(options.model));
  PEFT_ASSIGN(GgufReport report,
              exportGgufAdapter(adapter, model, scaleOf, options.output));
  if (!options.quiet)
    llvm::outs() << report.modules << " modules as "
                 << report.architecture << ", alpha "
                 << llvm::format("%g", report.alpha)
                 << "\nwrote " << options.output << "\n";
  return {};
}
