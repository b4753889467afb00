//===- PlanEncode.cpp - Plan to FlatBuffers bytes -------------------------===//
//
// Empty strings and vectors are left out, equal strings are stored once, and
// fields are written in one order: the same plan gives the same bytes.
//
//===----------------------------------------------------------------------===//
#include "peft/Plan.h"

#include "plan_generated.h"

namespace peft {
namespace {

using flatbuffers::Offset;

class Encoder {
public:
  std::string encode(const Plan &plan);

private:
  Offset<flatbuffers::String> text(const std::string &value) {
    return value.empty() ? 0 : builder.CreateSharedString(value);
  }
  template <typename T>
  Offset<flatbuffers::Vector<T>> numbers(const std::vector<T> &values) {
    return values.empty() ? 0 : builder.CreateVector(values);
  }
  /// A vector of what `one` makes of each value.
  template <typename T, typename Function>
  auto tables(const std::vector<T> &values, Function one)
      -> Offset<flatbuffers::Vector<decltype(one(values[0]))>> {
    if (values.empty())
      return 0;
    std::vector<decltype(one(values[0]))> offsets;
    offsets.reserve(values.size());
    for (const T &value : values)
      offsets.push_back(one(value));
    return builder.CreateVector(offsets);
  }

  Offset<fb::Buffer> buffer(const Buffer &buffer);
  Offset<fb::Weight> weight(const Weight &weight);
  Offset<fb::Parameter> parameter(const Parameter &parameter);
  Offset<fb::Attribute> attribute(const Attribute &attribute);
  Offset<fb::Launch> launch(const Launch &launch);
  Offset<fb::Item> item(const Item &item);
  Offset<fb::Entry> entry(const Entry &entry);

  flatbuffers::FlatBufferBuilder builder{1 << 20};
};

template <typename To, typename From> To as(From value) {
  return static_cast<To>(value);
}

Offset<fb::Buffer> Encoder::buffer(const Buffer &buffer) {
  auto name = text(buffer.name);
  auto shape = numbers(buffer.shape);
  return fb::CreateBuffer(builder, name, buffer.arena, buffer.offset,
                          buffer.size, as<fb::DType>(buffer.dtype), shape,
                          buffer.entry, buffer.weight,
                          as<fb::BufferClass>(buffer.kind));
}

Offset<fb::Weight> Encoder::weight(const Weight &weight) {
  auto name = text(weight.name);
  auto shape = numbers(weight.shape);
  auto slices = tables(weight.slices, [&](const Slice &slice) {
    return fb::CreateSlice(builder, slice.axis, slice.start, slice.extent);
  });
  return fb::CreateWeight(builder, name, as<fb::DType>(weight.dtype), shape,
                          slices, as<fb::WeightPart>(weight.part), weight.of,
                          weight.block, weight.nested);
}

Offset<fb::Parameter> Encoder::parameter(const Parameter &parameter) {
  auto name = text(parameter.name);
  auto module = text(parameter.module);
  auto gradients = numbers(parameter.gradients);
  return fb::CreateParameter(
      builder, name, module, parameter.buffer, gradients, parameter.firstMoment,
      parameter.secondMoment, parameter.group, parameter.decay,
      parameter.zeroGradientAtStart, as<fb::DType>(parameter.sourceType),
      parameter.firstScale, parameter.secondScale);
}

Offset<fb::Attribute> Encoder::attribute(const Attribute &attribute) {
  auto name = text(attribute.name);
  fb::AttributeKind kind = as<fb::AttributeKind>(attribute.value.index());
  if (const auto *integer = std::get_if<int64_t>(&attribute.value))
    return fb::CreateAttribute(builder, name, kind, *integer);
  if (const auto *real = std::get_if<double>(&attribute.value))
    return fb::CreateAttribute(builder, name, kind, 0, *real);
  auto reals = numbers(std::get<std::vector<float>>(attribute.value));
  return fb::CreateAttribute(builder, name, kind, 0, 0, reals);
}

Offset<fb::Launch> Encoder::launch(const Launch &launch) {
  auto kernel = text(launch.kernel);
  auto operands = numbers(launch.operands);
  auto attributes = tables(
      launch.attributes, [&](const Attribute &one) { return attribute(one); });
  Offset<fb::Predicate> predicate;
  if (launch.predicate.buffer != none)
    predicate = fb::CreatePredicate(builder, launch.predicate.buffer,
                                    launch.predicate.above);
  auto module = text(launch.module);
  return fb::CreateLaunch(builder, kernel, operands, attributes,
                          launch.sharedWorkspace, launch.threadWorkspace,
                          predicate, module, launch.recomputed);
}

Offset<fb::Item> Encoder::item(const Item &item) {
  auto make = [&](fb::Action type, auto offset) {
    return fb::CreateItem(builder, item.stream, type, offset.Union());
  };
  if (const auto *action = std::get_if<Launch>(&item.action))
    return make(fb::Action::Launch, launch(*action));
  if (const auto *copy = std::get_if<Copy>(&item.action))
    return make(fb::Action::Copy,
                fb::CreateCopy(builder, copy->source, copy->destination,
                               copy->sourceOffset, copy->destinationOffset,
                               copy->size));
  if (const auto *collective = std::get_if<Collective>(&item.action)) {
    auto module = text(collective->module);
    return make(fb::Action::Collective,
                fb::CreateCollective(
                    builder, as<fb::CollectiveKind>(collective->kind),
                    collective->source, collective->destination, module));
  }
  if (const auto *record = std::get_if<Record>(&item.action))
    return make(fb::Action::Record, fb::CreateRecord(builder, record->event));
  return make(fb::Action::Wait,
              fb::CreateWait(builder, std::get<Wait>(item.action).event));
}

Offset<fb::Entry> Encoder::entry(const Entry &entry) {
  auto name = text(entry.name);
  auto items = tables(entry.items, [&](const Item &one) { return item(one); });
  return fb::CreateEntry(builder, name, items, entry.localBytes,
                         entry.lowerBound);
}

std::string Encoder::encode(const Plan &plan) {
  auto producer = text(plan.producer), modelName = text(plan.modelName),
       headerHash = text(plan.headerHash), modelConfig = text(plan.modelConfig),
       adapterConfig = text(plan.adapterConfig), target = text(plan.target);
  auto arenas = tables(plan.arenas, [&](const Arena &arena) {
    return fb::CreateArena(builder, as<fb::Space>(arena.space),
                           arena.persistentBytes, arena.size);
  });
  auto buffers =
      tables(plan.buffers, [&](const Buffer &one) { return buffer(one); });
  auto weights =
      tables(plan.weights, [&](const Weight &one) { return weight(one); });
  auto initializers = tables(plan.initializers, [&](const Initializer &start) {
    return fb::CreateInitializer(
        builder, start.buffer, as<fb::InitializerKind>(start.kind),
        start.weight, start.standardDeviation, start.stream);
  });
  auto groups = tables(plan.groups, [&](const Group &group) {
    auto name = text(group.name);
    return fb::CreateGroup(builder, name, group.rateFactor, group.lossSum,
                           group.tokens, group.normSquare);
  });
  auto parameters = tables(
      plan.parameters, [&](const Parameter &one) { return parameter(one); });
  auto ports = tables(plan.ports, [&](const Port &port) {
    auto name = text(port.name);
    return fb::CreatePort(builder, as<fb::PortKind>(port.kind), name,
                          port.buffer);
  });
  std::vector<uint8_t> engines;
  for (Engine engine : plan.streams)
    engines.push_back(as<uint8_t>(engine));
  Offset<flatbuffers::Vector<fb::Engine>> streams(numbers(engines).o);
  auto entries =
      tables(plan.entries, [&](const Entry &one) { return entry(one); });
  auto remarks = tables(plan.remarks, [&](const Remark &remark) {
    auto pass = text(remark.pass), module = text(remark.module),
         message = text(remark.message);
    return fb::CreateRemark(builder, pass, module, message);
  });
  auto root = fb::CreatePlan(
      builder, 1, producer, modelName, headerHash, modelConfig, adapterConfig,
      target, as<fb::DType>(plan.compute), plan.batch, plan.seq, plan.vocab,
      plan.maxThreads, plan.shard, plan.tensorParallel, arenas, buffers,
      weights, initializers, groups, parameters, ports, streams, entries,
      remarks, as<fb::DeviceKind>(plan.deviceKind));
  fb::FinishPlanBuffer(builder, root);
  return std::string(reinterpret_cast<const char *>(builder.GetBufferPointer()),
                     builder.GetSize());
}

} // namespace

std::string serializePlan(const Plan &plan) { return Encoder().encode(plan); }

} // namespace peft
