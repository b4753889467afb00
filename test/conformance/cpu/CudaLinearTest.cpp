//===- CudaLinearTest.cpp - the steps of the linear family on a card ------===//
//
// cuda::describeLinear turns a launch into copies, starts and library products.
// Here plain loops execute those steps in host memory, and the result is
// compared with the CPU device's. The workspace is exactly as large as the
// description says and lies between guards (under ASan: as an allocation).
//
//===----------------------------------------------------------------------===//
#include "LinearProblem.h"

#include "cpu/Numbers.h"
#include "cpu/Quantized.h"
#include "cuda/library/Linear.h"

#include <cmath>
#include <cstring>
#include <map>
#include <gtest/gtest.h>

using namespace peft;
using namespace peft::cpu::test;

namespace {

using Kind = cuda::LinearStep::Kind;

float load(const cuda::Operand &operand, uint64_t element) {
  return cpu::loadFloat(
      {operand.data, operand.type, operand.rows, operand.columns}, element);
}

void store(const cuda::Operand &operand, uint64_t element, float value) {
  ASSERT_LT(element, operand.elements());
  cpu::storeFloat({operand.data, operand.type, operand.rows, operand.columns},
                  element, value);
}

void multiply(const cuda::Product &product) {
  uint64_t depth = product.depth();
  ASSERT_EQ(depth, product.rightTransposed ? product.right.columns
                                           : product.right.rows);
  ASSERT_EQ(product.rows(), product.leftTransposed ? product.left.columns
                                                   : product.left.rows);
  ASSERT_EQ(product.left.type, product.right.type);
  for (const cuda::Operand &like : {product.addend, product.bias})
    if (like) {
      ASSERT_EQ(like.type, product.out.type);
    }
  for (uint64_t i = 0; i < product.rows(); ++i)
    for (uint64_t j = 0; j < product.columns(); ++j) {
      float sum = 0;
      for (uint64_t k = 0; k < depth; ++k) {
        uint64_t left = product.leftTransposed
                            ? k * product.left.columns + i
                            : i * product.left.columns + k;
        uint64_t right = product.rightTransposed
                             ? j * product.right.columns + k
                             : k * product.right.columns + j;
        sum = std::fma(load(product.left, left), load(product.right, right),
                       sum);
      }
      uint64_t at = i * product.columns() + j;
      sum += product.addend ? load(product.addend, at) : 0;
      sum *= product.alpha;
      sum += product.bias ? load(product.bias, j) : 0;
      store(product.out, at, sum);
    }
}

void start(const cuda::LinearStep &step) {
  for (uint64_t i = 0; i < step.to.elements(); ++i) {
    float value = step.from ? load(step.from, i) : 0;
    if (step.bias)
      value += cpu::loadWeight({step.bias.data, step.bias.type, 1,
                                step.bias.columns},
                               i % step.to.columns, step.compute);
    store(step.to, i, value);
  }
}

void copyRows(const cuda::LinearStep &step) {
  ASSERT_EQ(step.from.type, step.to.type);
  int32_t count;
  std::memcpy(&count, step.count.data, sizeof count);
  for (uint64_t i = 0; i < step.to.elements(); ++i) {
    bool counts = static_cast<int64_t>(i / step.to.columns) + step.rowStart < count;
    store(step.to, i, counts ? load(step.from, i) : 0);
  }
}

void dequantize(const cuda::LinearStep &step) {
  const cuda::QuantizedWeight &from = step.weight;
  cpu::Quantized weight{from.codes.data,
                        from.codes.type,
                        from.codes.elements(),
                        from.absmax.data,
                        from.nestedAbsmax.data,
                        from.tables.data,
                        cpu::Divisor(from.codes.type == DType::i8
                                         ? from.codes.columns
                                         : from.block),
                        cpu::Divisor(std::max<uint64_t>(1, from.nested))};
  ASSERT_EQ(weight.elements, step.to.elements());
  for (uint64_t i = 0; i < weight.elements; ++i)
    store(step.to, i, weight.value(i));
}

/// The adapters of a group that a call has, and their outputs and scales.
struct DownMember {
  cuda::Operand a, t;
  float scale;
};
std::vector<DownMember> membersOf(const cuda::Call &call) {
  using namespace kernels::lora_down_group_fwd;
  std::vector<DownMember> members = {
      {call[a0], call[t0], float(call.real(scale0))},
      {call[a1], call[t1], float(call.real(scale1))},
      {call[a2], call[t2], float(call.real(scale2))}};
  if (!call[a2])
    members.pop_back();
  return members;
}

void stackDown(const cuda::Call &call, const cuda::Operand &to) {
  uint64_t at = 0;
  for (const DownMember &member : membersOf(call))
    for (uint64_t i = 0; i < member.a.elements(); ++i)
      store(to, at++, load(member.a, i));
  ASSERT_EQ(at, to.elements());
}

void splitDown(const cuda::Call &call, const cuda::Operand &from) {
  uint64_t begin = 0;
  for (const DownMember &member : membersOf(call)) {
    for (uint64_t row = 0; row < from.rows; ++row)
      for (uint64_t i = 0; i < member.t.columns; ++i)
        store(member.t, row * member.t.columns + i,
              member.scale * load(from, row * from.columns + begin + i));
    begin += member.t.columns;
  }
  ASSERT_EQ(begin, from.columns);
}

void execute(const cuda::Call &call, const cuda::LinearWork &work) {
  for (const cuda::LinearStep &step : work.steps)
    switch (step.kind) {
    case Kind::convert:
      ASSERT_EQ(step.from.elements(), step.to.elements());
      for (uint64_t i = 0; i < step.to.elements(); ++i)
        store(step.to, i, load(step.from, i));
      break;
    case Kind::dequantize:
      dequantize(step);
      break;
    case Kind::rows:
      copyRows(step);
      break;
    case Kind::start:
      start(step);
      break;
    case Kind::product:
      multiply(step.product);
      break;
    case Kind::stackDown:
      stackDown(call, step.to);
      break;
    case Kind::splitDown:
      splitDown(call, step.from);
      break;
    case Kind::maskedDown:
    case Kind::maskedDownGroup:
    case Kind::maskedSums:
    case Kind::maskedDx:
      FAIL() << "no dropout in this launch";
    }
}

/// All operands as the described steps leave them.
std::map<std::string, Tensor> runDescribedAll(LinearProblem problem) {
  std::vector<cuda::Operand> operands;
  for (const OperandSpec &spec : problem.spec->operands) {
    auto found = problem.tensors.find(std::string(spec.name));
    if (found == problem.tensors.end()) {
      operands.emplace_back();
      continue;
    }
    Tensor &tensor = found->second;
    operands.push_back(
        {tensor.data(), tensor.type, tensor.rows, tensor.columns});
  }
  cuda::Call call;
  call.operands = operands;
  call.attributes = problem.attributeValues();
  size_t kernel = problem.spec - allKernels().data();
  auto need = cuda::describeLinear(kernel, call);
  EXPECT_TRUE(need.ok());
  std::vector<std::byte> workspace(need->areaBytes, std::byte{0xff});
  call.workspace = need->areaBytes ? workspace.data() : nullptr;
  call.workspaceBytes = need->areaBytes;
  auto work = cuda::describeLinear(kernel, call);
  EXPECT_TRUE(work.ok());
  EXPECT_EQ(work->areaBytes, need->areaBytes);
  EXPECT_TRUE(cuda::libraryArea(call, *work).ok());
  execute(call, *work);
  return problem.tensors;
}

/// The output of the described steps.
Tensor runDescribed(const LinearProblem &problem) {
  return runDescribedAll(problem)[problem.output];
}

struct Variant {
  DType compute = DType::f32, weight = DType::f32, out = DType::f32;
  bool init = false, bias = false, inPlace = false;
  int64_t count = -1; ///< below 0: absent
  const conformance::Quantization *quantized = nullptr;
};

std::string describe(const Variant &variant) {
  return std::string(name(variant.compute)) + " weights " +
         std::string(name(variant.weight)) + " out " +
         std::string(name(variant.out)) + (variant.init ? " init" : "") +
         (variant.bias ? " bias" : "") +
         (variant.count < 0 ? "" : " count " + std::to_string(variant.count));
}

/// m x n x k and rank r, no two alike, so that a swapped pair cannot pass.
constexpr uint64_t m = 7, n = 5, k = 11, r = 3;

LinearProblem makeProblem(const std::string &kernel, const Variant &variant) {
  LinearProblem problem(kernel, 17);
  auto add = [&](const char *operand, DType type, uint64_t rows,
                 uint64_t columns) {
    if (problem.spec->findOperand(operand) >= 0)
      problem.add(operand, type, rows, columns);
  };
  bool down = kernel.starts_with("lora_down");
  bool dx = kernel.ends_with("_dx");
  add("x", variant.compute, m, k);
  if (variant.quantized && problem.spec->findOperand("w") >= 0)
    problem.addQuantized("w", *variant.quantized, n, k);
  else
    add("w", variant.weight, n, k);
  add("dy", variant.compute, m, n);
  add("t", variant.compute, m, r);
  add("dt", variant.compute, m, r);
  add("a", variant.weight, r, k);
  add("b", variant.weight, n, r);
  add("y", variant.out, m, n);
  add("dx", variant.out, m, k);
  add("dw", DType::f32, n, k);
  add("da", DType::f32, r, k);
  if (variant.bias)
    add("bias", variant.weight, 1, n);
  if (variant.init)
    add("init", DType::f32, m, dx ? k : n);
  else if (problem.spec->findAttribute("scale") >= 0)
    problem.set("scale", 0.75);
  if (down && kernel.ends_with("fwd"))
    problem.set("scale", 2.0);
  if (variant.count >= 0) {
    problem.addIntegers("count", DType::i32, {variant.count + 2});
    problem.set("row_start", int64_t(2));
  }
  return problem;
}

/// Rows past the count mean nothing in an output that has one row per token.
void expectSame(const LinearProblem &problem, const Variant &variant) {
  Tensor found = runDescribed(problem);
  Tensor wanted = problem.run(cpu::Path::plain, 1);
  uint64_t rows = found.rows;
  if (variant.count >= 0 && rows == m)
    rows = std::min<uint64_t>(rows, static_cast<uint64_t>(variant.count));
  // Where a narrow output holds the partial sum, it is rounded twice.
  double tolerance = found.type == DType::f32 ? 1e-5 : 3e-2;
  for (uint64_t i = 0; i < rows; ++i)
    for (uint64_t j = 0; j < found.columns; ++j)
      ASSERT_NEAR(found.at(i, j), wanted.at(i, j),
                  tolerance * std::max(1.0, std::fabs(wanted.at(i, j))))
          << problem.spec->name << " " << describe(variant) << " at " << i
          << ", " << j;
}

constexpr const char *family[] = {"linear_fwd",   "linear_lora_fwd",
                                  "linear_dx",    "linear_lora_dx",
                                  "linear_dw",    "lora_down_fwd",
                                  "lora_down_dw"};

std::vector<Variant> variantsOf(const std::string &kernel) {
  std::vector<Variant> variants;
  const KernelSpec &spec = *findKernel(kernel);
  for (DType compute : {DType::f32, DType::bf16})
    for (DType weight : {DType::f32, DType::bf16, DType::f16})
      for (DType out : {DType::f32, compute})
        for (bool init : {false, true})
          for (bool bias : {false, true})
            for (int64_t count : {-1, 0, 4, int(m)})
              if ((spec.findOperand("init") >= 0 || !init) &&
                  (spec.findOperand("bias") >= 0 || !bias))
                variants.push_back(
                    {compute, weight, out, init, bias, false, count});
  return variants;
}

} // namespace

TEST(CudaLinear, describedStepsGiveWhatTheCpuGives) {
  for (const char *kernel : family)
    for (const Variant &variant : variantsOf(kernel))
      expectSame(makeProblem(kernel, variant), variant);
}

TEST(CudaLinear, aQuantizedWeightIsDecodedFirst) {
  for (const char *kernel :
       {"linear_fwd", "linear_lora_fwd", "linear_dx", "linear_lora_dx"})
    for (DType compute : {DType::f32, DType::bf16})
      for (const conformance::Quantization &how : conformance::quantizations) {
        Variant variant{.compute = compute, .weight = compute, .out = compute};
        variant.quantized = &how;
        expectSame(makeProblem(kernel, variant), variant);
      }
}

/// Two or three adapters of other ranks, scales and types are one product.
TEST(CudaLinear, aGroupOfAdaptersIsOneProduct) {
  for (DType compute : {DType::f32, DType::bf16})
    for (unsigned members : {2u, 3u}) {
      LinearProblem problem("lora_down_group_fwd", 5);
      constexpr DType types[] = {DType::f32, DType::bf16, DType::f16};
      problem.add("x", compute, m, k);
      for (unsigned i = 0; i < members; ++i) {
        const std::string number = std::to_string(i);
        problem.add("a" + number, types[i], r + i, k);
        problem.add("t" + number, compute, m, r + i);
        problem.set("scale" + number, 0.5 + i);
      }
      auto found = runDescribedAll(problem);
      auto wanted = problem.runAll(cpu::Path::plain, 1);
      for (unsigned i = 0; i < members; ++i) {
        const std::string name = "t" + std::to_string(i);
        for (uint64_t row = 0; row < m; ++row)
          for (uint64_t column = 0; column < r + i; ++column)
            ASSERT_NEAR(found[name].at(row, column),
                        wanted[name].at(row, column),
                        compute == DType::f32 ? 1e-5 : 3e-2)
                << name << " at " << row << ", " << column;
      }
    }
}

TEST(CudaLinear, undefinedRowsPastTheCountStayOutOfSums) {
  for (const char *kernel : {"linear_dw", "lora_down_dw"}) {
    Variant variant{.compute = DType::f32, .count = 4};
    LinearProblem problem = makeProblem(kernel, variant);
    for (auto &[name, tensor] : problem.tensors)
      if (tensor.rows == m)
        for (uint64_t i = 4 * tensor.columns; i < m * tensor.columns; ++i)
          cpu::storeAt(tensor.data(), i, std::nanf(""));
    expectSame(problem, variant);
  }
}

TEST(CudaLinear, aFirstProductStartsFromInitWithoutACopy) {
  Variant variant{.init = true};
  for (const char *kernel : {"linear_fwd", "linear_dx", "linear_dw"}) {
    LinearProblem problem = makeProblem(kernel, variant);
    std::vector<cuda::Operand> operands;
    for (const OperandSpec &spec : problem.spec->operands) {
      auto found = problem.tensors.find(std::string(spec.name));
      operands.push_back(found == problem.tensors.end()
                             ? cuda::Operand()
                             : cuda::Operand{found->second.data(),
                                             found->second.type,
                                             found->second.rows,
                                             found->second.columns});
    }
    cuda::Call call;
    call.operands = operands;
    call.attributes = problem.attributeValues();
    auto work = cuda::describeLinear(problem.spec - allKernels().data(), call);
    ASSERT_TRUE(work.ok());
    EXPECT_EQ(work->steps.size(), 1u) << kernel;
    EXPECT_EQ(work->areaBytes, 0u) << kernel;
  }
}

TEST(CudaLinear, aWorkspaceThatIsTooSmallIsAnError) {
  cuda::LinearWork work;
  work.areaBytes = 4096;
  cuda::Call call;
  call.workspaceBytes = 4095;
  auto area = cuda::libraryArea(call, work);
  ASSERT_FALSE(area.ok());
  EXPECT_EQ(area.status().code(), Code::internal);
  EXPECT_NE(area.status().message().find("4096"), std::string::npos);
}
