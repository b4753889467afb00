//===- PlanReader.cpp - from peft::Plan to the plan dialect ---------------===//
#include "PlanWords.h"

#include "peftc/Dialect/Plan/Plan.h"
#include "peftc/Target/PlanFile.h"
#include "peftc/Target/PlanTypes.h"

using namespace mlir;
using namespace peftc;

namespace {

class PlanReader {
public:
  PlanReader(MLIRContext *context, const peft::Plan &plan)
      : builder(context), plan(plan), loc(builder.getUnknownLoc()),
        buffers(plan.buffers.size()) {}

  OwningOpRef<ModuleOp> read();

private:
  DictionaryAttr describe();
  void readTables();
  void readBuffer(uint32_t index, DenseI64ArrayAttr live = {});
  void readParameters();
  void readEntry(uint32_t index);
  std::vector<std::pair<uint32_t, uint32_t>>
  lifetimes(const peft::Entry &entry);
  void readItem(const peft::Item &item);
  void readLaunch(const peft::Item &item, const peft::Launch &launch);

  RankedTensorType typeOf(peft::DType dtype,
                          const std::vector<uint64_t> &shape) {
    SmallVector<int64_t> extents(shape.begin(), shape.end());
    return RankedTensorType::get(extents,
                                 elementType(builder.getContext(), dtype));
  }
  StringAttr text(StringRef value) { return builder.getStringAttr(value); }
  IntegerAttr number(uint64_t value) {
    return builder.getI64IntegerAttr(static_cast<int64_t>(value));
  }
  IntegerAttr indexOrNone(uint32_t value) {
    return value == peft::none ? IntegerAttr() : number(value);
  }
  UnitAttr flag(bool set) { return set ? builder.getUnitAttr() : UnitAttr(); }
  Value buffer(uint32_t index) {
    return index == peft::none ? Value() : buffers[index];
  }

  OpBuilder builder;
  const peft::Plan &plan;
  Location loc;
  std::vector<Value> buffers; ///< by index in the plan
};

} // namespace

DictionaryAttr PlanReader::describe() {
  NamedAttrList fields;
  fields.set("producer", text(plan.producer));
  fields.set("model_name", text(plan.modelName));
  fields.set("header_hash", text(plan.headerHash));
  fields.set("model_config", text(plan.modelConfig));
  fields.set("adapter_config", text(plan.adapterConfig));
  fields.set("target", text(plan.target));
  if (plan.deviceKind != peft::DeviceKind::cpu)
    fields.set("device_kind", text(toWord(deviceWords, plan.deviceKind)));
  fields.set("compute",
             TypeAttr::get(elementType(builder.getContext(), plan.compute)));
  fields.set("batch", number(plan.batch));
  fields.set("seq", number(plan.seq));
  fields.set("vocab", number(plan.vocab));
  fields.set("max_threads", number(plan.maxThreads));
  fields.set("shard", number(plan.shard));
  fields.set("tensor_parallel", number(plan.tensorParallel));
  return fields.getDictionary(builder.getContext());
}

void PlanReader::readBuffer(uint32_t index, DenseI64ArrayAttr live) {
  const peft::Buffer &from = plan.buffers[index];
  bool inArena = from.arena != peft::none;
  buffers[index] = plan::BufferOp::create(
      builder, loc, plan::BufferType::get(builder.getContext()),
      text(from.name), TypeAttr::get(typeOf(from.dtype, from.shape)),
      text(toWord(classWords, from.kind)), indexOrNone(from.arena),
      inArena ? number(from.offset) : IntegerAttr(), indexOrNone(from.weight),
      live);
}

void PlanReader::readTables() {
  for (const peft::Arena &arena : plan.arenas)
    plan::ArenaOp::create(builder, loc, text(toWord(spaceWords, arena.space)),
                          number(arena.persistentBytes), number(arena.size));
  for (const peft::Weight &weight : plan.weights) {
    SmallVector<int64_t> slices;
    for (const peft::Slice &slice : weight.slices)
      slices.append({slice.axis, static_cast<int64_t>(slice.start),
                     static_cast<int64_t>(slice.extent)});
    plan::WeightOp::create(builder, loc, text(weight.name),
                           TypeAttr::get(typeOf(weight.dtype, weight.shape)),
                           slices.empty()
                               ? DenseI64ArrayAttr()
                               : builder.getDenseI64ArrayAttr(slices),
                           weight.part == peft::WeightPart::whole
                               ? StringAttr()
                               : text(toWord(partWords, weight.part)),
                           indexOrNone(weight.of), number(weight.block),
                           number(weight.nested));
  }
  for (uint32_t index = 0; index < plan.buffers.size(); ++index)
    if (plan.buffers[index].entry == peft::none)
      readBuffer(index);
  for (const peft::Initializer &from : plan.initializers) {
    bool gaussian = from.kind == peft::Initializer::Kind::gaussian;
    bool random = from.kind != peft::Initializer::Kind::weight;
    plan::InitializeOp::create(
        builder, loc, buffer(from.buffer),
        text(toWord(initializerWords, from.kind)), indexOrNone(from.weight),
        gaussian ? builder.getF64FloatAttr(from.standardDeviation)
                 : FloatAttr(),
        random ? number(from.stream) : IntegerAttr());
  }
}

void PlanReader::readParameters() {
  for (const peft::Group &group : plan.groups)
    plan::GroupOp::create(builder, loc, text(group.name),
                          builder.getF64FloatAttr(group.rateFactor),
                          buffer(group.lossSum), buffer(group.tokens),
                          buffer(group.normSquare));
  for (const peft::Parameter &parameter : plan.parameters) {
    SmallVector<Value> gradients;
    for (uint32_t gradient : parameter.gradients)
      gradients.push_back(buffer(gradient));
    SmallVector<Value> moments;
    for (uint32_t moment : {parameter.firstMoment, parameter.secondMoment,
                            parameter.firstScale, parameter.secondScale})
      if (moment != peft::none)
        moments.push_back(buffer(moment));
    plan::ParameterOp::create(
        builder, loc, text(parameter.name), text(parameter.module),
        buffer(parameter.buffer), gradients, moments, number(parameter.group),
        flag(parameter.decay), flag(parameter.zeroGradientAtStart),
        TypeAttr::get(elementType(builder.getContext(), parameter.sourceType)));
  }
  for (const peft::Port &port : plan.ports)
    plan::PortOp::create(builder, loc, text(toWord(portWords, port.kind)),
                         text(port.name), buffer(port.buffer));
  for (peft::Engine engine : plan.streams)
    plan::StreamOp::create(builder, loc, text(toWord(engineWords, engine)));
}

/// First and last item of each buffer, by index in the plan, counted without
/// records and waits (as peft-plan-memory counts); first > last: never used.
std::vector<std::pair<uint32_t, uint32_t>>
PlanReader::lifetimes(const peft::Entry &entry) {
  std::vector<std::pair<uint32_t, uint32_t>> live(plan.buffers.size(),
                                                  {UINT32_MAX, 0});
  uint32_t item = 0;
  auto use = [&](uint32_t buffer) {
    if (buffer == peft::none)
      return;
    live[buffer].first = std::min(live[buffer].first, item);
    live[buffer].second = item;
  };
  for (const peft::Item &each : entry.items) {
    if (auto *launch = std::get_if<peft::Launch>(&each.action)) {
      llvm::for_each(launch->operands, use);
      use(launch->sharedWorkspace);
      use(launch->threadWorkspace);
      use(launch->predicate.buffer);
    } else if (auto *copy = std::get_if<peft::Copy>(&each.action)) {
      use(copy->source);
      use(copy->destination);
    } else if (auto *both = std::get_if<peft::Collective>(&each.action)) {
      use(both->source);
      use(both->destination);
    } else {
      continue;
    }
    ++item;
  }
  return live;
}

void PlanReader::readEntry(uint32_t index) {
  const peft::Entry &entry = plan.entries[index];
  auto op =
      plan::EntryOp::create(builder, loc, text(entry.name),
                            number(entry.localBytes), number(entry.lowerBound));
  OpBuilder::InsertionGuard guard(builder);
  builder.createBlock(&op->getRegion(0));
  auto live = lifetimes(entry);
  for (uint32_t i = 0; i < plan.buffers.size(); ++i) {
    if (plan.buffers[i].entry != index)
      continue;
    bool used = live[i].first <= live[i].second;
    readBuffer(
        i, used ? builder.getDenseI64ArrayAttr({live[i].first, live[i].second})
                : DenseI64ArrayAttr());
  }
  for (const peft::Item &item : entry.items)
    readItem(item);
}

void PlanReader::readLaunch(const peft::Item &item,
                            const peft::Launch &launch) {
  SmallVector<Value> operands;
  uint64_t present = 0;
  for (auto [index, operand] : llvm::enumerate(launch.operands))
    if (operand != peft::none) {
      operands.push_back(buffer(operand));
      present |= uint64_t(1) << index;
    }
  SmallVector<NamedAttribute> settings;
  for (const peft::Attribute &attribute : launch.attributes) {
    Attribute value;
    if (auto *integer = std::get_if<int64_t>(&attribute.value))
      value = builder.getI64IntegerAttr(*integer);
    else if (auto *real = std::get_if<double>(&attribute.value))
      value = builder.getF64FloatAttr(*real);
    else
      value = builder.getDenseF32ArrayAttr(
          std::get<std::vector<float>>(attribute.value));
    settings.push_back(builder.getNamedAttr(attribute.name, value));
  }
  plan::LaunchOp::create(
      builder, loc, text(launch.kernel), number(item.stream), operands,
      buffer(launch.sharedWorkspace), buffer(launch.threadWorkspace),
      buffer(launch.predicate.buffer), number(present),
      builder.getDictionaryAttr(settings),
      builder.getI64IntegerAttr(launch.predicate.above), text(launch.module),
      flag(launch.recomputed));
}

void PlanReader::readItem(const peft::Item &item) {
  if (auto *launch = std::get_if<peft::Launch>(&item.action))
    readLaunch(item, *launch);
  else if (auto *copy = std::get_if<peft::Copy>(&item.action))
    plan::CopyOp::create(builder, loc, number(item.stream),
                         buffer(copy->source), buffer(copy->destination),
                         number(copy->sourceOffset),
                         number(copy->destinationOffset), number(copy->size));
  else if (auto *both = std::get_if<peft::Collective>(&item.action))
    plan::CollectiveOp::create(builder, loc,
                               text(toWord(collectiveWords, both->kind)),
                               number(item.stream), buffer(both->source),
                               buffer(both->destination), text(both->module));
  else if (auto *record = std::get_if<peft::Record>(&item.action))
    plan::RecordOp::create(builder, loc, number(item.stream),
                           number(record->event));
  else if (auto *wait = std::get_if<peft::Wait>(&item.action))
    plan::WaitOp::create(builder, loc, number(item.stream),
                         number(wait->event));
}

OwningOpRef<ModuleOp> PlanReader::read() {
  OwningOpRef<ModuleOp> module(ModuleOp::create(loc));
  builder.setInsertionPointToEnd(module->getBody());
  auto program = plan::ProgramOp::create(builder, loc, describe());
  builder.createBlock(&program->getRegion(0));
  readTables();
  readParameters();
  for (uint32_t entry = 0; entry < plan.entries.size(); ++entry)
    readEntry(entry);
  for (const peft::Remark &remark : plan.remarks)
    plan::RemarkOp::create(builder, loc, text(remark.pass), text(remark.module),
                           text(remark.message));
  return module;
}

OwningOpRef<ModuleOp> peftc::importPlan(MLIRContext *context,
                                        const peft::Plan &plan) {
  context->loadDialect<plan::PlanDialect>();
  return PlanReader(context, plan).read();
}
