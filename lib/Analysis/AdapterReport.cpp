//===- AdapterReport.cpp - what an adapter config matched -----------------===//
#include "peftc/Analysis/AdapterReport.h"

#include "peftc/Dialect/Lora/Lora.h"
#include "peftc/Dialect/NN/NN.h"

#include "llvm/ADT/StringExtras.h"
#include "llvm/Support/FormatVariadic.h"

using namespace mlir;
using namespace peftc;

/// 1234567 as "1,234,567".
static std::string grouped(uint64_t number) {
  std::string digits = std::to_string(number);
  for (size_t i = digits.size(); i > 3; i -= 3)
    digits.insert(i - 3, ",");
  return digits;
}

static std::string counted(uint64_t number, StringRef one, StringRef many) {
  return std::to_string(number) + " " + (number == 1 ? one : many).str();
}

/// Elements of the tensors in `names` that train.
static uint64_t trainedElements(Operation *op, ArrayRef<StringRef> names) {
  uint64_t elements = 0;
  for (StringRef name : names) {
    auto param = SymbolTable::lookupNearestSymbolFrom<nn::ParamOp>(
        op, StringAttr::get(op->getContext(), name));
    if (param && param.getTrainable())
      elements += param.getTensorType().getNumElements();
  }
  return elements;
}

/// The rank that trains.
static int64_t rankOf(lora::DoraLinearOp op) {
  return nn::features(op.getProjection());
}
static int64_t rankOf(lora::LinearOp op) {
  auto a = op.getTrainedAAttr()
               ? SymbolTable::lookupNearestSymbolFrom<nn::ParamOp>(
                     op, op.getTrainedAAttr())
               : nn::ParamOp();
  return a ? a.getTensorType().getDimSize(0)
           : nn::features(op.getProjection());
}

template <typename Op> static void addAdapter(AdapterReport &report, Op op) {
  AdapterReport::Kind kind;
  kind.name = op.getModule().rsplit('.').second.str();
  if (kind.name.empty())
    kind.name = op.getModule().str();
  kind.rank = rankOf(op);
  kind.in = nn::features(op.getInput());
  kind.out = nn::features(op.getResult());
  auto same = llvm::find_if(report.kinds, [&](const auto &other) {
    return other.name == kind.name && other.rank == kind.rank &&
           other.in == kind.in && other.out == kind.out;
  });
  if (same == report.kinds.end())
    same = report.kinds.insert(report.kinds.end(), kind);
  ++same->count;
  SmallVector<StringRef> tensors = {op.getA(), op.getB()};
  if constexpr (std::is_same_v<Op, lora::LinearOp>)
    if (op.getTrainedA())
      tensors = {*op.getTrainedA(), *op.getTrainedB()};
  if constexpr (std::is_same_v<Op, lora::DoraLinearOp>)
    tensors.push_back(op.getMagnitude());
  same->parameters += trainedElements(op, tensors);
  ++report.adaptedModules;
}

AdapterReport peftc::reportAdapters(ModuleOp module) {
  AdapterReport report;
  module.walk([&](Operation *op) {
    if (auto linear = dyn_cast<lora::LinearOp>(op))
      addAdapter(report, linear);
    else if (auto dora = dyn_cast<lora::DoraLinearOp>(op))
      addAdapter(report, dora);
  });
  for (auto param : module.getOps<nn::ParamOp>()) {
    if (param.getJoined())
      continue;
    uint64_t elements = param.getTensorType().getNumElements();
    report.total += elements;
    if (!param.getTrainable())
      continue;
    report.trainable += elements;
    // Adapters have no stored tensor; what the model stores has.
    if (param.getSourceType()) {
      report.trainedTensors.push_back(param.getSymName().str());
      report.trainedTensorParameters += elements;
    }
  }
  if (auto excluded = module->getAttrOfType<ArrayAttr>("nn.adapter_excluded"))
    for (Attribute name : excluded)
      report.excluded.push_back(cast<StringAttr>(name).str());
  return report;
}

std::vector<std::string> AdapterReport::lines() const {
  std::vector<std::string> text;
  for (const Kind &kind : kinds)
    text.push_back(llvm::formatv(
        "{0} x {1} [{2} -> {3}] rank {4}: {5} parameters", kind.count,
        kind.name, kind.in, kind.out, kind.rank, grouped(kind.parameters)));
  if (!trainedTensors.empty()) {
    std::string first = trainedTensors.front();
    if (trainedTensors.size() > 1)
      first += ", ...";
    text.push_back(llvm::formatv("{0} ({1}): {2} parameters",
                                 counted(trainedTensors.size(),
                                         "tensor of the model trains",
                                         "tensors of the model train"),
                                 first, grouped(trainedTensorParameters)));
  }
  if (!excluded.empty())
    text.push_back(llvm::formatv("{0} excluded: {1}",
                                 counted(excluded.size(), "module", "modules"),
                                 llvm::join(excluded, ", ")));
  double share = total ? 100.0 * static_cast<double>(trainable) /
                             static_cast<double>(total)
                       : 0;
  std::string adapted =
      adaptedModules
          ? counted(adaptedModules, "module", "modules") + " adapted; "
          : "";
  text.push_back(llvm::formatv("{0}{1} of {2} parameters train ({3:F4} %)",
                               adapted, grouped(trainable), grouped(total),
                               share));
  return text;
}
