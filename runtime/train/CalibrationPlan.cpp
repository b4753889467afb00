//===- CalibrationPlan.cpp - plans that do one thing ----------------------===//
#include "CalibrationPlan.h"

#include "peft/KernelSpec.h"

#include <algorithm>
#include <map>
#include <tuple>

using namespace peft;

std::string Product::describe() const {
  return std::string(backward ? "backward " : "forward ") + std::to_string(m) +
         " x " + std::to_string(n) + " x " + std::to_string(k);
}

//===----------------------------------------------------------------------===//
// Which products
//===----------------------------------------------------------------------===//

std::vector<Product> peft::usualProducts(DeviceKind kind) {
  if (kind == DeviceKind::cpu)
    return {{false, 512, 2048, 2048, 4}, {false, 512, 5632, 2048, 2},
            {false, 512, 2048, 5632, 1}, {true, 512, 2048, 2048, 4},
            {true, 512, 5632, 2048, 2},  {true, 512, 2048, 5632, 1}};
  return {{false, 4096, 4096, 4096, 2},  {false, 4096, 12288, 4096, 2},
          {false, 4096, 4096, 12288, 1}, {true, 4096, 4096, 4096, 2},
          {true, 4096, 12288, 4096, 2},  {true, 4096, 4096, 12288, 1}};
}

/// Most products of a model are few shapes many times; the last percents are
/// adapters, whose rates are those of memory.
static std::vector<Product> keepMost(std::vector<Product> products) {
  auto share = [](const Product &product) {
    return product.operations() * static_cast<double>(product.count);
  };
  std::ranges::sort(products, [&](const Product &a, const Product &b) {
    return share(a) > share(b);
  });
  double all = 0, kept = 0;
  for (const Product &product : products)
    all += share(product);
  constexpr size_t most = 10;
  size_t count = 0;
  while (count < std::min(products.size(), most) && kept < 0.95 * all)
    kept += share(products[count++]);
  products.resize(count);
  return products;
}

std::vector<Product> peft::productsOf(const Plan &plan) {
  std::map<std::tuple<bool, uint64_t, uint64_t, uint64_t>, uint64_t> counts;
  for (const Item &item : plan.entries[plan.findEntry("micro_step")].items) {
    const auto *launch = std::get_if<Launch>(&item.action);
    if (!launch)
      continue;
    bool forward =
        launch->kernel == "linear_fwd" || launch->kernel == "linear_lora_fwd";
    bool backward =
        launch->kernel == "linear_dx" || launch->kernel == "linear_lora_dx";
    if (!forward && !backward)
      continue;
    // All four begin with the rows and the weight [n, k].
    const Buffer &rows = plan.buffers[launch->operands[0]];
    const Buffer &weight = plan.buffers[launch->operands[1]];
    ++counts[{backward, rows.shape[0], weight.shape[0], weight.shape[1]}];
  }
  std::vector<Product> products;
  for (const auto &[shape, count] : counts)
    products.push_back({std::get<0>(shape), std::get<1>(shape),
                        std::get<2>(shape), std::get<3>(shape), count});
  return keepMost(std::move(products));
}

//===----------------------------------------------------------------------===//
// Plans
//===----------------------------------------------------------------------===//

namespace {
/// As far as a card wants it, which serves every device.
uint64_t alignedSize(uint64_t bytes) {
  return (bytes + cardAlignment - 1) / cardAlignment * cardAlignment;
}

/// Puts buffers one after the other and launches behind each other.
class Maker {
public:
  explicit Maker(const CalibrationTarget &target) {
    plan.producer = plan.modelName = "calibration";
    plan.target = "calibration";
    plan.deviceKind = target.kind;
    plan.compute = DType::f32;
    plan.seq = plan.vocab = 1;
    plan.maxThreads = target.maxThreads;
    plan.streams = {Engine::compute};
    plan.arenas = {{Space::device, 0, 0}};
  }

  uint32_t arena(Space space) {
    plan.arenas.push_back({space, 0, 0});
    return static_cast<uint32_t>(plan.arenas.size() - 1);
  }
  uint32_t buffer(const std::string &name, DType type,
                  std::vector<uint64_t> shape, uint32_t arena = 0) {
    Buffer made;
    made.name = name;
    made.arena = arena;
    made.dtype = type;
    made.size = byteSize(type);
    for (uint64_t extent : shape)
      made.size *= extent;
    made.shape = std::move(shape);
    Arena &place = plan.arenas[arena];
    made.offset = place.size;
    place.size += alignedSize(made.size);
    place.persistentBytes = place.size;
    plan.buffers.push_back(std::move(made));
    return static_cast<uint32_t>(plan.buffers.size() - 1);
  }

  /// `repeats` launches of a kernel on the first operands that it needs;
  /// the optional ones are absent.
  Status launch(const std::string &kernel, std::vector<uint32_t> needed,
                unsigned repeats) {
    const KernelSpec &spec = *findKernel(kernel);
    Launch launch;
    launch.kernel = kernel;
    launch.module = "calibration";
    size_t next = 0;
    for (const OperandSpec &operand : spec.operands)
      launch.operands.push_back(operand.optional ? none : needed[next++]);
    PEFT_TRY(addWorkspaces(spec, launch));
    Entry entry;
    entry.name = kernel;
    entry.items.assign(repeats, {0, launch});
    plan.entries.push_back(std::move(entry));
    return {};
  }

  Expected<Plan> finish() {
    PEFT_TRY(verifyPlan(plan).in("the plan to calibrate with"));
    return std::move(plan);
  }

  Plan plan;

private:
  Status addWorkspaces(const KernelSpec &spec, Launch &launch) {
    std::vector<OperandShape> shapes;
    for (uint32_t index : launch.operands) {
      shapes.emplace_back();
      if (index != none)
        shapes.back() = {true, plan.buffers[index].dtype,
                         plan.buffers[index].shape};
    }
    PEFT_ASSIGN(std::vector<AttributeValue> attributes,
                bindAttributes(spec, launch));
    std::vector<DType> types;
    PEFT_ASSIGN(LaunchShape shape, bindShapes(spec, shapes, attributes, types));
    WorkspaceNeed need =
        workspaceNeed(spec, shape, plan.maxThreads, plan.deviceKind);
    if (need.shared)
      launch.sharedWorkspace = buffer("shared", DType::u8, {need.shared});
    // Of a plan for a card only the CPU device uses this one.
    uint32_t host =
        need.thread && plan.deviceKind == DeviceKind::cuda
            ? arena(Space::pageable)
            : 0;
    if (need.thread)
      launch.threadWorkspace = buffer("thread", DType::u8, {need.thread}, host);
    return {};
  }
};
} // namespace

Expected<Plan> peft::productPlan(const CalibrationTarget &target,
                                 const Product &product, DType type,
                                 unsigned repeats) {
  Maker maker(target);
  uint64_t in = product.backward ? product.n : product.k;
  uint64_t out = product.backward ? product.k : product.n;
  uint32_t x = maker.buffer("x", type, {product.m, in});
  uint32_t w = maker.buffer("w", type, {product.n, product.k});
  uint32_t y = maker.buffer("y", type, {product.m, out});
  PEFT_TRY(maker.launch(product.backward ? "linear_dx" : "linear_fwd",
                        {x, w, y}, repeats));
  return maker.finish();
}

Expected<Plan> peft::additionPlan(const CalibrationTarget &target,
                                  uint64_t elements, unsigned repeats) {
  Maker maker(target);
  constexpr uint64_t columns = 64;
  std::vector<uint64_t> shape = {std::max<uint64_t>(elements / columns, 1),
                                 columns};
  uint32_t a = maker.buffer("a", DType::f32, shape);
  uint32_t b = maker.buffer("b", DType::f32, shape);
  uint32_t y = maker.buffer("y", DType::f32, shape);
  PEFT_TRY(maker.launch("add_fwd", {a, b, y}, repeats));
  return maker.finish();
}

Expected<Plan> peft::transferPlan(const CalibrationTarget &target,
                                  uint64_t bytes) {
  Maker maker(target);
  uint32_t pinned = maker.arena(Space::pinned);
  maker.plan.streams = {Engine::copyIn, Engine::copyOut};
  uint32_t from = maker.buffer("from host", DType::u8, {bytes}, pinned);
  uint32_t onto = maker.buffer("onto card", DType::u8, {bytes});
  uint32_t source = maker.buffer("from card", DType::u8, {bytes});
  uint32_t back = maker.buffer("onto host", DType::u8, {bytes}, pinned);
  Item in{0, Copy{from, onto, 0, 0, bytes}};
  Item out{1, Copy{source, back, 0, 0, bytes}};
  maker.plan.entries = {{"to card", {in}, 0, 0},
                        {"to host", {out}, 0, 0},
                        {"both", {in, out}, 0, 0}};
  return maker.finish();
}
