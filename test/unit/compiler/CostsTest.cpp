//===- CostsTest.cpp - flops and bytes of ops -----------------------------===//
#include "peftc/Dialect/Lora/Lora.h"
#include "peftc/Dialect/NN/NN.h"
#include "peftc/RegisterAll.h"

#include "mlir/IR/BuiltinOps.h"
#include "mlir/IR/DialectRegistry.h"
#include "mlir/IR/MLIRContext.h"
#include "mlir/Parser/Parser.h"

#include <gtest/gtest.h>

namespace {

constexpr const char *text = R"(
nn.param @table : tensor<100x8xbf16>
nn.param @w : tensor<12x8xbf16>
nn.param @a : tensor<2x8xf32>
nn.param @b : tensor<12x2xf32>
func.func @f(%ids: tensor<2x4xi32>, %x: tensor<2x4x8xbf16>) {
  %e = nn.embed %ids, @table : tensor<2x4xi32> -> tensor<2x4x8xf32>
  %y = nn.linear %x, @w : tensor<2x4x8xbf16> -> tensor<2x4x12xbf16>
  %z, %t = lora.linear %x, @w a @a b @b {scale = 2.0, module = "w"} : tensor<2x4x8xbf16> -> tensor<2x4x12xbf16>, tensor<2x4x2xbf16>
  %o, %l = nn.attention %x, %x, %x {heads = 2, kvHeads = 2, headDim = 4, scale = 0.5} : tensor<2x4x8xbf16>, tensor<2x4x8xbf16> -> tensor<2x4x8xbf16>, tensor<2x8xf32>
  %p, %m = nn.attention %x, %x, %x {heads = 2, kvHeads = 2, headDim = 4, scale = 0.5, window = 2} : tensor<2x4x8xbf16>, tensor<2x4x8xbf16> -> tensor<2x4x8xbf16>, tensor<2x8xf32>
  return
}
)";

struct Cost {
  uint64_t flops, bytes;
};

TEST(Costs, CountedByHand) {
  mlir::DialectRegistry registry;
  peftc::registerAllDialects(registry);
  mlir::MLIRContext context(registry, mlir::MLIRContext::Threading::DISABLED);
  auto module = mlir::parseSourceString<mlir::ModuleOp>(text, &context);
  ASSERT_TRUE(module);
  std::vector<Cost> costs;
  module->walk([&](peftc::nn::Costed op) {
    costs.push_back({op.getFlops(), op.getBytes()});
  });
  ASSERT_EQ(costs.size(), 5u);
  // 8 ids, 8 rows of the table in bf16, 8 rows of the result in f32.
  EXPECT_EQ(costs[0].flops, 0u);
  EXPECT_EQ(costs[0].bytes, 8u * 4 + 8u * 8 * 2 + 8u * 8 * 4);
  // 8 rows x 12 x 8 multiply-adds; x, w and y in bf16.
  EXPECT_EQ(costs[1].flops, 2u * 8 * 12 * 8);
  EXPECT_EQ(costs[1].bytes, 2u * (8 * 8 + 12 * 8 + 8 * 12));
  // The same, t = x A^T and t B^T.
  EXPECT_EQ(costs[2].flops, 2u * 8 * 12 * 8 + 2u * 8 * 2 * 8 + 2u * 8 * 12 * 2);
  // 2 rows, 1 + 2 + 3 + 4 pairs, 2 heads of 4, two products.
  EXPECT_EQ(costs[3].flops, 2u * 2 * 2 * 10 * 2 * 4);
  // With a window of 2: 1 + 2 + 2 + 2 pairs.
  EXPECT_EQ(costs[4].flops, 2u * 2 * 2 * 7 * 2 * 4);
}

} // namespace
