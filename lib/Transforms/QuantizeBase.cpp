//===- QuantizeBase.cpp - store the frozen matrices as codes --------------===//
//
// bitsandbytes' conventions: every linear of the layers, not the head, not the
// embedding, not what trains.
//
//===----------------------------------------------------------------------===//
#include "PythonRegex.h"

#include "peftc/Dialect/Lora/Lora.h"
#include "peftc/Dialect/NN/NN.h"
#include "peftc/Transforms/Passes.h"

#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "llvm/ADT/MapVector.h"
#include "llvm/Support/FormatVariadic.h"

namespace peftc {
#define GEN_PASS_DEF_QUANTIZEBASE
#include "peftc/Transforms/Passes.h.inc"
} // namespace peftc

using namespace mlir;
using namespace peftc;

namespace {

struct QuantizeBasePass
    : public peftc::impl::QuantizeBaseBase<QuantizeBasePass> {
  using QuantizeBaseBase::QuantizeBaseBase;

  void runOnOperation() override {
    if (failed(readOptions()))
      return signalPassFailure();
    collect();
    if (failed(quantizeAll()))
      signalPassFailure();
  }

private:
  /// What the model does with a matrix.
  struct Matrix {
    /// Hugging Face paths; of a tied head both.
    SmallVector<std::string, 2> modules;
    bool inLayers = true; ///< false: the head or the embedding
  };

  LogicalResult readOptions();
  void collect();
  LogicalResult quantizeAll();
  FailureOr<bool> isChosen(const Matrix &matrix);
  FailureOr<bool> quantize(nn::ParamOp parameter);
  void report(StringRef what, unsigned count, uint64_t before, uint64_t after);

  InFlightDiagnostic refuse() { return emitError(getOperation().getLoc()); }

  qw::Format chosenFormat;
  Type element;
  std::optional<PythonRegex> included, excluded;
  llvm::MapVector<StringAttr, Matrix> matrices; ///< by parameter
};

LogicalResult QuantizeBasePass::readOptions() {
  std::optional<qw::Format::Kind> kind = qw::parseKind(type);
  if (!kind)
    return refuse() << "type '" << type << "' is none of nf4, fp4, int8";
  bool packed = *kind != qw::Format::Kind::int8;
  if (!packed && nested)
    return refuse() << "int8 has one scale per row, which is not quantized "
                       "itself: leave double quantization out";
  if (packed && (block < 1 || block > INT32_MAX))
    return refuse() << "a block of " << static_cast<int64_t>(block)
                    << " elements is not between 1 and " << INT32_MAX;
  constexpr int64_t nestedBlock = 256; // bitsandbytes' only one
  chosenFormat = {*kind, packed ? static_cast<int64_t>(block) : 0,
                  nested ? nestedBlock : 0};
  element = qw::typeOf(&getContext(), chosenFormat);
  auto compile = [&](const std::string &expression,
                     std::optional<PythonRegex> &regex) -> LogicalResult {
    if (expression.empty())
      return success();
    auto compiled = PythonRegex::compile(expression);
    if (!compiled.ok())
      return refuse() << compiled.status().message();
    regex = *compiled;
    return success();
  };
  return success(succeeded(compile(include, included)) &&
                 succeeded(compile(exclude, excluded)));
}

/// Every matrix that a linear or an embedding reads, by its parameter. One that
/// both read, a tied head, counts as the head.
void QuantizeBasePass::collect() {
  auto add = [&](FlatSymbolRefAttr symbol, bool inLayers) {
    StringRef module = symbol.getValue();
    module.consume_back(".weight");
    Matrix &matrix = matrices[symbol.getAttr()];
    if (matrix.modules.empty())
      matrix.modules.push_back(module.str());
    matrix.inLayers &= inLayers;
  };
  for (auto function : getOperation().getOps<func::FuncOp>()) {
    bool inLayers = function.getSymName() != "head";
    auto addLinear = [&](FlatSymbolRefAttr symbol) {
      add(symbol, inLayers);
      auto &modules = matrices[symbol.getAttr()].modules;
      if (!inLayers && !llvm::is_contained(modules, "lm_head"))
        modules.push_back("lm_head");
    };
    function.walk([&](Operation *op) {
      if (auto linear = dyn_cast<nn::LinearOp>(op))
        addLinear(linear.getWeightAttr());
      else if (auto adapted = dyn_cast<lora::LinearOp>(op))
        addLinear(adapted.getWeightAttr());
      else if (auto dora = dyn_cast<lora::DoraLinearOp>(op))
        addLinear(dora.getWeightAttr());
      else if (auto embed = dyn_cast<nn::EmbedOp>(op))
        add(embed.getTableAttr(), false);
    });
  }
}

FailureOr<bool> QuantizeBasePass::isChosen(const Matrix &matrix) {
  auto matches = [&](const std::optional<PythonRegex> &regex) -> FailureOr<bool> {
    for (const std::string &module : matrix.modules) {
      auto matched = regex->fullMatch(module);
      if (!matched.ok())
        return refuse() << matched.status().message();
      if (*matched)
        return true;
    }
    return false;
  };
  bool chosen = matrix.inLayers || head;
  if (included) {
    FailureOr<bool> matched = matches(included);
    if (failed(matched))
      return failure();
    chosen = *matched;
  }
  if (!chosen || !excluded)
    return chosen;
  FailureOr<bool> matched = matches(excluded);
  if (failed(matched))
    return failure();
  return !*matched;
}

/// Whether the parameter's type has changed. What the files hold quantized stays
/// as it is, if it is what was asked for.
FailureOr<bool> QuantizeBasePass::quantize(nn::ParamOp parameter) {
  RankedTensorType stored = parameter.getTensorType();
  if (parameter.getTrainable())
    return false;
  if (std::optional<qw::Format> format =
          qw::formatOf(stored.getElementType())) {
    if (*format == chosenFormat)
      return false;
    InFlightDiagnostic diagnostic =
        parameter.emitError()
        << "is stored as " << format->describe() << ", asked for is "
        << chosenFormat.describe()
        << ": codes cannot be turned into other codes without loss; leave "
           "--base out, or start from the weights before quantization";
    return diagnostic;
  }
  if (!parameter.getSourceType())
    parameter.setSourceTypeAttr(TypeAttr::get(stored.getElementType()));
  parameter.setTypeAttr(TypeAttr::get(stored.clone(element)));
  ++quantized;
  return true;
}

void QuantizeBasePass::report(StringRef what, unsigned count, uint64_t before,
                              uint64_t after) {
  if (!count)
    return;
  auto mebibytes = [](uint64_t bytes) {
    return llvm::formatv("{0:f1} MiB", double(bytes) / (1 << 20)).str();
  };
  emitRemark(getOperation().getLoc())
      << what << " in " << type << ": " << mebibytes(after) << " instead of "
      << mebibytes(before);
}

LogicalResult QuantizeBasePass::quantizeAll() {
  unsigned layers = 0, outside = 0, already = 0;
  uint64_t layersBefore = 0, layersAfter = 0, outsideBefore = 0,
           outsideAfter = 0;
  for (auto &[symbol, matrix] : matrices) {
    auto parameter = getOperation().lookupSymbol<nn::ParamOp>(symbol);
    if (!parameter)
      return refuse() << "there is no parameter @" << symbol.getValue();
    FailureOr<bool> chosen = isChosen(matrix);
    if (failed(chosen))
      return failure();
    if (!*chosen)
      continue;
    uint64_t before = qw::storedBytes(parameter.getTensorType());
    FailureOr<bool> changed = quantize(parameter);
    if (failed(changed))
      return failure();
    if (!*changed) {
      already += !parameter.getTrainable();
      continue;
    }
    uint64_t after = qw::storedBytes(parameter.getTensorType());
    ++(matrix.inLayers ? layers : outside);
    (matrix.inLayers ? layersBefore : outsideBefore) += before;
    (matrix.inLayers ? layersAfter : outsideAfter) += after;
  }
  if (layers + outside + already == 0)
    return refuse() << "no frozen weight was chosen to be stored as " << type
                    << (included || excluded
                            ? ": check --quantize-include and "
                              "--quantize-exclude"
                            : ": every linear of the model trains");
  report("linear weights", layers, layersBefore, layersAfter);
  report("embedding and head", outside, outsideBefore, outsideAfter);
  return success();
}

} // namespace
