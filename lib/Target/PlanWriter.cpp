//===- PlanWriter.cpp - from the plan dialect to peft::Plan ---------------===//
#include "PlanWords.h"

#include "peftc/Dialect/Plan/Plan.h"
#include "peftc/Target/PlanFile.h"
#include "peftc/Target/PlanTypes.h"

#include "peft/KernelSpec.h"

#include "llvm/ADT/DenseMap.h"
#include "llvm/ADT/TypeSwitch.h"

using namespace mlir;
using namespace peftc;

namespace {

/// Goes through a program once, in order. The first thing that cannot be
/// written is kept as the result's error.
class PlanWriter {
public:
  peft::Expected<peft::Plan> write(plan::ProgramOp program);

private:
  void readInfo(plan::ProgramOp program);
  void add(Operation *op);
  void add(plan::ArenaOp op);
  void add(plan::WeightOp op);
  void add(plan::BufferOp op);
  void add(plan::InitializeOp op);
  void add(plan::GroupOp op);
  void add(plan::ParameterOp op);
  void add(plan::PortOp op);
  void add(plan::StreamOp op);
  void add(plan::EntryOp op);
  void add(plan::LaunchOp op);
  void add(plan::CopyOp op);
  void add(plan::CollectiveOp op);
  void add(plan::RecordOp op);
  void add(plan::WaitOp op);
  void add(plan::RemarkOp op);

  uint32_t indexOf(Value buffer) {
    return buffer ? indices.lookup(buffer) : peft::none;
  }
  void shapeOf(Operation *op, Type type, peft::DType &dtype,
               std::vector<uint64_t> &shape);
  void operandsOf(plan::LaunchOp op, peft::Launch &launch);
  template <typename Enum>
  Enum word(Operation *op, ArrayRef<StringLiteral> words, StringRef text) {
    std::optional<Enum> value = fromWord<Enum>(words, text);
    if (!value)
      fail(op, "has the unknown word '" + text.str() + "'");
    return value.value_or(Enum());
  }
  void fail(Operation *op, const std::string &what);
  template <typename Action> void item(int64_t stream, Action action) {
    plan.entries.back().items.push_back(
        {static_cast<uint32_t>(stream), std::move(action)});
  }

  peft::Plan plan;
  peft::Status error;
  llvm::DenseMap<Value, uint32_t> indices;
};

} // namespace

void PlanWriter::fail(Operation *op, const std::string &what) {
  if (error.ok())
    error = peft::badInput(op->getName().getStringRef().str() + " " + what);
}

void PlanWriter::readInfo(plan::ProgramOp program) {
  DictionaryAttr info = program.getInfo();
  auto text = [&](StringRef key) {
    auto value = info.getAs<StringAttr>(key);
    return value ? value.str() : std::string();
  };
  auto number = [&](StringRef key, int64_t byDefault) {
    auto value = info.getAs<IntegerAttr>(key);
    return value ? value.getInt() : byDefault;
  };
  plan.producer = text("producer");
  plan.modelName = text("model_name");
  plan.headerHash = text("header_hash");
  plan.modelConfig = text("model_config");
  plan.adapterConfig = text("adapter_config");
  plan.target = text("target");
  if (info.contains("device_kind"))
    plan.deviceKind =
        word<peft::DeviceKind>(program, deviceWords, text("device_kind"));
  if (auto compute = info.getAs<TypeAttr>("compute"))
    plan.compute = dtypeOf(compute.getValue()).value_or(peft::DType::bf16);
  plan.batch = number("batch", 1);
  plan.seq = number("seq", 0);
  plan.vocab = number("vocab", 0);
  plan.maxThreads = number("max_threads", 8);
  plan.shard = number("shard", 1);
  plan.tensorParallel = number("tensor_parallel", 1);
}

void PlanWriter::shapeOf(Operation *op, Type type, peft::DType &dtype,
                         std::vector<uint64_t> &shape) {
  auto tensor = dyn_cast<RankedTensorType>(type);
  std::optional<peft::DType> element;
  if (tensor && tensor.hasStaticShape())
    element = dtypeOf(tensor.getElementType());
  if (!element)
    return fail(op, "has a type that a plan cannot hold");
  dtype = *element;
  shape.assign(tensor.getShape().begin(), tensor.getShape().end());
}

//===----------------------------------------------------------------------===//
// Tables
//===----------------------------------------------------------------------===//

void PlanWriter::add(plan::ArenaOp op) {
  peft::Arena &arena = plan.arenas.emplace_back();
  arena.space = word<peft::Space>(op, spaceWords, op.getSpace());
  arena.persistentBytes = op.getPersistent();
  arena.size = op.getSize();
}

void PlanWriter::add(plan::WeightOp op) {
  peft::Weight &weight = plan.weights.emplace_back();
  weight.name = op.getName().str();
  shapeOf(op, op.getType(), weight.dtype, weight.shape);
  if (op.getPart())
    weight.part = word<peft::WeightPart>(op, partWords, *op.getPart());
  if (op.getOf())
    weight.of = *op.getOf();
  weight.block = op.getBlock();
  weight.nested = op.getNested();
  ArrayRef<int64_t> slices = op.getSlices().value_or(ArrayRef<int64_t>());
  if (slices.size() % 3)
    return fail(op, "has slices that are not axis, start, extent");
  for (; !slices.empty(); slices = slices.drop_front(3))
    weight.slices.push_back({static_cast<uint32_t>(slices[0]),
                             static_cast<uint64_t>(slices[1]),
                             static_cast<uint64_t>(slices[2])});
}

void PlanWriter::add(plan::BufferOp op) {
  indices[op.getResult()] = plan.buffers.size();
  peft::Buffer &buffer = plan.buffers.emplace_back();
  buffer.name = op.getName().str();
  shapeOf(op, op.getType(), buffer.dtype, buffer.shape);
  buffer.size = peft::byteCount(buffer.dtype, buffer.elements());
  buffer.kind = word<peft::BufferClass>(op, classWords, op.getKind());
  buffer.entry = plan.entries.empty() ? peft::none : plan.entries.size() - 1;
  if (op.getWeight())
    buffer.weight = *op.getWeight();
  if (!op.getArena())
    return;
  buffer.arena = *op.getArena();
  if (!op.getOffset())
    return fail(op, "'" + buffer.name +
                        "' has no offset; run peft-plan-memory first");
  buffer.offset = *op.getOffset();
}

void PlanWriter::add(plan::InitializeOp op) {
  peft::Initializer &initializer = plan.initializers.emplace_back();
  initializer.buffer = indexOf(op.getBuffer());
  initializer.kind =
      word<peft::Initializer::Kind>(op, initializerWords, op.getKind());
  if (op.getWeight())
    initializer.weight = *op.getWeight();
  if (op.getStddev())
    initializer.standardDeviation = op.getStddev()->convertToDouble();
  initializer.stream = op.getStream().value_or(0);
}

void PlanWriter::add(plan::GroupOp op) {
  plan.groups.push_back({op.getName().str(),
                         op.getRateFactor().convertToDouble(),
                         indexOf(op.getLossSum()), indexOf(op.getTokens()),
                         indexOf(op.getNormSquare())});
}

void PlanWriter::add(plan::ParameterOp op) {
  peft::Parameter &parameter = plan.parameters.emplace_back();
  parameter.name = op.getName().str();
  parameter.module = op.getModule().str();
  parameter.buffer = indexOf(op.getBuffer());
  for (Value gradient : op.getGradients())
    parameter.gradients.push_back(indexOf(gradient));
  size_t moments = op.getMoments().size();
  if (moments != 0 && moments != 2 && moments != 4)
    return fail(op, "has " + std::to_string(moments) +
                        " moments and scales, needed are 0, 2 or 4");
  uint32_t *places[] = {&parameter.firstMoment, &parameter.secondMoment,
                        &parameter.firstScale, &parameter.secondScale};
  for (auto [place, moment] : llvm::zip(places, op.getMoments()))
    *place = indexOf(moment);
  parameter.group = op.getGroup();
  parameter.decay = op.getDecay();
  parameter.zeroGradientAtStart = op.getZeroGradientAtStart();
  std::optional<peft::DType> source = dtypeOf(op.getSourceType());
  if (!source)
    return fail(op, "has a source type that a plan cannot hold");
  parameter.sourceType = *source;
}

void PlanWriter::add(plan::PortOp op) {
  plan.ports.push_back({word<peft::Port::Kind>(op, portWords, op.getKind()),
                        op.getName().str(), indexOf(op.getBuffer())});
}

void PlanWriter::add(plan::StreamOp op) {
  plan.streams.push_back(word<peft::Engine>(op, engineWords, op.getEngine()));
}

void PlanWriter::add(plan::RemarkOp op) {
  plan.remarks.push_back(
      {op.getPass().str(), op.getModule().str(), op.getMessage().str()});
}

//===----------------------------------------------------------------------===//
// Items
//===----------------------------------------------------------------------===//

void PlanWriter::add(plan::EntryOp op) {
  peft::Entry &entry = plan.entries.emplace_back();
  entry.name = op.getName().str();
  entry.localBytes = op.getLocalBytes();
  entry.lowerBound = op.getLowerBound();
  for (Operation &inner : op->getRegion(0).front())
    add(&inner);
}

/// Puts the given operands into the places that `present` names.
void PlanWriter::operandsOf(plan::LaunchOp op, peft::Launch &launch) {
  const peft::KernelSpec *spec = peft::findKernel(launch.kernel);
  if (!spec)
    return fail(op, "names the unknown kernel '" + launch.kernel + "'");
  uint64_t present = op.getPresent();
  if (present >> spec->operands.size() ||
      static_cast<size_t>(llvm::popcount(present)) != op.getOperands_().size())
    return fail(op, "of kernel '" + launch.kernel +
                        "' has operands that do not fit `present`");
  auto given = op.getOperands_().begin();
  for (size_t index = 0; index < spec->operands.size(); ++index)
    launch.operands.push_back(present >> index & 1 ? indexOf(*given++)
                                                   : peft::none);
}

void PlanWriter::add(plan::LaunchOp op) {
  peft::Launch launch;
  launch.kernel = op.getKernel().str();
  launch.module = op.getModule().str();
  launch.recomputed = op.getRecomputed();
  operandsOf(op, launch);
  for (NamedAttribute setting : op.getSettings()) {
    peft::Attribute &attribute = launch.attributes.emplace_back();
    attribute.name = setting.getName().str();
    if (auto integer = dyn_cast<IntegerAttr>(setting.getValue()))
      attribute.value = integer.getInt();
    else if (auto real = dyn_cast<FloatAttr>(setting.getValue()))
      attribute.value = real.getValueAsDouble();
    else if (auto reals = dyn_cast<DenseF32ArrayAttr>(setting.getValue()))
      attribute.value = reals.asArrayRef().vec();
    else
      fail(op, "has the setting '" + attribute.name + "' of unknown kind");
  }
  launch.sharedWorkspace = indexOf(op.getSharedWorkspace());
  launch.threadWorkspace = indexOf(op.getThreadWorkspace());
  if (op.getPredicate())
    launch.predicate = {indexOf(op.getPredicate()),
                        static_cast<int32_t>(op.getAbove())};
  item(op.getStream(), std::move(launch));
}

void PlanWriter::add(plan::CopyOp op) {
  item(op.getStream(),
       peft::Copy{indexOf(op.getSource()), indexOf(op.getDestination()),
                  op.getSourceOffset(), op.getDestinationOffset(),
                  op.getSize()});
}

void PlanWriter::add(plan::CollectiveOp op) {
  item(op.getStream(),
       peft::Collective{
           word<peft::Collective::Kind>(op, collectiveWords, op.getKind()),
           indexOf(op.getSource()), indexOf(op.getDestination()),
           op.getModule().str()});
}

void PlanWriter::add(plan::RecordOp op) {
  item(op.getStream(), peft::Record{static_cast<uint32_t>(op.getEvent())});
}

void PlanWriter::add(plan::WaitOp op) {
  item(op.getStream(), peft::Wait{static_cast<uint32_t>(op.getEvent())});
}

void PlanWriter::add(Operation *op) {
  TypeSwitch<Operation *>(op)
      .Case<plan::ArenaOp, plan::WeightOp, plan::BufferOp, plan::InitializeOp,
            plan::GroupOp, plan::ParameterOp, plan::PortOp, plan::StreamOp,
            plan::EntryOp, plan::LaunchOp, plan::CopyOp, plan::CollectiveOp,
            plan::RecordOp, plan::WaitOp, plan::RemarkOp>(
          [&](auto concrete) { add(concrete); })
      .Default([&](Operation *op) { fail(op, "has no table in a plan"); });
}

peft::Expected<peft::Plan> PlanWriter::write(plan::ProgramOp program) {
  readInfo(program);
  for (Operation &op : program->getRegion(0).front())
    add(&op);
  PEFT_TRY(error);
  return std::move(plan);
}

peft::Expected<peft::Plan> peftc::exportPlan(ModuleOp module) {
  auto programs = llvm::to_vector(module.getOps<plan::ProgramOp>());
  if (programs.size() != 1)
    return peft::badInput("a plan is one plan.program; found " +
                          std::to_string(programs.size()));
  PEFT_ASSIGN(peft::Plan result, PlanWriter().write(programs.front()));
  if (peft::Status status = peft::verifyPlan(result); !status.ok())
    return peft::internalError("the plan does not verify: " + status.message());
  return result;
}
