//===- LinearTest.cpp - the linear family ---------------------------------===//
//
// The reference path against sums in double, every vector path against the
// reference bit by bit.
//
//===----------------------------------------------------------------------===//
#include "LinearProblem.h"
#include "../Suite.h"

#include "cpu/Numbers.h"
#include "peft/Philox.h"

#include <cmath>
#include <gtest/gtest.h>

using namespace peft;
using namespace peft::cpu;
using namespace peft::cpu::test;
using conformance::computeTypes;
using conformance::Conformance;
using conformance::toleranceOf;

namespace {

struct Sizes {
  uint64_t m, n, k, r;
};

/// What a case may have besides its operands.
struct Variant {
  DType compute = DType::f32, weight = DType::f32, out = DType::f32;
  bool init = false, bias = false, count = false, dropout = false,
       index = false, special = false;
  /// Of the large weight; the small ones stay of the type `weight`.
  const conformance::Quantization *quantized = nullptr;
};

void addDropout(LinearProblem &problem, const Sizes &sizes,
                const Variant &variant) {
  if (!variant.dropout)
    return;
  problem.set("dropout", 0.3);
  problem.set("module_key", int64_t(0x123456789abcdef));
  problem.set("seq", int64_t(7));
  problem.addIntegers("seed", DType::i64, {42});
  problem.addIntegers("step", DType::i32, {3});
  problem.addIntegers("first_row", DType::i32, {5});
  if (variant.index) {
    std::vector<int64_t> index;
    for (uint64_t i = 0; i < sizes.m + 2; ++i)
      index.push_back(static_cast<int64_t>(3 * i + 1));
    problem.addIntegers("index", DType::i32, index);
  }
}

LinearProblem makeProblem(const std::string &kernel, const Sizes &sizes,
                          const Variant &variant, uint64_t seed) {
  LinearProblem problem(kernel, seed);
  problem.special = variant.special;
  auto [m, n, k, r] = sizes;
  DType compute = variant.compute, weight = variant.weight;
  bool forward = kernel == "linear_fwd" || kernel == "linear_lora_fwd";
  bool backward = kernel == "linear_dx" || kernel == "linear_lora_dx";
  auto addLarge = [&] {
    if (variant.quantized)
      problem.addQuantized("w", *variant.quantized, n, k);
    else
      problem.add("w", weight, n, k);
  };
  if (forward) {
    problem.add("x", compute, m, k);
    addLarge();
    if (variant.bias)
      problem.add("bias", weight, 1, n);
    if (kernel == "linear_lora_fwd") {
      problem.add("t", compute, m, r);
      problem.add("b", weight, n, r);
    }
    problem.add("y", variant.out, m, n);
  } else if (backward) {
    problem.add("dy", compute, m, n);
    addLarge();
    if (kernel == "linear_lora_dx") {
      problem.add("dt", compute, m, r);
      problem.add("a", weight, r, k);
      addDropout(problem, sizes, variant);
    }
    problem.add("dx", variant.out, m, k);
  } else if (kernel == "linear_dw") {
    problem.add("dy", compute, m, n);
    problem.add("x", compute, m, k);
    problem.add("dw", DType::f32, n, k);
  } else if (kernel == "bias_dw") {
    problem.add("dy", compute, m, n);
    problem.add("dbias", DType::f32, 1, n);
  } else if (kernel == "lora_down_fwd") {
    problem.add("x", compute, m, k);
    problem.add("a", weight, r, k);
    problem.add("t", compute, m, r);
    addDropout(problem, sizes, variant);
  } else {
    problem.add("dt", compute, m, r);
    problem.add("x", compute, m, k);
    problem.add("da", DType::f32, r, k);
    addDropout(problem, sizes, variant);
  }
  if (variant.init && (forward || backward))
    problem.add("init", DType::f32, m, forward ? n : k);
  else if (kernel == "linear_fwd" || kernel == "linear_dx" ||
           kernel == "lora_down_fwd")
    problem.set("scale", 0.7);
  if (variant.count) {
    problem.addIntegers("count", DType::i32, {static_cast<int64_t>(m)});
    problem.set("row_start", int64_t(2));
  }
  return problem;
}

//===----------------------------------------------------------------------===//
// The reference against double
//===----------------------------------------------------------------------===//

/// Sum and sum of magnitudes, for a bound on the rounding of a chain.
struct Sum {
  double value = 0, magnitude = 0;
  void add(double x) {
    value += x;
    magnitude += std::fabs(x);
  }
};

/// The factor of dropout at (row, feature), straight from the specification.
double maskAt(const LinearProblem &problem, uint64_t row, uint64_t feature) {
  double dropout = problem.real("dropout");
  if (!(dropout > 0))
    return 1;
  uint64_t place = row + static_cast<uint64_t>(problem.integer("row_start"));
  if (problem.has("index"))
    place = 3 * place + 1;
  PhiloxKey key = dropoutKey(0x123456789abcdef, 42, 3);
  auto words = philox({static_cast<uint32_t>(feature / 4),
                       static_cast<uint32_t>(place % 7),
                       static_cast<uint32_t>(5 + place / 7), 0},
                      key);
  bool kept = words[feature % 4] >= static_cast<uint32_t>(dropout * 0x1p32);
  return kept ? 1 / (1 - dropout) : 0;
}

Sum expected(const LinearProblem &problem, const Sizes &sizes, uint64_t i,
             uint64_t j) {
  const std::string kernel(problem.spec->name);
  uint64_t rows = problem.has("count") ? sizes.m - 2 : sizes.m;
  Sum sum;
  if (problem.has("init"))
    sum.add(problem["init"].at(i, j));
  if (problem.has("bias"))
    sum.add(problem["bias"].at(0, j));
  if (kernel == "linear_fwd" || kernel == "linear_lora_fwd")
    for (uint64_t k = 0; k < sizes.k; ++k)
      sum.add(problem["x"].at(i, k) * problem["w"].at(j, k));
  if (kernel == "linear_lora_fwd")
    for (uint64_t k = 0; k < sizes.r; ++k)
      sum.add(problem["t"].at(i, k) * problem["b"].at(j, k));
  if (kernel == "linear_dx" || kernel == "linear_lora_dx")
    for (uint64_t k = 0; k < sizes.n; ++k)
      sum.add(problem["dy"].at(i, k) * problem["w"].at(k, j));
  if (kernel == "linear_lora_dx")
    for (uint64_t k = 0; k < sizes.r; ++k)
      sum.add(maskAt(problem, i, j) * problem["dt"].at(i, k) *
              problem["a"].at(k, j));
  if (kernel == "lora_down_fwd")
    for (uint64_t k = 0; k < sizes.k; ++k)
      sum.add(maskAt(problem, i, k) * problem["x"].at(i, k) *
              problem["a"].at(j, k));
  if (kernel == "linear_dw" || kernel == "bias_dw" || kernel == "lora_down_dw")
    sum.add(problem[problem.output].at(i, j));
  for (uint64_t m = 0; m < rows; ++m) {
    if (kernel == "linear_dw")
      sum.add(problem["dy"].at(m, i) * problem["x"].at(m, j));
    if (kernel == "bias_dw")
      sum.add(problem["dy"].at(m, j));
    if (kernel == "lora_down_dw")
      sum.add(problem["dt"].at(m, i) * maskAt(problem, m, j) *
              problem["x"].at(m, j));
  }
  double scale =
      problem.spec->findAttribute("scale") < 0 ? 1 : problem.real("scale");
  return {scale * sum.value, std::fabs(scale) * sum.magnitude};
}

void checkReference(const std::string &kernel, const Sizes &sizes,
                    const Variant &variant) {
  LinearProblem problem = makeProblem(kernel, sizes, variant, 11);
  Tensor result = problem.run(Path::plain, 1);
  const Tensor &before = problem[problem.output];
  bool sums =
      kernel == "linear_dw" || kernel == "bias_dw" || kernel == "lora_down_dw";
  double epsilon = 0x1p-24 * static_cast<double>(sizes.m + sizes.n + sizes.k);
  // 16-bit operands are exact in f32; rounding is that of weights, of masked
  // values and of the result.
  double unit = toleranceOf(variant.compute, 0, 0x1p-8);
  if (variant.weight != variant.compute || variant.dropout || variant.quantized)
    epsilon += unit;
  if (result.type == variant.compute)
    epsilon += unit;
  for (uint64_t i = 0; i < result.rows; ++i)
    for (uint64_t j = 0; j < result.columns; ++j) {
      if (variant.count && !sums && i >= sizes.m - 2) {
        ASSERT_EQ(before.at(i, j), result.at(i, j)) << "a row past the count";
        continue;
      }
      Sum sum = expected(problem, sizes, i, j);
      ASSERT_NEAR(sum.value, result.at(i, j), sum.magnitude * epsilon)
          << kernel << " at " << i << ", " << j;
    }
}

void checkReference(const std::string &kernel) {
  for (DType compute : computeTypes)
    for (DType weight : computeTypes)
      for (unsigned bits = 0; bits < 32; ++bits) {
        Variant variant{compute, weight};
        variant.init = bits & 1;
        variant.bias = bits & 2;
        variant.count = bits & 4;
        variant.dropout = bits & 8;
        variant.index = bits & 16;
        variant.out = bits & 2 ? compute : DType::f32;
        checkReference(kernel, {9, 21, 35, 5}, variant);
        if (testing::Test::HasFatalFailure())
          return;
      }
}

void checkQuantizedReference(const std::string &kernel) {
  for (DType compute : computeTypes)
    for (const conformance::Quantization &how : conformance::quantizations)
      for (bool sums : {false, true}) {
        Variant variant{compute, compute};
        variant.quantized = &how;
        variant.init = variant.bias = variant.count = sums;
        variant.out = sums ? compute : DType::f32;
        checkReference(kernel, {9, 21, 35, 5}, variant);
        if (testing::Test::HasFatalFailure())
          return;
      }
}

//===----------------------------------------------------------------------===//
// The paths against the reference
//===----------------------------------------------------------------------===//

Variant randomVariant(std::mt19937_64 &random) {
  constexpr DType weights[] = {DType::f32, DType::bf16, DType::f16};
  Variant variant;
  constexpr DType types[] = {DType::f32, DType::bf16, DType::bf16, DType::f16,
                             DType::f16};
  variant.compute = types[random() % std::size(types)];
  variant.weight = weights[random() % 3];
  variant.out = random() % 2 ? variant.compute : DType::f32;
  variant.init = random() % 2;
  variant.bias = random() % 2;
  variant.count = random() % 3 == 0;
  variant.dropout = random() % 2;
  variant.index = random() % 2;
  variant.special = random() % 4 == 0;
  if (random() % 3 == 0)
    variant.quantized =
        &conformance::quantizations[random() %
                                    std::size(conformance::quantizations)];
  return variant;
}

std::string describe(const std::string &kernel, const Sizes &s,
                     const Variant &v, Path path) {
  return kernel + " " + nameOf(path) + " m " + std::to_string(s.m) + " n " +
         std::to_string(s.n) + " k " + std::to_string(s.k) + " r " +
         std::to_string(s.r) + " compute " + std::string(name(v.compute)) +
         " weight " + std::string(name(v.weight)) + " out " +
         std::string(name(v.out)) + (v.init ? " init" : "") +
         (v.bias ? " bias" : "") + (v.count ? " count" : "") +
         (v.dropout ? " dropout" : "") + (v.index ? " index" : "") +
         (v.special ? " special" : "") +
         (v.quantized ? " quantized " + std::string(name(v.quantized->type)) +
                            " " + std::to_string(v.quantized->block)
                      : "");
}

/// Runs the case on every path and on several thread counts.
void checkPaths(const std::string &kernel, const Sizes &sizes,
                const Variant &variant, uint64_t seed) {
  LinearProblem problem = makeProblem(kernel, sizes, variant, seed);
  Tensor reference = problem.run(Path::plain, 2);
  for (Path path : vectorPaths())
    for (unsigned threads : {1u, 2u, 3u}) {
      Tensor result = problem.run(path, threads);
      ASSERT_EQ(0u, countDifferences(reference, result))
          << describe(kernel, sizes, variant, path) << " threads " << threads;
    }
}

void checkSmallShapes(const std::string &kernel, std::mt19937_64 &random) {
  for (unsigned trial = 0; trial < 60; ++trial) {
    auto size = [&](uint64_t most) { return 1 + random() % most; };
    Sizes sizes{size(30), size(70), size(70), size(20)};
    if (trial % 8 == 0)
      sizes.k = 1;
    if (trial % 8 == 1)
      sizes.n = 1;
    Variant variant = randomVariant(random);
    if (variant.count)
      sizes.m += 2;
    checkPaths(kernel, sizes, variant, random());
    if (testing::Test::HasFatalFailure())
      return;
  }
}

void checkEveryRowCount(const std::string &kernel) {
  for (uint64_t rows = 1; rows <= 30; ++rows) {
    checkPaths(kernel, {rows, rows + 3, 40, rows},
               {DType::bf16, DType::bf16, DType::bf16}, rows);
    checkPaths(kernel, {rows, rows + 3, 40, rows},
               {DType::f16, DType::f16, DType::f16}, rows);
    checkPaths(kernel, {rows, rows + 3, 40, rows}, {}, rows);
    if (testing::Test::HasFatalFailure())
      return;
  }
}

/// More than one block of the reduction, group of columns and block of rows.
void checkLargeShapes(const std::string &kernel, std::mt19937_64 &random) {
  constexpr Sizes shapes[] = {{70, 300, 1111, 17},
                              {37, 1300, 90, 8},
                              {600, 40, 33, 64},
                              {1100, 33, 40, 3},
                              {16, 130, 530, 600}};
  for (const Sizes &sizes : shapes)
    for (DType compute : computeTypes) {
      Variant variant = randomVariant(random);
      variant.compute = compute;
      variant.out = random() % 2 ? compute : DType::f32;
      checkPaths(kernel, sizes, variant, random());
      if (testing::Test::HasFatalFailure())
        return;
    }
}

void checkNotFinite(const std::string &kernel) {
  for (DType compute : computeTypes) {
    LinearProblem problem =
        makeProblem(kernel, {20, 40, 50, 16}, {compute, compute, compute}, 3);
    Tensor &tensor = problem.tensors.at(problem.has("dy") ? "dy" : "x");
    auto put = [&](uint64_t at, float value) {
      peft::storeFloat(tensor.data(), compute, at, value);
    };
    put(3, std::nanf(""));
    put(tensor.columns + 7, INFINITY);
    Tensor reference = problem.run(Path::plain, 1);
    uint64_t notFinite = 0;
    for (uint64_t i = 0; i < reference.rows; ++i)
      for (uint64_t j = 0; j < reference.columns; ++j)
        notFinite += !std::isfinite(reference.at(i, j));
    EXPECT_GT(notFinite, 0u) << kernel;
    for (Path path : vectorPaths())
      EXPECT_EQ(0u, countDifferences(reference, problem.run(path, 2)))
          << kernel << " " << nameOf(path);
  }
}

void checkKernel(const std::string &kernel) {
  conformance::noteCompared(kernel);
  std::mt19937_64 random(1);
  checkReference(kernel);
  if (findKernel(kernel)->findOperand("w") >= 0)
    checkQuantizedReference(kernel);
  checkSmallShapes(kernel, random);
  checkEveryRowCount(kernel);
  checkLargeShapes(kernel, random);
  checkNotFinite(kernel);
}

TEST_F(Conformance, linear_fwd) { checkKernel("linear_fwd"); }
TEST_F(Conformance, linear_lora_fwd) { checkKernel("linear_lora_fwd"); }
TEST_F(Conformance, linear_dx) { checkKernel("linear_dx"); }
TEST_F(Conformance, linear_lora_dx) { checkKernel("linear_lora_dx"); }
TEST_F(Conformance, linear_dw) { checkKernel("linear_dw"); }
TEST_F(Conformance, bias_dw) { checkKernel("bias_dw"); }
TEST_F(Conformance, lora_down_fwd) { checkKernel("lora_down_fwd"); }
TEST_F(Conformance, lora_down_dw) { checkKernel("lora_down_dw"); }

/// Adapter i of a group: operands, scale and mask.
struct GroupMember {
  const char *a, *t, *scale, *key;
  uint64_t rank;
};
constexpr GroupMember groupMembers[] = {
    {"a0", "t0", "scale0", "module_key0", 5},
    {"a1", "t1", "scale1", "module_key1", 35},
    {"a2", "t2", "scale2", "module_key2", 17},
};

/// Every output of a group has the bits of a lora_down_fwd with its operands, on
/// every path; the types of the adapters differ.
void checkGroup(unsigned members, const Variant &variant, uint64_t seed) {
  const Sizes sizes{39, 0, 1111, 0};
  constexpr DType types[] = {DType::f32, DType::bf16, DType::f16};
  LinearProblem group("lora_down_group_fwd", seed);
  group.add("x", variant.compute, sizes.m, sizes.k);
  addDropout(group, sizes, variant);
  for (unsigned i = 0; i < members; ++i) {
    const GroupMember &member = groupMembers[i];
    group.add(member.a, types[(i + seed) % 3], member.rank, sizes.k);
    group.add(member.t, variant.compute, sizes.m, member.rank);
    group.set(member.scale, 0.7 + i);
    group.set(member.key, int64_t(91 + i));
  }
  if (variant.count) {
    group.addIntegers("count", DType::i32, {int64_t(sizes.m)});
    group.set("row_start", int64_t(2));
  }
  std::vector<Path> paths = vectorPaths();
  paths.push_back(Path::plain);
  for (unsigned i = 0; i < members; ++i) {
    const GroupMember &member = groupMembers[i];
    LinearProblem one("lora_down_fwd", seed);
    for (const char *name :
         {"x", "count", "index", "seed", "step", "first_row"})
      if (group.has(name))
        one.tensors[name] = group[name];
    one.tensors["a"] = group[member.a];
    one.tensors["t"] = group[member.t];
    one.output = "t";
    for (const char *name : {"row_start", "seq"})
      one.set(name, group.integer(name));
    one.set("dropout", group.real("dropout"));
    one.set("scale", group.real(member.scale));
    one.set("module_key", group.integer(member.key));
    Tensor alone = one.run(Path::plain, 2);
    for (Path path : paths)
      ASSERT_EQ(0u, countDifferences(alone, group.runAll(path, 3)[member.t]))
          << nameOf(path) << ", adapter " << i;
  }
}

TEST_F(Conformance, lora_down_group_fwd) {
  conformance::noteCompared("lora_down_group_fwd");
  uint64_t seed = 1;
  for (DType compute : computeTypes)
    for (unsigned members : {2u, 3u})
      for (unsigned bits = 0; bits < 8; ++bits) {
        Variant variant{compute};
        variant.count = bits & 1;
        variant.dropout = bits & 2;
        variant.index = bits & 4;
        checkGroup(members, variant, seed++);
        if (HasFatalFailure())
          return;
      }
}

//===----------------------------------------------------------------------===//
// Sums over micro-batches
//===----------------------------------------------------------------------===//

/// Rows [begin, begin + rows) of `tensor`.
Tensor rowsOf(const Tensor &tensor, uint64_t begin, uint64_t rows) {
  Tensor part = tensor;
  uint64_t bytes = tensor.columns * byteSize(tensor.type);
  part.rows = rows;
  part.bytes.resize(rows * bytes + 2 * Tensor::guard + 8, std::byte{0xa5});
  std::fill(part.bytes.begin(), part.bytes.end(), std::byte{0xa5});
  std::memcpy(part.data(), const_cast<Tensor &>(tensor).data() + begin * bytes,
              rows * bytes);
  return part;
}

TEST(Linear, AnySplitIntoMicroBatchesGivesTheSameSums) {
  std::mt19937_64 random(5);
  std::vector<Path> paths = vectorPaths();
  paths.push_back(Path::plain);
  for (const char *kernel : {"linear_dw", "bias_dw", "lora_down_dw"})
    for (Path path : paths)
      for (DType compute : computeTypes)
        for (unsigned trial = 0; trial < 8; ++trial) {
          uint64_t m = 2 + random() % 40;
          Variant variant{compute, compute, compute};
          variant.special = trial % 2;
          LinearProblem whole =
              makeProblem(kernel, {m, 19, 37, 9}, variant, random());
          Tensor all = whole.run(path, 1);
          LinearProblem part = whole;
          for (uint64_t begin = 0; begin < m;) {
            uint64_t rows = std::min<uint64_t>(m - begin, 1 + random() % 9);
            for (const char *operand : {"dy", "dt", "x"})
              if (whole.has(operand))
                part.tensors[operand] = rowsOf(whole[operand], begin, rows);
            part.tensors[part.output] = part.run(path, 1);
            begin += rows;
          }
          ASSERT_EQ(0u, countDifferences(all, part[part.output]))
              << kernel << " " << nameOf(path) << " rows " << m;
        }
}

/// What leaves f16's range becomes infinite, which the loss scale reacts to;
/// what is small keeps its bits down to 2^-24, in operands and results.
TEST(Linear, HalfResultsOverflowAndStayDenormal) {
  std::vector<Path> paths = vectorPaths();
  paths.push_back(Path::plain);
  LinearProblem problem("linear_fwd", 1);
  problem.add("x", DType::f16, 1, 1);
  problem.add("w", DType::f16, 4, 1);
  problem.add("y", DType::f16, 1, 4);
  peft::storeFloat(problem.tensors["x"].data(), DType::f16, 0, 0x1p-9f);
  const float weights[] = {0x1p-15f, -0x1p-20f, 0x1p15f, 0};
  for (unsigned i = 0; i < 4; ++i)
    peft::storeFloat(problem.tensors["w"].data(), DType::f16, i, weights[i]);
  for (Path path : paths) {
    Tensor y = problem.run(path, 1);
    EXPECT_EQ(y.at(0, 0), 0x1p-24) << nameOf(path);
    EXPECT_EQ(y.at(0, 1), 0) << nameOf(path);
    EXPECT_EQ(y.at(0, 2), 64) << nameOf(path);
  }
  peft::storeFloat(problem.tensors["x"].data(), DType::f16, 0, -2);
  for (Path path : paths) {
    EXPECT_EQ(problem.run(path, 1).at(0, 2), -INFINITY) << nameOf(path);
    EXPECT_EQ(problem.run(path, 1).at(0, 1), 0x1p-19) << nameOf(path);
  }
}

/// A count past the index must not make the kernel read behind it.
TEST(Linear, MoreRowsThanTheIndexHasIsAFault) {
  Variant variant;
  variant.dropout = variant.index = true;
  for (const char *kernel :
       {"linear_lora_dx", "lora_down_fwd", "lora_down_dw"}) {
    LinearProblem problem = makeProblem(kernel, {5, 6, 7, 2}, variant, 1);
    problem.addIntegers("count", DType::i32, {1000});
    problem.set("row_start", int64_t(2));
    EXPECT_FALSE(problem.fault(Path::plain));
    problem.set("row_start", int64_t(3));
    EXPECT_TRUE(problem.fault(Path::plain)) << kernel;
  }
}

} // namespace
