//===- KernelSpecTest.cpp - kernels.def as a table ------------------------===//
#include "peft/KernelSpec.h"

#include <gtest/gtest.h>
#include <set>

using namespace peft;

namespace {

/// Binds a launch of f32 or other operands given as (type, shape); an empty
/// shape is an absent operand, and so are those behind the last.
struct Binding {
  struct Given {
    DType type;
    std::vector<uint64_t> shape;
  };
  Status status;
  LaunchShape shape;
  std::vector<DType> types;
  std::vector<AttributeValue> attributes;

  Binding(const char *kernel, const std::vector<Given> &operands,
          std::vector<Attribute> given = {}) {
    const KernelSpec &spec = *findKernel(kernel);
    Launch launch;
    launch.kernel = kernel;
    launch.attributes = std::move(given);
    auto bound = bindAttributes(spec, launch);
    if (!(status = bound.status()).ok())
      return;
    attributes = *bound;
    std::vector<OperandShape> shapes;
    for (const Given &operand : operands)
      shapes.push_back({!operand.shape.empty(), operand.type, operand.shape});
    shapes.resize(std::max(shapes.size(), spec.operands.size()));
    auto result = bindShapes(spec, shapes, attributes, types);
    status = result.status();
    if (result.ok())
      shape = *result;
  }
  bool says(const char *text) const {
    return status.message().find(text) != std::string::npos;
  }
};

constexpr DType f32 = DType::f32, bf16 = DType::bf16, f16 = DType::f16,
                i32 = DType::i32;

} // namespace

TEST(KernelSpec, NamesAreUniqueAndFound) {
  std::set<std::string_view> names;
  for (const KernelSpec &spec : allKernels()) {
    EXPECT_TRUE(names.insert(spec.name).second) << spec.name;
    EXPECT_EQ(findKernel(spec.name), &spec);
    EXPECT_FALSE(spec.summary.empty()) << spec.name;
    EXPECT_LE(spec.operands.size(), 32u);
    std::set<std::string_view> operands;
    for (const OperandSpec &operand : spec.operands)
      EXPECT_TRUE(operands.insert(operand.name).second) << operand.name;
  }
  EXPECT_EQ(findKernel("no_such_kernel"), nullptr);
}

TEST(KernelSpec, EnumeratorsCountLikeTheTable) {
  const KernelSpec &adamw = *findKernel("adamw");
  EXPECT_EQ(adamw.operands.size(), size_t(kernels::adamw::operandCount));
  EXPECT_EQ(adamw.findOperand("adam"), int(kernels::adamw::adam));
  EXPECT_EQ(adamw.findAttribute("decay"), int(kernels::adamw::decay));
  EXPECT_EQ(adamw.findOperand("decay"), -1);
  EXPECT_EQ(adamw.findAttribute("adam"), -1);
  EXPECT_EQ(adamw.operands[kernels::adamw::gradient].access, Access::in);
  EXPECT_EQ(adamw.operands[kernels::adamw::parameter].access, Access::inout);
}

TEST(KernelSpec, DefaultsAreFilledIn) {
  Binding b(
      "adamw",
      {{f32, {3}}, {f32, {3}}, {f32, {3}}, {f32, {3}}, {DType::f64, {8}}});
  ASSERT_TRUE(b.status.ok()) << b.status.message();
  EXPECT_EQ(b.attributes[kernels::adamw::rate_factor].real, 1);
  EXPECT_EQ(b.attributes[kernels::adamw::decay].integer, 0);
  EXPECT_EQ(b.shape.e.value, 3u);
}

TEST(KernelSpec, ElementCountsIgnoreTheShape) {
  Binding same("cast", {{f32, {3, 4}}, {bf16, {12}}});
  EXPECT_TRUE(same.status.ok()) << same.status.message();
  Binding other("cast", {{f32, {3, 4}}, {bf16, {13}}});
  EXPECT_TRUE(other.says("needed is 12 elements"));
}

TEST(KernelSpec, SymbolsHaveOneValue) {
  Binding good(
      "linear_dx",
      {{f32, {2, 3}}, {bf16, {3, 5}}, {f32, {}}, {i32, {}}, {f32, {2, 5}}});
  ASSERT_TRUE(good.status.ok()) << good.status.message();
  EXPECT_EQ(good.shape.k.value, 5u);
  EXPECT_TRUE(good.shape.has(kernels::linear_dx::dy));
  EXPECT_FALSE(good.shape.has(kernels::linear_dx::init));
  EXPECT_EQ(good.shape.bytes(kernels::linear_dx::w).value, 2u);
  Binding bad(
      "linear_dx",
      {{f32, {2, 3}}, {bf16, {4, 5}}, {f32, {}}, {i32, {}}, {f32, {2, 5}}});
  EXPECT_TRUE(bad.says("operand 'w' has shape [4, 5], needed is [n = 3"))
      << bad.status.message();
  Binding flat(
      "linear_dx",
      {{f32, {6}}, {bf16, {3, 5}}, {f32, {}}, {i32, {}}, {f32, {2, 5}}});
  EXPECT_TRUE(flat.says("operand 'dy' has shape [6]"));
}

TEST(KernelSpec, OneComputeTypePerLaunch) {
  auto add = [](DType a, DType b, DType y) {
    return Binding("add_fwd", {{a, {2, 2}}, {b, {2, 2}}, {y, {2, 2}}})
        .status.ok();
  };
  EXPECT_TRUE(add(f32, f32, f32));
  EXPECT_TRUE(add(f32, bf16, f32));
  EXPECT_TRUE(add(bf16, f32, bf16));
  EXPECT_TRUE(add(f16, f32, f16));
  EXPECT_FALSE(add(f16, bf16, f32)) << "one compute type per launch";
  auto swiglu = [](DType gate, DType up, DType y) {
    return Binding("swiglu_fwd", {{gate, {2, 2}}, {up, {2, 2}}, {y, {2, 2}}});
  };
  EXPECT_TRUE(swiglu(bf16, bf16, bf16).status.ok());
  EXPECT_TRUE(swiglu(bf16, f32, bf16).says("needed is C with C = bf16"));
  EXPECT_TRUE(swiglu(f16, f16, f16).status.ok());
  EXPECT_TRUE(swiglu(f16, bf16, f16).says("needed is C with C = f16"));
}

TEST(KernelSpec, AnOptionalTypeFollowsTheComputeType) {
  auto linear = [](DType x, DType y) {
    return Binding("linear_fwd", {{x, {2, 3}},
                                  {f16, {4, 3}},
                                  {f32, {}},
                                  {f32, {}},
                                  {i32, {}},
                                  {y, {2, 4}}})
        .status.ok();
  };
  EXPECT_TRUE(linear(bf16, bf16));
  EXPECT_TRUE(linear(bf16, f32));
  EXPECT_TRUE(linear(f32, f32));
  EXPECT_FALSE(linear(f32, bf16));
}

TEST(KernelSpec, NumbersInShapes) {
  Binding bad("count_tokens", {{i32, {2}}, {DType::i64, {1}}});
  EXPECT_TRUE(bad.says("operand 'count' has shape [2], needed is [1]"))
      << bad.status.message();
}

TEST(KernelSpec, WorkspaceGrowsWithThreadsAndNeverOverflows) {
  Binding b("linear_fwd", {{f32, {0x7fffffff, 0x7fffffff}},
                           {f32, {0x7fffffff, 0x7fffffff}},
                           {f32, {}},
                           {f32, {}},
                           {i32, {}},
                           {f32, {0x7fffffff, 0x7fffffff}}});
  ASSERT_TRUE(b.status.ok()) << b.status.message();
  const KernelSpec &spec = *findKernel("linear_fwd");
  WorkspaceNeed one = workspaceNeed(spec, b.shape, 1, DeviceKind::cpu);
  WorkspaceNeed many = workspaceNeed(spec, b.shape, 1024, DeviceKind::cpu);
  EXPECT_EQ(one.shared, many.shared);
  EXPECT_GE(many.thread, one.thread);
  EXPECT_EQ(one.thread % bufferAlignment, one.thread == UINT64_MAX ? 63 : 0);
}

TEST(KernelSpec, ACardsWorkspaceIsTheLibraryAndTheCopies) {
  auto linear = [](DType x, DType w, DType y, bool init) {
    Binding b("linear_fwd",
              {{x, {64, 32}},
               {w, {16, 32}},
               {f32, {}},
               init ? Binding::Given{f32, {64, 16}} : Binding::Given{f32, {}},
               {i32, {}},
               {y, {64, 16}}});
    EXPECT_TRUE(b.status.ok()) << b.status.message();
    WorkspaceNeed need =
        workspaceNeed(*findKernel("linear_fwd"), b.shape, 4, DeviceKind::cuda);
    return need.shared - (32u << 20);
  };
  EXPECT_EQ(linear(bf16, bf16, bf16, false), 0u);
  EXPECT_EQ(linear(bf16, f32, bf16, false), 16u * 32 * 2);
  EXPECT_EQ(linear(f32, bf16, f32, false), 16u * 32 * 4);
  EXPECT_EQ(linear(bf16, bf16, f32, true), 0u);
  EXPECT_EQ(linear(bf16, bf16, bf16, true), 64u * 16 * 4);
}

TEST(KernelSpec, APlanForACardHasTheScratchOfTheCpuToo) {
  std::vector<DType> types(7, bf16);
  LaunchShape shape;
  shape.m = 128;
  Attribute attributes[] = {{"seq", int64_t(128)},
                            {"heads", int64_t(4)},
                            {"kv_heads", int64_t(2)},
                            {"head_dim", int64_t(64)}};
  Launch launch;
  launch.attributes.assign(std::begin(attributes), std::end(attributes));
  const KernelSpec &spec = *findKernel("attention_bwd");
  auto values = bindAttributes(spec, launch);
  ASSERT_TRUE(values.ok());
  shape.types = types;
  shape.attributes = *values;
  WorkspaceNeed cpu = workspaceNeed(spec, shape, 3, DeviceKind::cpu);
  WorkspaceNeed card = workspaceNeed(spec, shape, 3, DeviceKind::cuda);
  EXPECT_GT(cpu.shared, 0u);
  EXPECT_EQ(cpu.hostShared, 0u);
  EXPECT_EQ(card.hostShared, cpu.shared);
  EXPECT_EQ(card.thread, cpu.thread + cpu.shared);
  EXPECT_EQ(card.shared, 128u * 4 * 8);
}

TEST(KernelSpec, SaturatingArithmetic) {
  constexpr Saturating most = UINT64_MAX;
  EXPECT_EQ((most + 1).value, UINT64_MAX);
  EXPECT_EQ((most * 2).value, UINT64_MAX);
  EXPECT_EQ((Saturating(7) / 0).value, 0u);
  EXPECT_EQ((Saturating(7) % 0).value, 0u);
  EXPECT_EQ((Saturating(7) * 6).value, 42u);
}
