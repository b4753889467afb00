//===- PlanBuilder.cpp - buffers and launches of a plan -------------------===//
#include "PlanBuilder.h"

#include "peftc/Target/PlanTypes.h"

#include "mlir/IR/Diagnostics.h"
#include "llvm/Support/MathExtras.h"

using namespace mlir;
using namespace peftc;

RankedTensorType peftc::flatten(RankedTensorType type, int dimensions) {
  if (dimensions == 1 || type.getRank() <= 1)
    return type.clone({type.getNumElements()});
  int64_t columns = type.getShape().back();
  int64_t rows = columns ? type.getNumElements() / columns : 0;
  return type.clone({rows, columns});
}

uint64_t peftc::hashName(StringRef text) {
  uint64_t hash = 0xcbf29ce484222325;
  for (unsigned char byte : text)
    hash = (hash ^ byte) * 0x100000001b3;
  hash = (hash ^ hash >> 30) * 0xbf58476d1ce4e5b9;
  hash = (hash ^ hash >> 27) * 0x94d049bb133111eb;
  return hash ^ hash >> 31;
}

//===----------------------------------------------------------------------===//
// KernelCall
//===----------------------------------------------------------------------===//

static const peft::KernelSpec &kernelNamed(StringRef name) {
  const peft::KernelSpec *spec =
      peft::findKernel(std::string_view(name.data(), name.size()));
  assert(spec && "the conversion names a kernel that kernels.def lacks");
  return *spec;
}

KernelCall::KernelCall(StringRef kernel, std::string module, int64_t stream)
    : spec(kernelNamed(kernel)), module(std::move(module)), stream(stream),
      operands(spec.operands.size()) {
  for (const peft::AttributeSpec &attribute : spec.attributes)
    attributes.push_back({attribute.integerDefault, attribute.realDefault, {}});
}

KernelCall &KernelCall::operand(int index, Value buffer) {
  operands[index] = buffer;
  return *this;
}

KernelCall &KernelCall::operand(StringRef name, Value buffer) {
  int index = spec.findOperand(std::string_view(name.data(), name.size()));
  assert(index >= 0 && "no such operand");
  return operand(index, buffer);
}

KernelCall &KernelCall::set(int attribute, int64_t value) {
  attributes[attribute].integer = value;
  return *this;
}

KernelCall &KernelCall::set(int attribute, double value) {
  attributes[attribute].real = value;
  return *this;
}

KernelCall &KernelCall::set(int attribute, ArrayRef<float> values) {
  attributes[attribute].reals = {values.data(), values.size()};
  return *this;
}

static int attributeNamed(const peft::KernelSpec &spec, StringRef name) {
  int index = spec.findAttribute(std::string_view(name.data(), name.size()));
  assert(index >= 0 && "no such attribute");
  return index;
}

KernelCall &KernelCall::set(StringRef attribute, int64_t value) {
  return set(attributeNamed(spec, attribute), value);
}

KernelCall &KernelCall::set(StringRef attribute, double value) {
  return set(attributeNamed(spec, attribute), value);
}

KernelCall &KernelCall::onlyIf(Value buffer, int64_t least) {
  predicate = buffer;
  above = least;
  return *this;
}

KernelCall &KernelCall::again() {
  recomputed = true;
  return *this;
}

//===----------------------------------------------------------------------===//
// PlanBuilder
//===----------------------------------------------------------------------===//

Value PlanBuilder::remember(Value buffer, RankedTensorType type) {
  Shape &shape = shapes.emplace_back();
  shape.type = *dtypeOf(type.getElementType());
  shape.extents.assign(type.getShape().begin(), type.getShape().end());
  shapeOf[buffer] = &shape;
  return buffer;
}

void PlanBuilder::addArenas(Location loc) {
  IntegerAttr zero = builder.getI64IntegerAttr(0);
  plan::ArenaOp::create(builder, loc, builder.getStringAttr("device"), zero,
                        zero);
  if (device != peft::DeviceKind::cpu)
    plan::ArenaOp::create(builder, loc, builder.getStringAttr("pageable"), zero,
                          zero);
}

Value PlanBuilder::addBuffer(Location loc, const Twine &name,
                             RankedTensorType type, StringRef kind,
                             int64_t arena) {
  OpBuilder::InsertionGuard guard(builder);
  if (firstItem)
    builder.setInsertionPoint(firstItem);
  Value buffer = plan::BufferOp::create(
      builder, loc, plan::BufferType::get(builder.getContext()),
      builder.getStringAttr(name), TypeAttr::get(type),
      builder.getStringAttr(kind), builder.getI64IntegerAttr(arena),
      IntegerAttr(), IntegerAttr(), DenseI64ArrayAttr());
  return remember(buffer, type);
}

Value PlanBuilder::addMapped(Location loc, StringRef name,
                             RankedTensorType type, int64_t weight) {
  Value buffer = plan::BufferOp::create(
      builder, loc, plan::BufferType::get(builder.getContext()),
      builder.getStringAttr(name), TypeAttr::get(type),
      builder.getStringAttr("base"), IntegerAttr(), IntegerAttr(),
      builder.getI64IntegerAttr(weight), DenseI64ArrayAttr());
  return remember(buffer, type);
}

void PlanBuilder::startEntry(Location loc, StringRef name) {
  auto entry = plan::EntryOp::create(builder, loc, name);
  builder.createBlock(&entry->getRegion(0));
  firstItem = nullptr;
  streamWorkspaces.clear();
}

void PlanBuilder::endEntry() {
  builder.setInsertionPointAfter(builder.getInsertionBlock()->getParentOp());
  firstItem = nullptr;
}

FailureOr<peft::LaunchShape>
PlanBuilder::bind(Location loc, const KernelCall &call,
                  std::vector<peft::DType> &types) {
  SmallVector<peft::OperandShape> operands;
  for (Value buffer : call.operands) {
    peft::OperandShape &operand = operands.emplace_back();
    if (!buffer)
      continue;
    const Shape *shape = shapeOf.lookup(buffer);
    operand = {true, shape->type, shape->extents};
  }
  auto refuse = [&](const peft::Status &status) {
    return emitError(loc) << "kernel '" << call.spec.name
                          << "' cannot serve this op: " << status.message();
  };
  std::span values(call.attributes.data(), call.attributes.size());
  if (peft::Status status = peft::checkAttributes(call.spec, values);
      !status.ok())
    return refuse(status);
  auto bound = peft::bindShapes(
      call.spec, {operands.data(), operands.size()}, values, types);
  if (!bound.ok())
    return refuse(bound.status());
  return *bound;
}

Value PlanBuilder::addWorkspace(Location loc, const KernelCall &call,
                                StringRef which, uint64_t bytes,
                                int64_t arena) {
  if (!bytes)
    return {};
  // An extent of a plan has 31 bits; larger workspaces become whole rows.
  constexpr int64_t row = 65536;
  SmallVector<int64_t> shape = {static_cast<int64_t>(bytes)};
  if (bytes > INT32_MAX)
    shape = {static_cast<int64_t>(llvm::divideCeil(bytes, row)), row};
  auto type = RankedTensorType::get(
      shape, IntegerType::get(builder.getContext(), 8, IntegerType::Unsigned));
  if (call.stream == 0)
    return addBuffer(
        loc,
        Twine(call.module) + "/" +
            StringRef(call.spec.name.data(), call.spec.name.size()) + "." +
            which,
        type, "workspace", arena);
  std::string name = ("stream " + Twine(call.stream) + "." + which).str();
  Value &buffer = streamWorkspaces[name];
  if (!buffer)
    buffer = addBuffer(loc, name, type, "workspace", arena);
  auto op = buffer.getDefiningOp<plan::BufferOp>();
  if (type.getNumElements() >
      cast<RankedTensorType>(op.getType()).getNumElements())
    op.setType(type);
  return buffer;
}

/// The attributes that differ from their defaults.
static DictionaryAttr settingsOf(Builder &builder, const peft::KernelSpec &spec,
                                 ArrayRef<peft::AttributeValue> values) {
  SmallVector<NamedAttribute> settings;
  for (auto [attribute, value] : llvm::zip_equal(spec.attributes, values)) {
    StringRef name(attribute.name.data(), attribute.name.size());
    using Kind = peft::AttributeSpec::Kind;
    if (attribute.kind == Kind::integer &&
        value.integer != attribute.integerDefault)
      settings.push_back(
          builder.getNamedAttr(name, builder.getI64IntegerAttr(value.integer)));
    else if (attribute.kind == Kind::real &&
             value.real != attribute.realDefault)
      settings.push_back(
          builder.getNamedAttr(name, builder.getF64FloatAttr(value.real)));
    else if (attribute.kind == Kind::reals)
      settings.push_back(builder.getNamedAttr(
          name, builder.getDenseF32ArrayAttr(
                    ArrayRef(value.reals.data(), value.reals.size()))));
  }
  return builder.getDictionaryAttr(settings);
}

LogicalResult PlanBuilder::launch(Location loc, const KernelCall &call) {
  std::vector<peft::DType> types;
  FailureOr<peft::LaunchShape> shape = bind(loc, call, types);
  if (failed(shape))
    return failure();
  // The verifier's own numbers.
  peft::WorkspaceNeed need = peft::workspaceNeed(
      call.spec, *shape, static_cast<uint32_t>(maxThreads), device);
  Value shared = addWorkspace(loc, call, "shared", need.shared, 0);
  Value thread = addWorkspace(loc, call, "thread", need.thread,
                              device == peft::DeviceKind::cpu ? 0 : 1);
  SmallVector<Value> given;
  int64_t present = 0;
  for (auto [index, buffer] : llvm::enumerate(call.operands))
    if (buffer) {
      given.push_back(buffer);
      present |= int64_t(1) << index;
    }
  StringRef name(call.spec.name.data(), call.spec.name.size());
  Operation *op = plan::LaunchOp::create(
      builder, loc, builder.getStringAttr(name),
      builder.getI64IntegerAttr(call.stream), given, shared, thread,
      call.predicate, builder.getI64IntegerAttr(present),
      settingsOf(builder, call.spec, call.attributes),
      builder.getI64IntegerAttr(call.above),
      builder.getStringAttr(call.module),
      call.recomputed ? builder.getUnitAttr() : UnitAttr());
  if (!firstItem)
    firstItem = op;
  return success();
}
