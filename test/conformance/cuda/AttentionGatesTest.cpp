//===- cuda/AttentionGatesTest.cpp - library or own kernel ----------------===//
//
// What the card itself decides about a launch of attention, and how the numbers
// of its queries are turned for a library.
//
//===----------------------------------------------------------------------===//
#include "../Suite.h"
#include "Place.h"

#include "cuda/AttentionGates.h"
#include "peft/KernelSpec.h"

#include <cstring>

namespace peft::conformance {

namespace {

template <typename T> std::vector<std::byte> bytesOf(const std::vector<T> &of) {
  std::vector<std::byte> bytes(of.size() * sizeof(T));
  std::memcpy(bytes.data(), of.data(), bytes.size());
  return bytes;
}

/// Rows of more positions than a block has threads for their ranges.
constexpr uint64_t batch = 3, seq = 3000, heads = 2;

/// What a backward of these segments decides, with its own gate open or not.
cuda::AttentionGates decide(const std::vector<int32_t> &segments, bool open) {
  namespace op = kernels::attention_bwd;
  const Allocation memory(bytesOf(segments));
  const Allocation gate(bytesOf(std::vector<int32_t>{open}));
  Allocation gates(std::vector<std::byte>(sizeof(cuda::AttentionGates)));
  gates.fill(0xff);
  Allocation workspace(
      std::vector<std::byte>(batch * seq * heads * 8 + 256 + batch * 94 * 8));
  workspace.fill(0xff);
  std::vector<cuda::Operand> operands(op::operandCount);
  operands[op::q].rows = batch * seq;
  operands[op::segments] = {memory.data(), DType::i32, 1, batch * seq};
  std::vector<AttributeValue> attributes(op::attributeCount);
  attributes[op::seq].integer = seq;
  attributes[op::heads].integer = attributes[op::kv_heads].integer = heads;
  attributes[op::head_dim].integer = 8;
  cuda::Call call;
  call.operands = operands;
  call.attributes = attributes;
  call.workspace = workspace.data();
  call.workspaceBytes = workspace.size();
  call.gate = {reinterpret_cast<const int32_t *>(gate.data()), 0};
  const Status status = cuda::openAttentionGates(
      call, true, reinterpret_cast<cuda::AttentionGates *>(gates.data()));
  EXPECT_TRUE(status.ok()) << status.message();
  cuda::AttentionGates decided;
  std::memcpy(&decided, gates.content().data(), sizeof decided);
  return decided;
}

void expectWay(const std::vector<int32_t> &segments, bool library) {
  const cuda::AttentionGates open = decide(segments, true);
  EXPECT_EQ(open.library, library);
  EXPECT_EQ(open.own, !library);
  const cuda::AttentionGates closed = decide(segments, false);
  EXPECT_EQ(closed.library, 0);
  EXPECT_EQ(closed.own, 0);
}

} // namespace

TEST(AttentionGates, theLibraryRunsIffEveryRowIsOneSegment) {
  for (size_t order = 0; order < orderNames().size(); ++order) {
    setOrder(order);
    std::vector<int32_t> segments(batch * seq, -1);
    for (uint64_t i = 0; i < segments.size(); ++i)
      segments[i] = int32_t(i / seq) - 1; // another one in each row
    expectWay(segments, true);
    for (uint64_t other : {uint64_t(0), seq - 1, seq, 2 * seq + 31,
                           2 * seq + 1500, batch * seq - 1}) {
      std::vector<int32_t> packed = segments;
      packed[other] += 5;
      expectWay(packed, false);
    }
  }
}

TEST(AttentionGates, numbersTurnAndComeBack) {
  const cuda::QueryNumberShape shape = {3, 5, 131};
  std::vector<float> numbers(3 * 5 * 131);
  for (size_t i = 0; i < numbers.size(); ++i)
    numbers[i] = float(i);
  const Allocation byRow(bytesOf(numbers)), byHead(bytesOf(numbers)),
      again(bytesOf(numbers));
  auto at = [](const Allocation &memory) {
    return reinterpret_cast<float *>(memory.data());
  };
  const int32_t no = 0;
  cuda::Call call, closed;
  closed.gate.value = &no;
  ASSERT_TRUE(cuda::numbersByHead(closed, shape, at(byRow), at(byHead)).ok());
  EXPECT_EQ(byHead.content(), byRow.content()) << "the gate is closed";
  ASSERT_TRUE(cuda::numbersByHead(call, shape, at(byRow), at(byHead)).ok());
  ASSERT_TRUE(cuda::numbersByRow(call, shape, at(byHead), at(again)).ok());
  EXPECT_EQ(again.content(), byRow.content());
  for (uint64_t row = 0; row < 3; ++row)
    for (uint64_t head = 0; head < 5; ++head)
      for (uint64_t query = 0; query < 131; ++query)
        ASSERT_EQ(at(byHead)[(head * 3 + row) * 131 + query],
                  at(byRow)[(row * 5 + head) * 131 + query]);
}

} // namespace peft::conformance
