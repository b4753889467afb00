//===- cuda/MultiTensorTest.cpp - many tensors in one launch --------------===//
#include "cuda/MultiTensor.h"

#include "../Suite.h"
#include "cuda/Grid.h"
#include "cuda/Kernels.h"
#include "peft/DynamicMap.h"

#include <cmath>

namespace peft::cuda {
namespace {

/// Longer than a part, a whole part, short, not a multiple of anything.
constexpr uint64_t sizes[] = {70001, 32768, 5, 1, 640};
constexpr int32_t no = 0; ///< of a closed gate

std::vector<float> numbers(uint64_t seed, uint64_t count) {
  std::vector<float> values;
  for (uint64_t i = 0; i < count; ++i)
    values.push_back(static_cast<float>(conformance::uniform(seed, i)));
  return values;
}

Operand operandOf(std::vector<float> &values) {
  return {reinterpret_cast<std::byte *>(values.data()), DType::f32, 1,
          values.size()};
}

/// AdamW's state of several tensors, with calls that refer to it.
struct Tensors {
  std::vector<std::vector<float>> values; ///< four per tensor
  std::vector<double> adam = {0.5, 1e-3, 0.9, 0.99, 1e-8, 0.1, 0.19, 0.02};
  std::vector<std::vector<Operand>> operands;
  std::vector<std::vector<AttributeValue>> attributes;
  std::vector<Call> calls;

  Tensors() {
    for (uint64_t seed = 0; uint64_t size : sizes)
      for (int i = 0; i < 4; ++i) {
        values.push_back(numbers(++seed, size));
        if (i == 3)
          for (float &moment : values.back())
            moment = std::fabs(moment);
      }
    for (size_t i = 0; i < values.size(); i += 4) {
      operands.emplace_back();
      for (size_t j = 0; j < 4; ++j)
        operands.back().push_back(operandOf(values[i + j]));
      operands.back().push_back(
          {reinterpret_cast<std::byte *>(adam.data()), DType::f64, 1, 8});
      attributes.push_back(
          {{0, i == 4 ? 2.0 : 1.0, {}}, {i == 8 ? 1 : 0, 0, {}}});
    }
    for (size_t i = 0; i < operands.size(); ++i) {
      Call call;
      call.operands = operands[i];
      call.attributes = attributes[i];
      calls.push_back(call);
    }
  }
  Tensors(const Tensors &) = delete;
};

TEST(MultiTensor, AdamwIsTheSameAsOneByOne) {
  emulation::setOrder(emulation::Order::random, 4);
  Tensors single, merged;
  for (const Call &call : single.calls)
    ASSERT_TRUE(adamw(call).ok());
  std::vector<AdamwPart> parts;
  for (const Call &call : merged.calls)
    appendParts(call, parts);
  EXPECT_EQ(parts.size(), 7u);
  ASSERT_TRUE(
      adamwTable(Call(), parts.data(), parts.size(), merged.adam.data()).ok());
  EXPECT_EQ(single.values, merged.values);
  EXPECT_NE(single.values, Tensors().values);
  // A closed gate holds for the whole table.
  Call closed;
  closed.gate.value = &no;
  ASSERT_TRUE(
      adamwTable(closed, parts.data(), parts.size(), merged.adam.data()).ok());
  EXPECT_EQ(single.values, merged.values);
}

/// The state of adamw8bit of several tensors.
struct CodedTensors {
  std::vector<std::vector<float>> floats;  ///< four per tensor
  std::vector<std::vector<uint8_t>> codes; ///< two per tensor
  std::vector<double> adam = Tensors().adam;
  std::vector<std::vector<Operand>> operands;
  std::vector<std::vector<AttributeValue>> attributes;

  CodedTensors() {
    for (uint64_t seed = 0; uint64_t size : sizes) {
      const uint64_t blocks = (size + momentBlock - 1) / momentBlock;
      for (uint64_t count : {size, size, blocks, blocks})
        floats.push_back(numbers(++seed, count));
      for (float &scale : floats.back())
        scale = std::fabs(scale);
      for (int i = 0; i < 2; ++i)
        for (codes.emplace_back(); codes.back().size() < size;)
          codes.back().push_back(uint8_t(codes.back().size() * 37));
    }
    for (size_t i = 0; i < std::size(sizes); ++i) {
      auto bytes = [](std::vector<uint8_t> &of) {
        return Operand{reinterpret_cast<std::byte *>(of.data()), DType::u8, 1,
                       of.size()};
      };
      namespace op = kernels::adamw8bit;
      std::vector<Operand> &mine = operands.emplace_back(7);
      mine[op::parameter] = operandOf(floats[4 * i]);
      mine[op::gradient] = operandOf(floats[4 * i + 1]);
      mine[op::first_scale] = operandOf(floats[4 * i + 2]);
      mine[op::second_scale] = operandOf(floats[4 * i + 3]);
      mine[op::first_moment] = bytes(codes[2 * i]);
      mine[op::second_moment] = bytes(codes[2 * i + 1]);
      mine[op::adam] = {reinterpret_cast<std::byte *>(adam.data()), DType::f64,
                        1, 8};
      attributes.push_back({{0, i == 1 ? 2.0 : 1.0, {}}, {i == 2, 0, {}}});
    }
  }
  CodedTensors(const CodedTensors &) = delete;

  Call call(size_t i) const {
    Call result;
    result.operands = operands[i];
    result.attributes = attributes[i];
    return result;
  }
};

TEST(MultiTensor, Adamw8bitIsTheSameAsOneByOne) {
  emulation::setOrder(emulation::Order::random, 5);
  CodedTensors single, merged;
  std::vector<CodedAdamwPart> parts;
  for (size_t i = 0; i < std::size(sizes); ++i) {
    ASSERT_TRUE(adamw8bit(single.call(i)).ok());
    appendParts(merged.call(i), parts);
  }
  EXPECT_EQ(parts.size(), 7u);
  auto run = [&](const Call &call) {
    ASSERT_TRUE(
        adamw8bitTable(call, parts.data(), parts.size(), merged.adam.data())
            .ok());
    EXPECT_EQ(single.floats, merged.floats);
    EXPECT_EQ(single.codes, merged.codes);
  };
  run(Call());
  EXPECT_NE(single.codes, CodedTensors().codes);
  Call closed; // its gate holds for the whole table
  closed.gate.value = &no;
  run(closed);
}

TEST(MultiTensor, NormIsTheSumOfAll) {
  emulation::setOrder(emulation::Order::descending);
  std::vector<std::vector<float>> tensors;
  std::vector<NormPart> parts;
  double expected = 3, sum = 3;
  for (uint64_t size : sizes)
    tensors.push_back(numbers(size, size));
  for (std::vector<float> &tensor : tensors) {
    std::vector<Operand> operands = {operandOf(tensor), {}};
    Call call;
    call.operands = operands;
    appendParts(call, parts);
    for (double x : tensor)
      expected += x * x;
  }
  std::vector<double> workspace(parts.size());
  Call call;
  call.workspace = reinterpret_cast<std::byte *>(workspace.data());
  call.workspaceBytes = workspace.size() * 8;
  ASSERT_TRUE(normSquareTable(call, parts.data(), parts.size(), &sum).ok());
  EXPECT_NEAR(sum, expected, 1e-12 * expected);
  const double before = sum;
  workspace[0] = -1;
  call.gate.value = &no;
  ASSERT_TRUE(normSquareTable(call, parts.data(), parts.size(), &sum).ok());
  EXPECT_EQ(sum, before) << "the gate is closed";
  EXPECT_EQ(workspace[0], -1) << "the gate is closed";
  call.gate.value = nullptr;
  call.workspaceBytes -= 8;
  EXPECT_FALSE(normSquareTable(call, parts.data(), parts.size(), &sum).ok());
}

TEST(MultiTensor, ZerosFillAll) {
  emulation::setOrder(emulation::Order::ascending);
  std::vector<std::vector<float>> tensors;
  std::vector<uint16_t> halves(77, 0xffff);
  std::vector<ZeroPart> parts;
  for (uint64_t size : sizes)
    tensors.push_back(numbers(size, size));
  std::vector<Operand> operands;
  for (std::vector<float> &tensor : tensors)
    operands.push_back(operandOf(tensor));
  operands.push_back({reinterpret_cast<std::byte *>(halves.data()), DType::f16,
                      1, halves.size()});
  for (const Operand &operand : operands) {
    Call call;
    call.operands = {&operand, 1};
    appendParts(call, parts);
  }
  Call closed;
  closed.gate.value = &no;
  ASSERT_TRUE(fillZeroTable(closed, parts.data(), parts.size()).ok());
  EXPECT_EQ(halves, std::vector<uint16_t>(77, 0xffff)) << "the gate is closed";
  EXPECT_EQ(tensors[3], numbers(1, 1)) << "the gate is closed";
  ASSERT_TRUE(fillZeroTable(Call(), parts.data(), parts.size()).ok());
  for (const std::vector<float> &tensor : tensors)
    EXPECT_EQ(tensor, std::vector<float>(tensor.size()));
  EXPECT_EQ(halves, std::vector<uint16_t>(halves.size()));
}

} // namespace
} // namespace peft::cuda
