//===- ConvertToPlan.cpp - turn the step into launches over buffers -------===//
//
// The tables of the plan: weights, persistent buffers, parameters, ports; the
// entries are StepConverter's. The order of everything follows the step, so the
// same step gives the same plan.
//
//===----------------------------------------------------------------------===//
#include "StepConverter.h"

#include "peftc/Target/PlanTypes.h"
#include "peftc/Transforms/Passes.h"
#include "peftc/Transforms/Recompute.h"
#include "peftc/Version.h"

#include "llvm/ADT/StringSet.h"
#include "llvm/ADT/StringSwitch.h"

namespace peftc {
#define GEN_PASS_DEF_CONVERTTOPLAN
#include "peftc/Transforms/Passes.h.inc"
} // namespace peftc

using namespace mlir;
using namespace peftc;

namespace {

class PlanConverter {
public:
  PlanConverter(ModuleOp module, const ConvertToPlanOptions &options,
                peft::DeviceKind device)
      : module(module), options(options), device(device),
        builder(module.getContext()),
        plan(builder, options.maxThreads, device) {}

  LogicalResult convert();
  unsigned launches() const { return launchCount; }

private:
  LogicalResult readModule();
  DictionaryAttr describe();
  void findUses();
  LogicalResult addJoined(nn::ParamOp parameter);
  LogicalResult addParameterBuffer(nn::ParamOp parameter);
  void addFrozenBuffer(nn::ParamOp parameter);
  void addQuantizedBuffers(nn::ParamOp parameter, const qw::Format &format);
  Value addPart(nn::ParamOp parameter, StringRef name, StringRef part,
                RankedTensorType type, int64_t codes,
                const qw::Format &format = {});
  void addDeviceBuffers(nn::ParamOp parameter);
  int64_t addWeight(nn::ParamOp parameter, Type element);
  void addInitializer(nn::ParamOp parameter, Value buffer);
  void addStateBuffer(nn::StateOp state);
  void addInputs();
  void addPorts();
  void addRemarks();
  void eraseStep();
  LogicalResult addGroup();
  LogicalResult addSaved(nn::ParamOp parameter);
  void addPort(Location loc, StringRef kind, StringRef name, Value buffer);

  ModuleOp module;
  const ConvertToPlanOptions &options;
  peft::DeviceKind device;
  OpBuilder builder;
  PlanBuilder plan;
  DictionaryAttr model;
  StringAttr adapterConfig;
  int64_t batch = 0, seq = 0;
  Type compute;
  int64_t weightCount = 0;
  unsigned launchCount = 0;
  SmallVector<nn::ParamOp> parameters;
  SmallVector<nn::StateOp> states;
  SmallVector<func::FuncOp> functions;
  SmallVector<StringAttr> inputs; ///< in order of first use
  StepBuffers buffers;
  llvm::StringSet<> inProducts, asStored;        ///< parameters, by their uses
  llvm::StringMap<int64_t> weights;              ///< of trained parameters
  llvm::StringMap<SmallVector<Value>> gradients; ///< by parameter
  /// Buffers that start as copies of parts of quantized weights.
  SmallVector<std::pair<Value, int64_t>> copies;
};

LogicalResult PlanConverter::readModule() {
  model = module->getAttrOfType<DictionaryAttr>("nn.model");
  adapterConfig = module->getAttrOfType<StringAttr>("nn.adapter_config");
  auto batchAttr = module->getAttrOfType<IntegerAttr>("nn.batch");
  auto seqAttr = module->getAttrOfType<IntegerAttr>("nn.seq");
  auto computeAttr = module->getAttrOfType<TypeAttr>("nn.compute");
  if (!model || !batchAttr || !seqAttr || !computeAttr)
    return module.emitOpError(
        "needs the attributes nn.model, nn.batch, nn.seq and nn.compute; run "
        "the import and peft-specialize-model first");
  batch = batchAttr.getInt();
  seq = seqAttr.getInt();
  compute = computeAttr.getValue();
  for (Operation &op : *module.getBody()) {
    if (auto parameter = dyn_cast<nn::ParamOp>(op))
      parameters.push_back(parameter);
    else if (auto state = dyn_cast<nn::StateOp>(op))
      states.push_back(state);
    else if (auto function = dyn_cast<func::FuncOp>(op))
      functions.push_back(function);
    else
      return op.emitOpError("cannot be in a step");
  }
  return success();
}

/// The scalars of table Plan.
DictionaryAttr PlanConverter::describe() {
  auto text = [&](StringRef key) -> Attribute {
    auto value = model.getAs<StringAttr>(key);
    return value ? value : builder.getStringAttr("");
  };
  auto number = [&](int64_t value) -> Attribute {
    return builder.getI64IntegerAttr(value);
  };
  auto vocab = model.getAs<IntegerAttr>("vocab");
  std::pair<StringRef, Attribute> fields[] = {
      {"producer",
       builder.getStringAttr(std::string("peftc ") + compilerVersion)},
      {"model_name", text("name")},
      {"header_hash", text("header_hash")},
      {"model_config", text("config")},
      {"adapter_config",
       adapterConfig ? adapterConfig : builder.getStringAttr("")},
      {"target", builder.getStringAttr(options.target)},
      {"compute", TypeAttr::get(compute)},
      {"batch", number(batch)},
      {"seq", number(seq)},
      {"vocab", number(vocab ? vocab.getInt() : 0)},
      {"max_threads", number(options.maxThreads)},
      {"shard", number(1)},
      {"tensor_parallel", number(1)}};
  SmallVector<NamedAttribute> attributes;
  for (auto &[name, value] : fields)
    attributes.push_back(builder.getNamedAttr(name, value));
  if (device != peft::DeviceKind::cpu)
    attributes.push_back(builder.getNamedAttr(
        "device_kind", builder.getStringAttr(options.device)));
  return builder.getDictionaryAttr(attributes);
}

int64_t PlanConverter::addWeight(nn::ParamOp parameter, Type element) {
  plan::WeightOp::create(
      builder, parameter.getLoc(),
      parameter.getStoredNameAttr() ? parameter.getStoredNameAttr()
                                    : parameter.getSymNameAttr(),
      TypeAttr::get(parameter.getTensorType().clone(element)),
      DenseI64ArrayAttr(), StringAttr(), IntegerAttr());
  return weightCount++;
}

/// Whether a frozen weight has another type than its file: then it is a copy.
static bool isConverted(nn::ParamOp parameter) {
  std::optional<Type> stored = parameter.getSourceType();
  return stored && *stored != parameter.getTensorType().getElementType();
}

/// Sorts the parameters by who reads them: matrix products round a weight or
/// bias to the compute type, everything else takes it as it is stored.
void PlanConverter::findUses() {
  for (func::FuncOp function : functions)
    function.walk([&](Operation *op) {
      bool product =
          isa<nn::LinearOp, nn::LinearDxOp, lora::LinearOp, lora::LinearDxOp,
              lora::DoraLinearOp>(op);
      for (NamedAttribute attribute : op->getAttrs())
        if (auto symbol = dyn_cast<FlatSymbolRefAttr>(attribute.getValue()))
          (product ? inProducts : asStored).insert(symbol.getValue());
      // Its norms are those of the weight as it is stored.
      if (auto dora = dyn_cast<lora::DoraLinearOp>(op))
        asStored.insert(dora.getWeight());
    });
}

/// On a card every frozen weight has its place in the arena. What a product
/// would round at every use is kept rounded; the same bits come out, because
/// both round to nearest even. Where others read the stored values, one buffer
/// serves both if the compute type holds them exactly, else there are two.
void PlanConverter::addDeviceBuffers(nn::ParamOp parameter) {
  StringRef name = parameter.getSymName();
  RankedTensorType stored = parameter.getTensorType();
  RankedTensorType rounded = stored.clone(compute);
  bool product =
      options.convertWeights && inProducts.contains(name) && stored != rounded;
  bool exact = compute.isF32();
  bool both = product && asStored.contains(name) && !exact;
  buffers.symbols[name] = plan.addBuffer(parameter.getLoc(), name,
                                 product && !both ? rounded : stored, "base");
  if (both)
    buffers.products[name] =
        plan.addBuffer(parameter.getLoc(),
                       name + "/" + std::string(peft::name(*dtypeOf(compute))),
                       rounded, "base");
}

/// One part of a quantized weight, and the buffer that holds it: a mapping, or
/// on a card a place in the arena that starts as a copy.
Value PlanConverter::addPart(nn::ParamOp parameter, StringRef name,
                             StringRef part, RankedTensorType type,
                             int64_t codes, const qw::Format &format) {
  Location loc = parameter.getLoc();
  bool isCodes = part == "codes";
  plan::WeightOp::create(
      builder, loc, builder.getStringAttr(name), TypeAttr::get(type),
      DenseI64ArrayAttr(), builder.getStringAttr(part),
      isCodes ? IntegerAttr() : builder.getI64IntegerAttr(codes),
      builder.getI64IntegerAttr(isCodes ? format.block : 0),
      builder.getI64IntegerAttr(isCodes ? format.nested : 0));
  int64_t weight = weightCount++;
  if (device == peft::DeviceKind::cpu)
    return plan.addMapped(loc, name, type, weight);
  Value buffer = plan.addBuffer(loc, name, type, "base");
  copies.push_back({buffer, weight});
  return buffer;
}

void PlanConverter::addQuantizedBuffers(nn::ParamOp parameter,
                                        const qw::Format &format) {
  using Kind = qw::Format::Kind;
  StringRef name = parameter.getSymName();
  RankedTensorType type = parameter.getTensorType();
  int64_t rows = type.getDimSize(0), columns = type.getDimSize(1);
  auto vector = [&](int64_t extent, peft::DType dtype) {
    return RankedTensorType::get(
        {extent}, elementType(builder.getContext(), dtype));
  };
  peft::DType stored = format.kind == Kind::nf4   ? peft::DType::nf4
                       : format.kind == Kind::fp4 ? peft::DType::fp4
                                                  : peft::DType::i8;
  int64_t codes = weightCount;
  std::string tensor = parameter.getStoredName().value_or(name).str();
  buffers.symbols[name] =
      addPart(parameter, tensor, "codes",
              type.clone(elementType(builder.getContext(), stored)), codes,
              format);
  QuantizedBuffers &parts = buffers.quantized[name];
  parts.block = format.block;
  parts.nested = format.nested;
  int64_t scales = format.scales(rows, columns);
  if (format.kind == Kind::int8) {
    StringRef module = tensor;
    module.consume_back(".weight");
    parts.absmax = addPart(parameter, (module + ".SCB").str(), "absmax",
                           vector(scales, peft::DType::f32), codes);
    return;
  }
  parts.absmax = addPart(
      parameter, tensor + ".absmax", "absmax",
      vector(scales, format.nested ? peft::DType::u8 : peft::DType::f32),
      codes);
  if (format.nested)
    parts.nestedAbsmax = addPart(
        parameter, tensor + ".nested_absmax", "nested_absmax",
        vector(format.nestedScales(rows, columns), peft::DType::f32), codes);
  parts.tables =
      addPart(parameter, tensor + ".tables", "tables",
              vector(format.nested ? peft::nestedTables : peft::codeTable,
                     peft::DType::f32),
              codes);
}

void PlanConverter::addFrozenBuffer(nn::ParamOp parameter) {
  StringRef name = parameter.getSymName();
  if (std::optional<qw::Format> format =
          qw::formatOf(parameter.getTensorType().getElementType()))
    addQuantizedBuffers(parameter, *format);
  else if (device != peft::DeviceKind::cpu)
    addDeviceBuffers(parameter);
  else if (isConverted(parameter))
    buffers.symbols[name] = plan.addBuffer(parameter.getLoc(), name,
                                   parameter.getTensorType(), "base");
  else
    buffers.symbols[name] =
        plan.addMapped(parameter.getLoc(), name, parameter.getTensorType(),
                       weights.lookup(name));
}

/// Its halves stand before it.
LogicalResult PlanConverter::addJoined(nn::ParamOp parameter) {
  ArrayAttr halves = *parameter.getJoined();
  JoinedFactor factor{{}, {}, parameter.getTensorType()};
  if (halves.size() == 2) {
    if (auto first = dyn_cast<FlatSymbolRefAttr>(halves[0]))
      factor.first = buffers.symbols.lookup(first.getValue());
    if (auto second = dyn_cast<FlatSymbolRefAttr>(halves[1]))
      factor.second = buffers.symbols.lookup(second.getValue());
  }
  if (!factor.first || !factor.second)
    return parameter.emitOpError("is joined, but not of two parameters that "
                                 "stand before it");
  buffers.joined[parameter.getSymName()] = factor;
  return success();
}

LogicalResult PlanConverter::addParameterBuffer(nn::ParamOp parameter) {
  RankedTensorType type = parameter.getTensorType();
  if (!dtypeOf(type.getElementType()) &&
      !qw::isQuantized(type.getElementType()))
    return parameter.emitOpError("has element type ")
           << type.getElementType() << ", which a plan cannot hold";
  if (parameter.getJoined())
    return addJoined(parameter);
  if (parameter.getTrainable() || parameter.getSaved())
    buffers.symbols[parameter.getSymName()] = plan.addBuffer(
        parameter.getLoc(), parameter.getSymName(), type, "adapter");
  else if (parameter.getInit() != "stored")
    return parameter.emitOpError("is frozen, but not stored in the model");
  else
    addFrozenBuffer(parameter);
  return success();
}

void PlanConverter::addInitializer(nn::ParamOp parameter, Value buffer) {
  StringRef init = parameter.getInit();
  bool mapped = buffer && !buffer.getDefiningOp<plan::BufferOp>().getArena();
  if (!buffer || mapped ||
      llvm::is_contained({"zeros", "row_norms", "given"}, init) ||
      buffers.quantized.contains(parameter.getSymName()))
    return;
  IntegerAttr weight, stream;
  if (init == "stored") {
    init = "weight";
    weight = builder.getI64IntegerAttr(weights.lookup(parameter.getSymName()));
  } else {
    stream = builder.getI64IntegerAttr(
        static_cast<int64_t>(hashName(parameter.getSymName())));
  }
  plan::InitializeOp::create(builder, parameter.getLoc(), buffer,
                             builder.getStringAttr(init), weight,
                             parameter.getStddevAttr(), stream);
}

void PlanConverter::addStateBuffer(nn::StateOp state) {
  StringRef kind = llvm::StringSwitch<StringRef>(state.getRole())
                       .Case("gradient", "gradient")
                       .Case("moment", "optimizer")
                       .Default("scalar");
  if (llvm::is_contained({"optimizer_step", "loss_scale", "good_steps"},
                         state.getSymName()))
    kind = "optimizer";
  Value buffer = plan.addBuffer(state.getLoc(), state.getSymName(),
                                state.getTensorType(), kind);
  buffers.symbols[state.getSymName()] = buffer;
  if (state.getRole() == "gradient" && state.getOf())
    gradients[*state.getOf()].push_back(buffer);
}

void PlanConverter::addPort(Location loc, StringRef kind, StringRef name,
                            Value buffer) {
  plan::PortOp::create(builder, loc, builder.getStringAttr(kind),
                       builder.getStringAttr(name), buffer);
}

/// One buffer per name that a function's arguments carry.
void PlanConverter::addInputs() {
  for (func::FuncOp function : functions)
    for (BlockArgument argument : function.getArguments()) {
      auto name = function.getArgAttrOfType<StringAttr>(argument.getArgNumber(),
                                                        "nn.port");
      if (!name || buffers.ports.contains(name))
        continue;
      auto type = cast<RankedTensorType>(argument.getType());
      buffers.ports[name] = plan.addBuffer(function.getLoc(), name.getValue(),
                                   flatten(type, 1), "input");
      inputs.push_back(name);
    }
}

void PlanConverter::addPorts() {
  for (StringAttr name : inputs)
    addPort(module.getLoc(), "input", name, buffers.ports.lookup(name));
  for (nn::StateOp state : states) {
    StringRef kind = llvm::StringSwitch<StringRef>(state.getRole())
                         .Case("scalar", "scalar")
                         .Cases({"sum", "output"}, "output")
                         .Default("");
    if (kind.empty())
      continue;
    auto port = state->getAttrOfType<StringAttr>("nn.port");
    addPort(state.getLoc(), kind, port ? port : state.getSymNameAttr(),
            buffers.symbols.lookup(state.getSymName()));
  }
}

LogicalResult PlanConverter::addGroup() {
  for (StringRef name : {"loss_sum", "tokens", "norm_square"})
    if (!buffers.symbols.contains(name))
      return module.emitOpError("needs the state @")
             << name << "; run peft-differentiate first";
  plan::GroupOp::create(
      builder, module.getLoc(), builder.getStringAttr("default"),
      builder.getF64FloatAttr(1.0), buffers.symbols.lookup("loss_sum"),
      buffers.symbols.lookup("tokens"), buffers.symbols.lookup("norm_square"));
  return success();
}

LogicalResult PlanConverter::addSaved(nn::ParamOp parameter) {
  StringRef name = parameter.getSymName();
  SmallVector<Value> moments;
  for (StringRef suffix : {".m", ".v", ".m.scale", ".v.scale"})
    if (Value moment = buffers.symbols.lookup((name + suffix).str()))
      moments.push_back(moment);
  ArrayRef<Value> sums = gradients[name];
  if (parameter.getTrainable() && (moments.size() < 2 || sums.empty()))
    return parameter.emitOpError("is trainable, but has no gradient or no "
                                 "moments; run peft-differentiate first");
  Type source = parameter.getSourceType().value_or(
      parameter.getTensorType().getElementType());
  auto flag = [&](bool set) {
    return set ? builder.getUnitAttr() : UnitAttr();
  };
  plan::ParameterOp::create(
      builder, parameter.getLoc(),
      builder.getStringAttr(parameter.getSavedName().value_or(
          parameter.getStoredName().value_or(name))),
      builder.getStringAttr(parameter.getModule().value_or("")),
      buffers.symbols.lookup(name), sums, moments,
      builder.getI64IntegerAttr(0),
      flag(!parameter.getNoDecay()), flag(parameter.getZeroGradientAtStart()),
      TypeAttr::get(source));
  return success();
}

LogicalResult PlanConverter::convert() {
  if (failed(readModule()))
    return failure();
  builder.setInsertionPointToEnd(module.getBody());
  auto program = plan::ProgramOp::create(builder, module.getLoc(), describe());
  builder.createBlock(&program->getRegion(0));
  plan.addArenas(module.getLoc());
  for (nn::ParamOp parameter : parameters)
    if (parameter.getInit() == "stored" &&
        !qw::isQuantized(parameter.getTensorType().getElementType()))
      weights[parameter.getSymName()] =
          addWeight(parameter, parameter.getSourceType().value_or(
                                   parameter.getTensorType().getElementType()));
  findUses();
  for (nn::ParamOp parameter : parameters)
    if (failed(addParameterBuffer(parameter)))
      return failure();
  for (nn::StateOp state : states)
    addStateBuffer(state);
  addInputs();
  for (nn::ParamOp parameter : parameters) {
    addInitializer(parameter, buffers.symbols.lookup(parameter.getSymName()));
    addInitializer(parameter, buffers.products.lookup(parameter.getSymName()));
  }
  for (auto [buffer, weight] : copies)
    plan::InitializeOp::create(builder, buffer.getLoc(), buffer,
                               builder.getStringAttr("weight"),
                               builder.getI64IntegerAttr(weight), FloatAttr(),
                               IntegerAttr());
  if (failed(addGroup()))
    return failure();
  for (nn::ParamOp parameter : parameters)
    if ((parameter.getTrainable() || parameter.getSaved()) &&
        failed(addSaved(parameter)))
      return failure();
  addPorts();
  // Activations on one stream, gradient sums and the optimizer on the other.
  for (int stream = 0; stream < 2; ++stream)
    plan::StreamOp::create(builder, module.getLoc(),
                           builder.getStringAttr("compute"));
  for (func::FuncOp function : functions) {
    StepConverter step(plan, buffers, seq, compute,
                       options.groupDownProjections, options.capability);
    if (failed(step.convert(function)))
      return failure();
    launchCount += step.launches();
  }
  addRemarks();
  eraseStep();
  return success();
}

/// How the head was cut, which nobody could see from the launches alone, and
/// what recomputing saves.
void PlanConverter::addRemarks() {
  for (func::FuncOp function : functions) {
    if (auto text = function->getAttrOfType<StringAttr>(recomputeRemarkAttr))
      plan::RemarkOp::create(builder, function.getLoc(),
                             builder.getStringAttr("peft-rematerialize"),
                             function.getSymNameAttr(), text);
    if (function.getSymName() != "micro_step")
      continue;
    unsigned chunks = 0;
    int64_t rows = 0;
    function.walk([&](nn::ChunkOp chunk) {
      ++chunks;
      rows = std::max<int64_t>(rows, chunk.getRows());
    });
    auto vocab = model.getAs<IntegerAttr>("vocab");
    int64_t bytes = rows * 4 * (vocab ? vocab.getInt() : 0);
    plan::RemarkOp::create(
        builder, function.getLoc(),
        builder.getStringAttr("peft-convert-to-plan"),
        builder.getStringAttr("lm_head"),
        builder.getStringAttr(Twine(chunks) + " chunks of at most " +
                              Twine(rows) + " rows, " + Twine(bytes) +
                              " bytes of logits; a chunk without trained "
                              "tokens does not run"));
  }
}

void PlanConverter::eraseStep() {
  for (func::FuncOp function : functions)
    function.erase();
  for (nn::StateOp state : states)
    state.erase();
  for (nn::ParamOp parameter : parameters)
    parameter.erase();
  for (StringRef name :
       {"nn.model", "nn.adapter_config", "nn.batch", "nn.seq", "nn.compute"})
    module->removeAttr(name);
}

struct ConvertToPlanPass
    : public peftc::impl::ConvertToPlanBase<ConvertToPlanPass> {
  using ConvertToPlanBase::ConvertToPlanBase;

  void runOnOperation() override {
    if (device != "cpu" && device != "cuda") {
      emitError(getOperation().getLoc())
          << "device '" << device << "' is none of cpu, cuda";
      return signalPassFailure();
    }
    ConvertToPlanOptions options{maxThreads, target, device, convertWeights,
                                 groupDownProjections, capability};
    PlanConverter converter(getOperation(), options,
                            device == "cpu" ? peft::DeviceKind::cpu
                                            : peft::DeviceKind::cuda);
    if (failed(converter.convert()))
      return signalPassFailure();
    launches += converter.launches();
  }
};

} // namespace
