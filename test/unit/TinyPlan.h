//===- TinyPlan.h - a small complete plan for tests -------------*- C++ -*-===//
//
// A plan made by hand that trains one [4, 8] parameter `a` on two streams:
//
//   micro_step  s0: x = table[ids], y = x a^T, compact labels, z = y + y,
//                   loss_sum += |z|^2, tokens += count, out <- z (copy),
//                   then zeros over the bytes of x
//               s1: a.grad += y^T x
//   update      s1: norm_square += |a.grad|^2
//               s0: finish_step, adamw, a.grad = 0 (both if apply > 0)
//
// Every wait in it is needed, and `zeros` reuses the bytes of `x`.
//
//===----------------------------------------------------------------------===//
#ifndef PEFT_TEST_TINYPLAN_H
#define PEFT_TEST_TINYPLAN_H

#include "peft/KernelSpec.h"
#include "peft/Plan.h"

#include <algorithm>
#include <cstring>
#include <map>
#include <stdexcept>
#include <string>
#include <vector>

namespace peft::test {

/// Lays out buffers one after the other and finds them by name.
class PlanBuilder {
public:
  PlanBuilder() {
    plan.producer = "test";
    plan.modelName = "tiny";
    plan.compute = DType::f32;
    plan.seq = 4;
    plan.vocab = 10;
    plan.maxThreads = 4;
    plan.arenas.push_back({Space::device, 0, 0});
    plan.streams = {Engine::compute, Engine::compute};
  }

  uint32_t persistent(const std::string &name, DType type,
                      std::vector<uint64_t> shape, BufferClass kind) {
    uint32_t index = add(name, type, std::move(shape), kind);
    plan.buffers[index].offset = persistentBytes;
    persistentBytes += aligned(plan.buffers[index].size);
    return index;
  }
  /// After the other local buffers of the entry.
  uint32_t local(const std::string &name, DType type,
                 std::vector<uint64_t> shape,
                 BufferClass kind = BufferClass::activation) {
    uint32_t index = add(name, type, std::move(shape), kind);
    Buffer &buffer = plan.buffers[index];
    buffer.entry = static_cast<uint32_t>(plan.entries.size() - 1);
    buffer.offset = plan.entries.back().localBytes;
    plan.entries.back().localBytes += aligned(buffer.size);
    return index;
  }
  /// A local buffer over the bytes of another.
  uint32_t reuse(const std::string &name, const std::string &of) {
    Buffer buffer = plan.buffers[index(of)];
    buffer.name = name;
    plan.buffers.push_back(buffer);
    return names[name] = static_cast<uint32_t>(plan.buffers.size() - 1);
  }
  uint32_t mapped(const std::string &name, DType type,
                  std::vector<uint64_t> shape) {
    plan.weights.push_back({name, type, shape, {}});
    uint32_t index = add(name, type, std::move(shape), BufferClass::base);
    plan.buffers[index].arena = none;
    plan.buffers[index].weight = static_cast<uint32_t>(plan.weights.size() - 1);
    return index;
  }
  void port(Port::Kind kind, const std::string &name) {
    plan.ports.push_back({kind, name, index(name)});
  }
  void entry(const std::string &name) {
    plan.entries.push_back({name, {}, 0, 0});
    scratchBytes = 0;
  }

  /// Operands are names; "" is an absent one, as are those behind the last.
  /// Workspaces are made as needed.
  Launch &launch(uint32_t stream, const std::string &kernel,
                 const std::vector<std::string> &operands,
                 std::vector<Attribute> attributes = {}) {
    Launch launch;
    launch.kernel = kernel;
    launch.module = "tiny." + kernel;
    launch.attributes = std::move(attributes);
    for (const std::string &operand : operands)
      launch.operands.push_back(operand.empty() ? none : index(operand));
    if (const KernelSpec *spec = findKernel(kernel))
      launch.operands.resize(spec->operands.size(), none);
    addWorkspaces(launch);
    plan.entries.back().items.push_back({stream, std::move(launch)});
    return std::get<Launch>(plan.entries.back().items.back().action);
  }
  void item(uint32_t stream,
            std::variant<Launch, Copy, Collective, Record, Wait> action) {
    plan.entries.back().items.push_back({stream, std::move(action)});
  }
  uint32_t index(const std::string &name) const { return names.at(name); }

  /// Moves the local buffers behind the persistent ones.
  Plan finish() {
    plan.arenas[0].persistentBytes = persistentBytes;
    plan.arenas[0].size = persistentBytes;
    for (Entry &entry : plan.entries)
      plan.arenas[0].size =
          std::max(plan.arenas[0].size, persistentBytes + entry.localBytes);
    for (Buffer &buffer : plan.buffers)
      if (buffer.entry != none)
        buffer.offset += buffer.arena == 0 ? persistentBytes : 0;
    return plan;
  }

  Plan plan;

private:
  uint64_t aligned(uint64_t size) const {
    uint64_t unit =
        plan.deviceKind == DeviceKind::cuda ? cardAlignment : bufferAlignment;
    return (size + unit - 1) / unit * unit;
  }

  uint32_t add(const std::string &name, DType type, std::vector<uint64_t> shape,
               BufferClass kind) {
    Buffer buffer;
    buffer.name = name;
    buffer.arena = 0;
    buffer.dtype = type;
    buffer.shape = std::move(shape);
    buffer.size = byteCount(type, buffer.elements());
    buffer.kind = kind;
    plan.buffers.push_back(buffer);
    return names[name] = static_cast<uint32_t>(plan.buffers.size() - 1);
  }

  void addWorkspaces(Launch &launch) {
    const KernelSpec &spec = *findKernel(launch.kernel);
    std::vector<OperandShape> shapes;
    for (uint32_t operand : launch.operands)
      if (operand == none)
        shapes.emplace_back();
      else
        shapes.push_back(
            {true, plan.buffers[operand].dtype, plan.buffers[operand].shape});
    std::vector<DType> types;
    auto attributes = bindAttributes(spec, launch);
    auto shape = bindShapes(spec, shapes, *attributes, types);
    WorkspaceNeed need =
        workspaceNeed(spec, *shape, plan.maxThreads, plan.deviceKind);
    std::string name = "ws" + std::to_string(plan.buffers.size());
    if (need.shared)
      launch.sharedWorkspace =
          local(name + "s", DType::u8, {need.shared}, BufferClass::workspace);
    if (need.thread && plan.deviceKind == DeviceKind::cpu)
      launch.threadWorkspace =
          local(name + "t", DType::u8, {need.thread}, BufferClass::workspace);
    else if (need.thread)
      launch.threadWorkspace = hostScratch(name + "t", need.thread);
  }

  /// In a plan for a card: a local buffer of the second, pageable arena.
  uint32_t hostScratch(const std::string &name, uint64_t bytes) {
    plan.arenas.resize(2);
    plan.arenas[1].space = Space::pageable;
    uint32_t index = add(name, DType::u8, {bytes}, BufferClass::workspace);
    Buffer &buffer = plan.buffers[index];
    buffer.entry = static_cast<uint32_t>(plan.entries.size() - 1);
    buffer.arena = 1;
    buffer.offset = scratchBytes;
    scratchBytes += (bytes + bufferAlignment - 1) / bufferAlignment *
                    bufferAlignment;
    plan.arenas[1].size = std::max(plan.arenas[1].size, scratchBytes);
    return index;
  }

  std::map<std::string, uint32_t> names;
  uint64_t persistentBytes = 0;
  uint64_t scratchBytes = 0; ///< of the current entry
};

inline void addTinyState(PlanBuilder &builder) {
  using enum BufferClass;
  builder.mapped("table", DType::f32, {10, 8});
  builder.persistent("a", DType::f32, {4, 8}, adapter);
  builder.persistent("a.grad", DType::f32, {4, 8}, gradient);
  builder.persistent("a.m", DType::f32, {4, 8}, optimizer);
  builder.persistent("a.v", DType::f32, {4, 8}, optimizer);
  builder.persistent("input_ids", DType::i32, {4}, input);
  builder.persistent("labels", DType::i32, {4}, input);
  builder.persistent("out", DType::f32, {4, 4}, input);
  for (const char *name : {"loss_sum", "norm_square"})
    builder.persistent(name, DType::f64, {1}, scalar);
  builder.persistent("tokens", DType::i64, {1}, scalar);
  for (const char *name : {"learning_rate", "beta1", "beta2", "epsilon",
                           "weight_decay", "max_grad_norm"}) {
    builder.persistent(name, DType::f64, {1}, scalar);
    builder.port(Port::Kind::scalar, name);
  }
  builder.persistent("optimizer_step", DType::i32, {1}, optimizer);
  builder.persistent("adam", DType::f64, {8}, scalar);
  builder.persistent("metrics", DType::f64, {4}, scalar);
  builder.persistent("apply", DType::i32, {1}, scalar);
  builder.port(Port::Kind::input, "input_ids");
  builder.port(Port::Kind::input, "labels");
  for (const char *name : {"out", "metrics", "loss_sum", "tokens"})
    builder.port(Port::Kind::output, name);
}

inline void addTinyMicroStep(PlanBuilder &builder) {
  builder.entry("micro_step");
  builder.local("x", DType::f32, {4, 8});
  builder.local("y", DType::f32, {4, 4});
  builder.local("z", DType::f32, {4, 4});
  for (const char *name : {"index", "target"})
    builder.local(name, DType::i32, {4});
  builder.local("count", DType::i32, {1});
  builder.launch(0, "embed_fwd", {"input_ids", "table", "x"});
  builder.launch(0, "linear_fwd", {"x", "a", "", "", "", "y"});
  builder.item(0, Record{0});
  builder.item(1, Wait{0});
  builder.launch(1, "linear_dw", {"y", "x", "", "a.grad"});
  builder.item(1, Record{1});
  builder.launch(0, "compact_rows", {"labels", "", "index", "target", "count"},
                 {{"seq", int64_t(4)}, {"vocab", int64_t(10)}});
  builder.launch(0, "add_fwd", {"y", "y", "z"});
  builder.launch(0, "norm_square", {"z", "loss_sum"});
  builder.launch(0, "count_tokens", {"count", "tokens"});
  builder.item(0, Copy{builder.index("z"), builder.index("out"), 0, 0, 64});
  builder.item(0, Wait{1});
  builder.reuse("zeros", "x");
  builder.launch(0, "fill_zero", {"zeros"});
}

inline void addTinyUpdate(PlanBuilder &builder) {
  builder.entry("update");
  Predicate ifApplied{builder.index("apply"), 0};
  builder.launch(1, "norm_square", {"a.grad", "norm_square"});
  builder.item(1, Record{0});
  builder.item(0, Wait{0});
  builder.launch(0, "finish_step",
                 {"loss_sum", "tokens", "norm_square", "learning_rate", "beta1",
                  "beta2", "epsilon", "weight_decay", "max_grad_norm",
                  "optimizer_step", "adam", "metrics", "apply", ""});
  builder.launch(0, "adamw", {"a", "a.grad", "a.m", "a.v", "adam"}).predicate =
      ifApplied;
  builder.launch(0, "fill_zero", {"a.grad"}).predicate = ifApplied;
}

inline Plan tinyPlan() {
  PlanBuilder builder;
  addTinyState(builder);
  addTinyMicroStep(builder);
  addTinyUpdate(builder);
  Plan &plan = builder.plan;
  auto index = [&](const char *name) { return builder.index(name); };
  Initializer start;
  start.buffer = index("a");
  start.kind = Initializer::Kind::kaimingUniform;
  start.stream = 7;
  plan.initializers.push_back(start);
  plan.groups.push_back(
      {"default", 1, index("loss_sum"), index("tokens"), index("norm_square")});
  Parameter parameter;
  parameter.name = "tiny.a.weight";
  parameter.module = "tiny.a";
  parameter.buffer = index("a");
  parameter.gradients = {index("a.grad")};
  parameter.firstMoment = index("a.m");
  parameter.secondMoment = index("a.v");
  plan.parameters.push_back(parameter);
  plan.remarks.push_back({"plan-memory", "tiny", "one buffer is reused"});
  return builder.finish();
}

/// The buffer called `name`.
inline Buffer &bufferOf(Plan &plan, const std::string &name) {
  for (Buffer &buffer : plan.buffers)
    if (buffer.name == name)
      return buffer;
  throw std::out_of_range(name);
}

/// The n-th launch of `kernel` in an entry.
inline Launch &launchOf(Plan &plan, const std::string &entry,
                        const std::string &kernel, size_t n = 0) {
  for (Item &item : plan.entries[plan.findEntry(entry)].items)
    if (auto *launch = std::get_if<Launch>(&item.action))
      if (launch->kernel == kernel && n-- == 0)
        return *launch;
  throw std::out_of_range(kernel);
}

} // namespace peft::test

#endif // PEFT_TEST_TINYPLAN_H
