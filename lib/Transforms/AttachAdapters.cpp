//===- AttachAdapters.cpp - LoRA adapters on the modules a config names ---===//
//
// AdapterMatching decides by module path; here the IR follows.
//
//===----------------------------------------------------------------------===//
#include "AdapterMatching.h"

#include "peftc/Analysis/AdapterReport.h"
#include "peftc/Dialect/Lora/Lora.h"
#include "peftc/Dialect/NN/NN.h"
#include "peftc/Transforms/Passes.h"
#include "peftc/Transforms/Trainable.h"

#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "llvm/ADT/StringSet.h"

#include <cmath>

using namespace mlir;
using namespace peftc;

namespace peftc {
#define GEN_PASS_DEF_ATTACHADAPTERS
#include "peftc/Transforms/Passes.h.inc"
} // namespace peftc

/// Where saved adapters hang the model's modules.
static constexpr StringRef savedPrefix = "base_model.model.";

/// The Hugging Face path of a linear: its weight's name without ".weight". The
/// head has a name of its own even where it reads the embedding table.
static StringRef modulePath(nn::LinearOp op) {
  auto function = op->getParentOfType<func::FuncOp>();
  if (function && function.getSymName() == "head")
    return "lm_head";
  StringRef weight = op.getWeight();
  weight.consume_back(".weight");
  return weight;
}

namespace {
/// The modules of a model in program order, and the ops that are linears.
struct ModelModules {
  std::vector<ModuleInfo> infos;
  std::vector<nn::LinearOp> linears; ///< null where the module is none

  explicit ModelModules(ModuleOp module) {
    module.walk([&](Operation *op) {
      if (auto linear = dyn_cast<nn::LinearOp>(op)) {
        StringRef path = modulePath(linear);
        add(path, path == "lm_head" ? ModuleKind::head : ModuleKind::linear,
            linear);
      } else if (auto embed = dyn_cast<nn::EmbedOp>(op)) {
        StringRef table = embed.getTable();
        table.consume_back(".weight");
        add(table, ModuleKind::embedding, {});
      } else if (auto norm = dyn_cast<nn::RMSNormOp>(op)) {
        StringRef weight = norm.getWeight();
        weight.consume_back(".weight");
        add(weight, ModuleKind::other, {});
      } else if (isa<nn::RopeTableOp, nn::SwigluOp, nn::GegluOp>(op)) {
        // Modules without parameters are known by their location only.
        if (auto name = dyn_cast<NameLoc>(op->getLoc()))
          add(name.getName(), ModuleKind::other, {});
      }
    });
  }

private:
  void add(StringRef path, ModuleKind kind, nn::LinearOp linear) {
    // "model.layers.0" and "model" are modules, too.
    size_t dot = path.rfind('.');
    if (dot != StringRef::npos && !seen.contains(path.take_front(dot)))
      add(path.take_front(dot), ModuleKind::other, {});
    if (!seen.insert(path).second)
      return;
    infos.push_back({path.str(), kind});
    linears.push_back(linear);
  }

  llvm::StringSet<> seen;
};

struct AttachAdapters : public peftc::impl::AttachAdaptersBase<AttachAdapters> {
  using AttachAdaptersBase::AttachAdaptersBase;

  void runOnOperation() override {
    if (failed(run()))
      signalPassFailure();
  }

private:
  LogicalResult run();
  LogicalResult checkModule();
  void attach(nn::LinearOp linear, const AdaptedModule &adapted);
  nn::ParamOp declare(Location location, StringRef module, StringRef tensor,
                      ArrayRef<int64_t> shape);
  nn::ParamOp joinWithStart(nn::ParamOp trained, int64_t axis);
  Value withFactors(OpBuilder &builder, nn::LinearOp linear, nn::ParamOp a,
                    nn::ParamOp b, double scale);
  Value withMagnitude(OpBuilder &builder, nn::LinearOp linear, nn::ParamOp a,
                      nn::ParamOp b, double scale);
  LogicalResult trainSaved(const ModelModules &modules);
  LogicalResult trainBiases(const ModelModules &modules);
  void setRates();
  void finish(const ModelModules &modules);

  LogicalResult refuse(const peft::Status &status) {
    return emitError(getOperation().getLoc()) << status.message();
  }

  DictionaryAttr model;
  Operation *firstFunction = nullptr; ///< parameters stand before it
  AdapterMatch match;
};
} // namespace

LogicalResult AttachAdapters::checkModule() {
  ModuleOp module = getOperation();
  model = module->getAttrOfType<DictionaryAttr>("nn.model");
  if (!model || !model.getAs<StringAttr>("model_type"))
    return emitError(module.getLoc(),
                     "needs the attribute nn.model of an imported model");
  if (module->hasAttr("nn.adapter_config"))
    return emitError(module.getLoc(), "the model has adapters already");
  for (auto param : module.getOps<nn::ParamOp>())
    if (param.getTrainable())
      return param.emitOpError() << "trains already: adapters and full "
                                 << "fine-tuning exclude each other";
  auto functions = module.getOps<func::FuncOp>();
  if (functions.empty())
    return emitError(module.getLoc(),
                     "needs the functions of an imported model");
  firstFunction = *functions.begin();
  return success();
}

LogicalResult AttachAdapters::run() {
  if (failed(checkModule()))
    return failure();
  peft::Expected<peft::AdapterConfig> parsed =
      peft::parseAdapterConfig(config, "adapter config");
  if (!parsed.ok())
    return refuse(parsed.status());
  if (loraFA && peft::startsFromWeights(parsed->init))
    return emitError(getOperation().getLoc())
           << "init_lora_weights: LoRA-FA with an adapter that starts from the "
              "weights is not in this version; take true or \"gaussian\"";
  if (parsed->loraBias)
    return refuse(peft::badInput(
        "adapter config: lora_bias: true is not implemented; only adapters "
        "without it are trained"));
  auto tied = model.getAs<BoolAttr>("tied");
  ModelModules modules(getOperation());
  peft::Expected<AdapterMatch> matched =
      matchAdapters(*parsed, model.getAs<StringAttr>("model_type").str(),
                    tied && tied.getValue(), modules.infos);
  if (!matched.ok())
    return refuse(matched.status());
  match = std::move(*matched);
  for (const AdaptedModule &adapted : match.adapted)
    attach(modules.linears[adapted.module], adapted);
  attached = match.adapted.size();
  if (failed(trainSaved(modules)) || failed(trainBiases(modules)))
    return failure();
  setRates();
  finish(modules);
  return success();
}

/// One tensor of an adapter as a trained f32 parameter before the functions.
nn::ParamOp AttachAdapters::declare(Location location, StringRef module,
                                    StringRef tensor, ArrayRef<int64_t> shape) {
  OpBuilder builder(&getContext());
  builder.setInsertionPoint(firstFunction);
  OperationState state(location, nn::ParamOp::getOperationName());
  state.addAttribute("sym_name",
                     builder.getStringAttr(savedPrefix + module + tensor));
  state.addAttribute("type", TypeAttr::get(RankedTensorType::get(
                                 shape, builder.getF32Type())));
  state.addAttribute("trainable", builder.getUnitAttr());
  state.addAttribute("module", builder.getStringAttr(module));
  return cast<nn::ParamOp>(builder.create(state));
}

/// The type of `input` with another number of features.
static RankedTensorType withFeatures(Value input, int64_t features) {
  auto type = cast<RankedTensorType>(input.getType());
  SmallVector<int64_t> shape(type.getShape());
  shape.back() = features;
  return type.clone(shape);
}

/// nn.linear becomes lora.linear or lora.dora_linear with factors that start as
/// PEFT's do.
void AttachAdapters::attach(nn::LinearOp linear, const AdaptedModule &adapted) {
  OpBuilder builder(linear);
  StringAttr module = builder.getStringAttr(modulePath(linear));
  int64_t in = nn::features(linear.getInput());
  int64_t out = nn::features(linear.getResult());
  nn::ParamOp a =
      declare(linear.getLoc(), module, ".lora_A.weight", {adapted.rank, in});
  nn::ParamOp b =
      declare(linear.getLoc(), module, ".lora_B.weight", {out, adapted.rank});
  bool random = match.config.init == peft::LoraInit::random;
  if (match.config.init == peft::LoraInit::gaussian) {
    a.setInit("gaussian");
    a.setStddev(llvm::APFloat(1.0 / static_cast<double>(adapted.rank)));
  } else {
    a.setInit("kaiming_uniform");
  }
  // While B is zero no gradient reaches A.
  b.setInit(random ? "kaiming_uniform" : "zeros");
  if (loraFA) {
    a.setTrainable(false);
    a.setSaved(true);
  } else {
    a.setZeroGradientAtStart(!random);
  }
  Value result =
      match.config.dora
          ? withMagnitude(builder, linear, a, b, adapted.scale)
          : withFactors(builder, linear, a, b, adapted.scale);
  linear.getResult().replaceAllUsesWith(result);
  linear.erase();
}

/// PiSSA and OLoRA start where the base is, because a frozen pair takes their
/// start off again; the pairs make one product of twice the rank.
nn::ParamOp AttachAdapters::joinWithStart(nn::ParamOp trained, int64_t axis) {
  StringRef module = *trained.getModule();
  StringRef factor = axis ? ".lora_B" : ".lora_A";
  SmallVector<int64_t> shape(trained.getTensorType().getShape());
  nn::ParamOp start = declare(trained.getLoc(), module,
                              (factor + ".start").str(), shape);
  shape[axis] *= 2;
  nn::ParamOp joined = declare(trained.getLoc(), module,
                               (factor + ".joined").str(), shape);
  for (nn::ParamOp param : {trained, start})
    param.setInit("given");
  trained.setZeroGradientAtStart(false);
  for (nn::ParamOp param : {start, joined})
    param.setTrainable(false);
  start.setSaved(true);
  joined.setJoinedAttr(ArrayAttr::get(
      &getContext(), {FlatSymbolRefAttr::get(trained.getSymNameAttr()),
                      FlatSymbolRefAttr::get(start.getSymNameAttr())}));
  return joined;
}

Value AttachAdapters::withFactors(OpBuilder &builder, nn::LinearOp linear,
                                  nn::ParamOp a, nn::ParamOp b, double scale) {
  auto symbol = [](nn::ParamOp param) {
    return FlatSymbolRefAttr::get(param.getSymNameAttr());
  };
  FlatSymbolRefAttr trainedA, trainedB;
  if (peft::startsFromWeights(match.config.init)) {
    trainedA = symbol(a);
    trainedB = symbol(b);
    a = joinWithStart(a, 0);
    b = joinWithStart(b, 1);
  }
  return lora::LinearOp::create(
             builder, linear.getLoc(), linear.getResult().getType(),
             withFeatures(linear.getInput(), a.getTensorType().getDimSize(0)),
             linear.getInput(), linear.getWeightAttr(), linear.getBiasAttr(),
             symbol(a), symbol(b), trainedA, trainedB, linear.getResidual(),
             builder.getF64FloatAttr(scale),
             builder.getF64FloatAttr(match.config.dropout),
             builder.getStringAttr(modulePath(linear)))
      .getResult();
}

/// DoRA: the magnitude starts as the norms, so that nothing changes at first.
Value AttachAdapters::withMagnitude(OpBuilder &builder, nn::LinearOp linear,
                                    nn::ParamOp a, nn::ParamOp b,
                                    double scale) {
  StringRef module = modulePath(linear);
  int64_t out = nn::features(linear.getResult());
  nn::ParamOp magnitude =
      declare(linear.getLoc(), module, ".lora_magnitude_vector", {out});
  magnitude.setInit("row_norms");
  auto symbol = [](nn::ParamOp param) {
    return FlatSymbolRefAttr::get(param.getSymNameAttr());
  };
  return lora::DoraLinearOp::create(
             builder, linear.getLoc(), linear.getResult().getType(),
             withFeatures(linear.getInput(), a.getTensorType().getDimSize(0)),
             withFeatures(linear.getInput(), out),
             RankedTensorType::get({out}, builder.getF32Type()),
             linear.getInput(), linear.getWeightAttr(), linear.getBiasAttr(),
             symbol(a), symbol(b), symbol(magnitude), linear.getResidual(),
             builder.getF64FloatAttr(scale),
             builder.getF64FloatAttr(match.config.dropout),
             builder.getStringAttr(module))
      .getResult();
}

/// modules_to_save: every parameter of those modules, under its plain name.
LogicalResult AttachAdapters::trainSaved(const ModelModules &modules) {
  if (match.saved.empty())
    return success();
  llvm::StringSet<> saved;
  for (size_t module : match.saved)
    saved.insert(modules.infos[module].path);
  for (auto param : getOperation().getOps<nn::ParamOp>()) {
    if (param.getTrainable() || param.getSaved() || !param.getModule())
      continue;
    // A module is saved with everything below it.
    StringRef path = *param.getModule();
    while (!path.empty() && !saved.contains(path))
      path = path.contains('.') ? path.rsplit('.').first : StringRef();
    if (path.empty())
      continue;
    if (failed(checkTrainable(param)))
      return failure();
    makeTrainable(param);
    param.setSavedName((savedPrefix + param.getSymName()).str());
  }
  return success();
}

/// bias = all: every bias of the model; lora_only: those of adapted modules.
LogicalResult AttachAdapters::trainBiases(const ModelModules &modules) {
  if (match.config.bias == peft::LoraBias::none)
    return success();
  llvm::StringSet<> adapted;
  for (const AdaptedModule &module : match.adapted)
    adapted.insert(modules.infos[module.module].path);
  for (auto param : getOperation().getOps<nn::ParamOp>()) {
    StringRef path = param.getSymName();
    if (!path.consume_back(".bias"))
      continue;
    if (param.getTrainable()) {
      // PEFT would save it three times, twice under names of its wrappers.
      if (match.config.bias == peft::LoraBias::all)
        return param.emitOpError()
               << "trains twice: bias is 'all', and modules_to_save contains '"
               << path << "'; take bias 'none' or 'lora_only'";
      continue;
    }
    // PEFT's adapter layer wraps the linear, which it calls base_layer.
    bool wrapped = adapted.contains(path);
    if (!wrapped && match.config.bias == peft::LoraBias::loraOnly)
      continue;
    makeTrainable(param);
    param.setSavedName(
        (savedPrefix + path + (wrapped ? ".base_layer.bias" : ".bias")).str());
  }
  return success();
}

/// As PEFT's create_loraplus_optimizer groups them: B and whatever has one
/// dimension.
void AttachAdapters::setRates() {
  if (loraPlusRatio == 1)
    return;
  emitRemark(getOperation().getLoc())
      << "LoRA+: B and tensors of one dimension train at "
      << loraPlusRatio.getValue() << " x the rate";
  for (auto param : getOperation().getOps<nn::ParamOp>()) {
    bool isB = param.getSymName().contains(".lora_B.");
    if (param.getTrainable() && (isB || param.getTensorType().getRank() == 1))
      param.setRateFactor(llvm::APFloat(loraPlusRatio.getValue()));
  }
}

/// Leaves the normalised config, what was excluded, and a remark per kind.
void AttachAdapters::finish(const ModelModules &modules) {
  ModuleOp module = getOperation();
  Builder builder(&getContext());
  peft::AdapterConfig &written = match.config;
  if (written.taskType.empty())
    written.taskType = "CAUSAL_LM";
  if (auto name = model.getAs<StringAttr>("name");
      name && written.baseModelName.empty())
    written.baseModelName = name.str();
  // PEFT saves adapters ready for inference.
  written.inferenceMode = true;
  module->setAttr("nn.adapter_config",
                  builder.getStringAttr(peft::writeAdapterConfig(written)));
  SmallVector<Attribute> excluded;
  for (size_t index : match.excluded)
    excluded.push_back(builder.getStringAttr(modules.infos[index].path));
  if (!excluded.empty())
    module->setAttr("nn.adapter_excluded", builder.getArrayAttr(excluded));
  for (const std::string &line : reportAdapters(module).lines())
    emitRemark(module.getLoc()) << line;
}
