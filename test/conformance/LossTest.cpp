//===- LossTest.cpp - cross entropy and the sums of a step ----------------===//
#include "Suite.h"

#include <cmath>

namespace peft::conformance {
namespace {

constexpr uint64_t chunk = 9;
constexpr int64_t rowStart = 4;

double targetOf(uint64_t i, uint64_t vocab) { return double(i * 31 % vocab); }
double logit(uint64_t i) { return 12 * uniform(3, i); }

/// Loss of row i, and its gradient where `gradient` is given.
double crossEntropy(const std::vector<double> &logits, uint64_t vocab,
                    uint64_t i, double *gradient) {
  double largest = -1e300, total = 0;
  for (uint64_t j = 0; j < vocab; ++j)
    largest = std::max(largest, logits[i * vocab + j]);
  for (uint64_t j = 0; j < vocab; ++j)
    total += std::exp(logits[i * vocab + j] - largest);
  const uint64_t target = uint64_t(targetOf(i + rowStart, vocab));
  for (uint64_t j = 0; gradient && j < vocab; ++j)
    gradient[j] = std::exp(logits[i * vocab + j] - largest) / total -
                  (j == target ? 1 : 0);
  return std::log(total) + largest - logits[i * vocab + target];
}

Case crossEntropyCase(const char *kernel, uint64_t vocab, int64_t count) {
  Case launch(kernel);
  launch.input("logits", DType::f32, chunk, vocab, logit)
      .input("target", DType::i32, 1, 40,
             [&](uint64_t i) { return targetOf(i, vocab); })
      .vector("count", DType::i32, {double(count)})
      .output("loss", DType::f32, 1, chunk)
      .attribute("row_start", rowStart);
  return launch;
}

void expectLosses(const Case &launch, uint64_t vocab, uint64_t taken) {
  const std::vector<double> logits = launch.before("logits"),
                            loss = launch.after("loss");
  for (uint64_t i = 0; i < chunk; ++i)
    if (i < taken)
      EXPECT_NEAR(loss[i], crossEntropy(logits, vocab, i, nullptr), 4e-6);
    else
      EXPECT_TRUE(std::isnan(loss[i])) << "row past the count was written";
}

} // namespace

TEST_F(Conformance, cross_entropy_fwd) {
  for (uint64_t vocab : {1, 15, 16, 1003, 5000})
    for (int64_t count : {0, 7, 13, 40}) {
      Case launch = crossEntropyCase("cross_entropy_fwd", vocab, count);
      launch.expectSameBits();
      expectLosses(launch, vocab,
                   uint64_t(std::min<int64_t>(
                       chunk, std::max<int64_t>(count - rowStart, 0))));
    }
  Case launch = crossEntropyCase("cross_entropy_fwd", 50, 40);
  launch.poke("logits", 50 + 49, std::nan(""));
  launch.poke("logits", 100 + 3, INFINITY);
  launch.poke("logits", 150 + 3, -INFINITY);
  launch.expectSameBits();
  const std::vector<double> loss = launch.after("loss");
  EXPECT_TRUE(std::isnan(loss[1]) && std::isnan(loss[2]));
  EXPECT_TRUE(std::isfinite(loss[0]) && std::isfinite(loss[3]));
  launch.poke("target", 6, 50);
  launch.expectFault(50);
}

TEST_F(Conformance, cross_entropy_fwd_bwd) {
  for (DType type : computeTypes)
    for (uint64_t vocab : {1, 15, 16, 1003, 4104}) {
      const uint64_t taken = 6;
      // Without a scale, and with the scale of a step of 64 tokens.
      const double scale = type == DType::f16 || vocab == 15 ? 1024 : 1;
      Case launch =
          crossEntropyCase("cross_entropy_fwd_bwd", vocab, rowStart + taken);
      if (scale != 1)
        launch.vector("loss_scale", DType::f32, {scale});
      launch.output("dlogits", type, chunk, vocab).expectSameBits();
      expectLosses(launch, vocab, taken);
      const std::vector<double> logits = launch.before("logits"),
                                dlogits = launch.after("dlogits");
      std::vector<double> row(vocab);
      for (uint64_t i = 0; i < taken; ++i) {
        crossEntropy(logits, vocab, i, row.data());
        for (uint64_t j = 0; j < vocab; ++j)
          EXPECT_NEAR(dlogits[i * vocab + j] / scale, row[j],
                      toleranceOf(type, 1e-6, 4e-3));
      }
      for (uint64_t i = taken * vocab; i < dlogits.size(); ++i)
        EXPECT_TRUE(std::isnan(dlogits[i])) << "row past the count was written";
      launch.poke("target", rowStart, -1);
      launch.expectFault(-1);
    }
}

/// The scale is a power of two: it changes the exponents of the gradient, and
/// of the losses nothing. What it makes too large for f16 is infinite.
TEST(CrossEntropy, TheScaleMultipliesTheGradientOnly) {
  constexpr uint64_t vocab = 19;
  auto run = [](DType type, double scale) {
    Case launch = crossEntropyCase("cross_entropy_fwd_bwd", vocab, 40);
    launch.output("dlogits", type, chunk, vocab);
    if (scale)
      launch.vector("loss_scale", DType::f32, {scale});
    launch.expectSameBits();
    return launch;
  };
  const Case plain = run(DType::f32, 0), scaled = run(DType::f32, 0x1p12),
             half = run(DType::f16, 0x1p16);
  EXPECT_EQ(scaled.after("loss"), plain.after("loss"));
  EXPECT_EQ(half.after("loss"), plain.after("loss"));
  uint64_t infinite = 0;
  for (uint64_t i = 0; i < chunk * vocab; ++i) {
    const double gradient = plain.after("dlogits")[i];
    EXPECT_EQ(scaled.after("dlogits")[i], gradient * 0x1p12);
    EXPECT_EQ(half.after("dlogits")[i], rounded(DType::f16, gradient * 0x1p16));
    infinite += std::isinf(half.after("dlogits")[i]);
  }
  EXPECT_GT(infinite, 0u) << "the case is too tame";
}

TEST_F(Conformance, loss_sum) {
  for (uint64_t taken : {11, 690}) {
    Case launch("loss_sum");
    launch.input("loss", DType::f32, 1, taken + 9)
        .vector("count", DType::i32, {double(taken + 4)})
        .vector("sum", DType::f64, {1e9})
        .attribute("row_start", int64_t(4))
        .expectSameBits();
    const std::vector<double> loss = launch.before("loss");
    double sum = 1e9;
    for (uint64_t i = 0; i < taken; ++i)
      sum += loss[i];
    EXPECT_EQ(launch.after("sum")[0], sum);
  }
}

TEST_F(Conformance, count_tokens) {
  Case launch("count_tokens");
  launch.vector("count", DType::i32, {15})
      .vector("tokens", DType::i64, {5e9})
      .expectSameBits();
  EXPECT_EQ(launch.after("tokens")[0], 5e9 + 15);
  launch.poke("count", 0, -3);
  launch.expectFault(-3);
}

TEST_F(Conformance, norm_square) {
  for (uint64_t columns : {1, 17, 30000}) {
    Case launch("norm_square");
    launch.input("x", DType::f32, 7, columns)
        .vector("sum", DType::f64, {3})
        .expectSameBits();
    double sum = 3;
    for (double x : launch.before("x"))
      sum += x * x;
    EXPECT_NEAR(launch.after("sum")[0], sum, 1e-12 * sum);
  }
}

} // namespace peft::conformance
