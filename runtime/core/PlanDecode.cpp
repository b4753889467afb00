//===- PlanDecode.cpp - FlatBuffers bytes to Plan -------------------------===//
//
// Bytes come from anybody. FlatBuffers' verifier runs first, with limits; then
// every enumerator is checked and every vector is counted against a budget,
// because a small file can refer to one long string a million times.
//
//===----------------------------------------------------------------------===//
#include "peft/Plan.h"

#include "plan_generated.h"

#include <cstring>

namespace peft {
namespace {

constexpr uint64_t fileLimit = uint64_t(1) << 31; ///< FlatBuffers' own
constexpr unsigned depthLimit = 8; ///< Plan > Entry > ... needs 6
constexpr unsigned tableLimit = 16u << 20;

class Decoder {
public:
  explicit Decoder(uint64_t fileSize)
      : budget((uint64_t(64) << 20) + 64 * fileSize) {}

  Expected<Plan> decode(const fb::Plan &source);

private:
  /// Notes `bytes` of decoded data; false when the file asks for too much.
  bool spend(uint64_t bytes) {
    if (bytes > budget)
      return fail("the file expands to more than a plan of its size may");
    budget -= bytes;
    return true;
  }
  bool fail(const std::string &message) {
    if (failure.ok())
      failure = badInput(message);
    return false;
  }

  void text(const flatbuffers::String *source, std::string &value) {
    if (source && spend(source->size()))
      value.assign(source->c_str(), source->size());
  }
  template <typename T>
  void numbers(const flatbuffers::Vector<T> *source, std::vector<T> &values) {
    if (!source || source->size() == 0 || !spend(source->size() * sizeof(T)))
      return;
    // The verifier does not say that the elements are aligned.
    values.resize(source->size());
    std::memcpy(values.data(), source->Data(), values.size() * sizeof(T));
  }
  template <typename To, typename From>
  void enumerator(From source, From last, const char *what, To &value) {
    if (static_cast<uint8_t>(source) > static_cast<uint8_t>(last))
      fail("there is no " + std::string(what) + " number " +
           std::to_string(static_cast<unsigned>(source)));
    else
      value = static_cast<To>(source);
  }
  void dtype(fb::DType source, DType &value) {
    enumerator(source, fb::DType::fp4, "element type", value);
  }
  /// Decodes a vector of tables, each by the overload of `one`.
  template <typename From, typename To>
  void tables(const flatbuffers::Vector<flatbuffers::Offset<From>> *source,
              std::vector<To> &values) {
    if (!source || !spend(source->size() * sizeof(To)))
      return;
    values.resize(source->size());
    for (uint32_t i = 0; i < source->size() && failure.ok(); ++i)
      one(*source->Get(i), values[i]);
  }

  void one(const fb::Arena &source, Arena &arena);
  void one(const fb::Buffer &source, Buffer &buffer);
  void one(const fb::Slice &source, Slice &slice);
  void one(const fb::Weight &source, Weight &weight);
  void one(const fb::Initializer &source, Initializer &initializer);
  void one(const fb::Group &source, Group &group);
  void one(const fb::Parameter &source, Parameter &parameter);
  void one(const fb::Port &source, Port &port);
  void one(const fb::Attribute &source, Attribute &attribute);
  void one(const fb::Item &source, Item &item);
  void one(const fb::Entry &source, Entry &entry);
  void one(const fb::Remark &source, Remark &remark);
  Launch launch(const fb::Launch &source);
  Collective collective(const fb::Collective &source);

  uint64_t budget;
  Status failure;
};

void Decoder::one(const fb::Arena &source, Arena &arena) {
  enumerator(source.space(), fb::Space::mapping, "memory space", arena.space);
  arena.persistentBytes = source.persistent_bytes();
  arena.size = source.size();
}

void Decoder::one(const fb::Buffer &source, Buffer &buffer) {
  text(source.name(), buffer.name);
  buffer.arena = source.arena();
  buffer.offset = source.offset();
  buffer.size = source.size();
  dtype(source.dtype(), buffer.dtype);
  numbers(source.shape(), buffer.shape);
  buffer.entry = source.entry();
  buffer.weight = source.weight();
  enumerator(source.kind(), fb::BufferClass::scalar, "buffer class",
             buffer.kind);
}

void Decoder::one(const fb::Slice &source, Slice &slice) {
  slice = {source.axis(), source.start(), source.extent()};
}

void Decoder::one(const fb::Weight &source, Weight &weight) {
  text(source.name(), weight.name);
  dtype(source.dtype(), weight.dtype);
  numbers(source.shape(), weight.shape);
  tables(source.slices(), weight.slices);
  enumerator(source.part(), fb::WeightPart::tables, "part of a weight",
             weight.part);
  weight.of = source.of();
  weight.block = source.block();
  weight.nested = source.nested();
}

void Decoder::one(const fb::Initializer &source, Initializer &initializer) {
  initializer.buffer = source.buffer();
  enumerator(source.kind(), fb::InitializerKind::gaussian,
             "kind of initial value", initializer.kind);
  initializer.weight = source.weight();
  initializer.standardDeviation = source.standard_deviation();
  initializer.stream = source.stream();
}

void Decoder::one(const fb::Group &source, Group &group) {
  text(source.name(), group.name);
  group.rateFactor = source.rate_factor();
  group.lossSum = source.loss_sum();
  group.tokens = source.tokens();
  group.normSquare = source.norm_square();
}

void Decoder::one(const fb::Parameter &source, Parameter &parameter) {
  text(source.name(), parameter.name);
  text(source.module_path(), parameter.module);
  parameter.buffer = source.buffer();
  numbers(source.gradients(), parameter.gradients);
  parameter.firstMoment = source.first_moment();
  parameter.secondMoment = source.second_moment();
  parameter.group = source.group();
  parameter.decay = source.decay();
  parameter.zeroGradientAtStart = source.zero_gradient_at_start();
  dtype(source.source_type(), parameter.sourceType);
  parameter.firstScale = source.first_scale();
  parameter.secondScale = source.second_scale();
}

void Decoder::one(const fb::Port &source, Port &port) {
  enumerator(source.kind(), fb::PortKind::output, "kind of port", port.kind);
  text(source.name(), port.name);
  port.buffer = source.buffer();
}

void Decoder::one(const fb::Attribute &source, Attribute &attribute) {
  text(source.name(), attribute.name);
  switch (source.kind()) {
  case fb::AttributeKind::integer:
    attribute.value = source.integer();
    return;
  case fb::AttributeKind::real:
    attribute.value = source.real();
    return;
  case fb::AttributeKind::reals:
    numbers(source.reals(), attribute.value.emplace<std::vector<float>>());
    return;
  }
  fail("there is no kind of attribute number " +
       std::to_string(static_cast<unsigned>(source.kind())));
}

Launch Decoder::launch(const fb::Launch &source) {
  Launch launch;
  text(source.kernel(), launch.kernel);
  numbers(source.operands(), launch.operands);
  tables(source.attributes(), launch.attributes);
  launch.sharedWorkspace = source.shared_workspace();
  launch.threadWorkspace = source.thread_workspace();
  if (const fb::Predicate *predicate = source.predicate())
    launch.predicate = {predicate->buffer(), predicate->above()};
  text(source.module_path(), launch.module);
  launch.recomputed = source.recomputed();
  return launch;
}

Collective Decoder::collective(const fb::Collective &source) {
  Collective collective;
  enumerator(source.kind(), fb::CollectiveKind::broadcast, "kind of collective",
             collective.kind);
  collective.source = source.source();
  collective.destination = source.destination();
  text(source.module_path(), collective.module);
  return collective;
}

void Decoder::one(const fb::Item &source, Item &item) {
  item.stream = source.stream();
  if (const fb::Launch *action = source.action_as_Launch())
    item.action = launch(*action);
  else if (const fb::Copy *copy = source.action_as_Copy())
    item.action =
        Copy{copy->source(), copy->destination(), copy->source_offset(),
             copy->destination_offset(), copy->size()};
  else if (const fb::Collective *action = source.action_as_Collective())
    item.action = collective(*action);
  else if (const fb::Record *record = source.action_as_Record())
    item.action = Record{record->event()};
  else if (const fb::Wait *wait = source.action_as_Wait())
    item.action = Wait{wait->event()};
  else
    fail("an item has no action, or one that this version does not know");
}

void Decoder::one(const fb::Entry &source, Entry &entry) {
  text(source.name(), entry.name);
  tables(source.items(), entry.items);
  entry.localBytes = source.local_bytes();
  entry.lowerBound = source.lower_bound();
}

void Decoder::one(const fb::Remark &source, Remark &remark) {
  text(source.pass(), remark.pass);
  text(source.module_path(), remark.module);
  text(source.message(), remark.message);
}

Expected<Plan> Decoder::decode(const fb::Plan &source) {
  if (source.version() != 1)
    return badInput("it is version " + std::to_string(source.version()) +
                    " of the plan format; this program reads version 1");
  Plan plan;
  text(source.producer(), plan.producer);
  text(source.model_name(), plan.modelName);
  text(source.header_hash(), plan.headerHash);
  text(source.model_config(), plan.modelConfig);
  text(source.adapter_config(), plan.adapterConfig);
  plan.target.clear();
  text(source.target(), plan.target);
  enumerator(source.device_kind(), fb::DeviceKind::cuda, "device kind",
             plan.deviceKind);
  dtype(source.compute(), plan.compute);
  plan.batch = source.batch();
  plan.seq = source.seq();
  plan.vocab = source.vocab();
  plan.maxThreads = source.max_threads();
  plan.shard = source.shard();
  plan.tensorParallel = source.tensor_parallel();
  tables(source.arenas(), plan.arenas);
  tables(source.buffers(), plan.buffers);
  tables(source.weights(), plan.weights);
  tables(source.initializers(), plan.initializers);
  tables(source.groups(), plan.groups);
  tables(source.parameters(), plan.parameters);
  tables(source.ports(), plan.ports);
  if (source.streams() && spend(source.streams()->size()))
    for (uint32_t i = 0; i < source.streams()->size(); ++i)
      enumerator(source.streams()->Get(i), fb::Engine::collective, "engine",
                 plan.streams.emplace_back());
  tables(source.entries(), plan.entries);
  tables(source.remarks(), plan.remarks);
  if (!failure.ok())
    return failure;
  return plan;
}

Expected<Plan> decodeAligned(std::span<const std::byte> bytes) {
  const auto *data = reinterpret_cast<const uint8_t *>(bytes.data());
  if (bytes.size() < 8 || !fb::PlanBufferHasIdentifier(data))
    return badInput("it is not a plan: the identifier PEFT is missing");
  flatbuffers::Verifier verifier(data, bytes.size(), depthLimit, tableLimit);
  if (!fb::VerifyPlanBuffer(verifier))
    return badInput("it is damaged: its tables do not hold together");
  return Decoder(bytes.size()).decode(*fb::GetPlan(data));
}

} // namespace

Expected<Plan> decodePlan(std::span<const std::byte> bytes) {
  if (bytes.size() >= fileLimit)
    return badInput("it is " + std::to_string(bytes.size()) +
                    " bytes long; a plan is below 2 GiB");
  if (reinterpret_cast<uintptr_t>(bytes.data()) % alignof(uint64_t) == 0)
    return decodeAligned(bytes);
  // Tables are read in place, so their numbers have to be aligned.
  std::vector<uint64_t> aligned(bytes.size() / sizeof(uint64_t) + 1);
  std::memcpy(aligned.data(), bytes.data(), bytes.size());
  return decodeAligned(
      {reinterpret_cast<const std::byte *>(aligned.data()), bytes.size()});
}

} // namespace peft
