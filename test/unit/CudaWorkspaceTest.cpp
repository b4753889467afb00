//===- CudaWorkspaceTest.cpp - scratch of the CUDA kernels ----------------===//
#include "peft/KernelSpec.h"

#include <gtest/gtest.h>

using namespace peft;

namespace {

constexpr uint64_t heads = 32;

/// Bytes that attention asks for on a card, for one row of `seq` tokens.
uint64_t attentionBytes(const char *kernel, uint64_t seq) {
  const KernelSpec &spec = *findKernel(kernel);
  std::vector<AttributeValue> attributes(spec.attributes.size());
  attributes[spec.findAttribute("seq")].integer = static_cast<int64_t>(seq);
  attributes[spec.findAttribute("heads")].integer = heads;
  LaunchShape shape;
  shape.attributes = attributes;
  shape.presentMask = UINT64_MAX; // segments too
  shape.m = seq;
  return spec.cudaWorkspace(shape).value;
}

} // namespace

TEST(CudaWorkspace, attentionIsLinearInTheSequence) {
  for (const char *kernel : {"attention_fwd", "attention_bwd"})
    for (uint64_t seq : {uint64_t(4096), uint64_t(1) << 17, uint64_t(1) << 24})
      EXPECT_EQ(attentionBytes(kernel, 2 * seq), 2 * attentionBytes(kernel, seq))
          << kernel << " at " << seq;
  // Two numbers per query and head, and two per 32 positions.
  EXPECT_EQ(attentionBytes("attention_bwd", 4096),
            4096 * heads * 8 + 4096 / 32 * 8);
}

/// Sums under dropout are split into at most eight parts, however many rows.
TEST(CudaWorkspace, maskedGradientsHaveEightPartsAtMost) {
  const KernelSpec &spec = *findKernel("lora_down_dw");
  auto bytes = [&](uint64_t rows, double dropout) {
    std::vector<AttributeValue> attributes(spec.attributes.size());
    attributes[spec.findAttribute("dropout")].real = dropout;
    const std::vector<DType> types(spec.operands.size(), DType::bf16);
    LaunchShape shape;
    shape.attributes = attributes;
    shape.types = types;
    shape.m = rows;
    shape.r = 16;
    shape.k = 4096;
    return spec.cudaWorkspace(shape).value;
  };
  constexpr uint64_t part = 16 * 4096 * 4;
  const uint64_t library = bytes(1 << 20, 0);
  EXPECT_EQ(bytes(1024, 0.1), library + part);
  EXPECT_EQ(bytes(1025, 0.1), library + 2 * part);
  EXPECT_EQ(bytes(1 << 20, 0.1), library + 8 * part);
}
