//===- OptimizerTest.cpp - the end of a step and AdamW --------------------===//
#include "Suite.h"

#include <cmath>

namespace peft::conformance {
namespace {

constexpr double rate = 3e-3, beta1 = 0.9, beta2 = 0.98, epsilon = 1e-8,
                 decay = 0.1;

Case stepCase(double lossSum, double tokens, double normSum, double most,
              double step) {
  Case launch("finish_step");
  launch.vector("loss_sum", DType::f64, {lossSum})
      .vector("tokens", DType::i64, {tokens})
      .vector("norm_sum", DType::f64, {normSum})
      .vector("learning_rate", DType::f64, {rate})
      .vector("beta1", DType::f64, {beta1})
      .vector("beta2", DType::f64, {beta2})
      .vector("epsilon", DType::f64, {epsilon})
      .vector("weight_decay", DType::f64, {decay})
      .vector("max_grad_norm", DType::f64, {most})
      .vector("optimizer_step", DType::i32, {step})
      .output("adam", DType::f64, 1, 8)
      .output("metrics", DType::f64, 1, 4)
      .output("apply", DType::i32, 1, 1);
  return launch;
}

} // namespace

TEST_F(Conformance, finish_step) {
  for (double most : {0.0, 1.0, 100.0}) {
    Case launch = stepCase(250, 100, 90000, most, 6);
    launch.expectSameBits();
    const double clip = most == 1 ? 1 / (3 + 1e-6) : 1;
    launch.expectNear("metrics", {2.5, 3, 100, 1}, 1e-15);
    const std::vector<double> adam = launch.after("adam");
    const double expected[] = {clip / 100,
                               rate,
                               beta1,
                               beta2,
                               epsilon,
                               decay,
                               1 - std::pow(beta1, 7),
                               1 - std::pow(beta2, 7)};
    for (int i = 0; i < 8; ++i)
      EXPECT_NEAR(adam[i], expected[i], 1e-14 * expected[i]) << i;
    EXPECT_EQ(launch.after("optimizer_step")[0], 7);
    EXPECT_EQ(launch.after("apply")[0], 1);
    for (const char *sum : {"loss_sum", "tokens", "norm_sum"})
      EXPECT_EQ(launch.after(sum)[0], 0);
  }
  const double inf = INFINITY, nan = std::nan("");
  for (Case launch : {stepCase(0, 0, 0, 1, 6), stepCase(nan, 5, 1, 1, 6),
                      stepCase(-inf, 5, 1, 1, 6), stepCase(inf, 5, 1, 1, 6),
                      stepCase(1, 5, inf, 1, 6), stepCase(1, 5, nan, 0, 6)}) {
    launch.expectSameBits();
    EXPECT_EQ(launch.after("optimizer_step")[0], 6);
    EXPECT_EQ(launch.after("apply")[0], 0);
    EXPECT_EQ(launch.after("metrics")[3], 0);
    EXPECT_EQ(launch.after("tokens")[0], 0);
    EXPECT_EQ(launch.after("norm_sum")[0], 0);
    // A loss that is not finite keeps later steps from being applied, too.
    const double loss = launch.before("loss_sum")[0];
    const double left = std::isfinite(loss) ? 0 : loss;
    EXPECT_EQ(std::isnan(launch.after("loss_sum")[0]), std::isnan(left));
    if (!std::isnan(left))
      EXPECT_EQ(launch.after("loss_sum")[0], left);
  }
  // No step is counted past the largest.
  Case launch = stepCase(250, 100, 90000, 1, INT32_MAX);
  launch.expectSameBits();
  EXPECT_EQ(launch.after("optimizer_step")[0], INT32_MAX);
}

/// The scale of the loss leaves the mean gradient: a step of sums that are 512
/// times as large, divided by 512, is the same step.
TEST(FinishStep, DividesByTheLossScale) {
  Case plain = stepCase(250, 100, 90000, 1, 6);
  Case scaled = stepCase(250, 100, 90000 * 0x1p18, 1, 6);
  scaled.vector("loss_scale", DType::f32, {512});
  plain.expectSameBits();
  scaled.expectSameBits();
  EXPECT_EQ(scaled.after("metrics"), plain.after("metrics"));
  std::vector<double> adam = scaled.after("adam");
  adam[0] *= 512;
  EXPECT_EQ(adam, plain.after("adam"));
}

struct ScaleStep {
  const char *name;
  double loss, norm, tokens, applied; ///< the metrics of the step
  double scale, good;
  double newScale, newGood, proceed;
};

TEST_F(Conformance, adjust_loss_scale) {
  const double inf = INFINITY, nan = std::nan("");
  const ScaleStep steps[] = {
      {"good", 2, 3, 100, 1, 64, 0, 64, 1, 1},
      {"fourth good one", 2, 3, 100, 1, 64, 3, 128, 0, 1},
      {"more than four", 2, 3, 100, 1, 64, 9, 128, 0, 1},
      {"at the top", 2, 3, 100, 1, 0x1p16, 3, 0x1p16, 0, 1},
      {"infinite gradient", 2, inf, 100, 0, 64, 3, 32, 0, 1},
      {"NaN gradient", 2, nan, 100, 0, 64, 2, 32, 0, 1},
      {"last halving", 2, inf, 100, 0, 0x1p-13, 2, 0x1p-14, 0, 1},
      {"at the bottom", 2, inf, 100, 0, 0x1p-14, 2, 0x1p-14, 2, 0},
      {"NaN loss", nan, 1, 100, 0, 64, 3, 64, 3, 0},
      {"infinite loss", inf, nan, 100, 0, 64, 3, 64, 3, 0},
      {"nothing trained", 0, 0, 0, 0, 64, 3, 64, 3, 1},
      {"no count overflows", 2, 3, 100, 1, 64, 2147483647, 128, 0, 1},
  };
  for (const ScaleStep &step : steps) {
    SCOPED_TRACE(step.name);
    Case launch("adjust_loss_scale");
    launch
        .vector("metrics", DType::f64,
                {step.loss, step.norm, step.tokens, step.applied})
        .vector("loss_scale", DType::f32, {step.scale})
        .vector("good_steps", DType::i32, {step.good})
        .output("proceed", DType::i32, 1, 1)
        .attribute("growth_interval", int64_t(4))
        .expectSameBits();
    EXPECT_EQ(launch.after("loss_scale")[0], step.newScale);
    EXPECT_EQ(launch.after("good_steps")[0], step.newGood);
    EXPECT_EQ(launch.after("proceed")[0], step.proceed);
  }
}

TEST_F(Conformance, adamw) {
  for (int64_t decays : {0, 1})
    for (uint64_t columns : {1, 33, 5000, 15001}) {
      const double scale = 0.25, factor = 2, lr = rate * factor;
      const double correction1 = 1 - std::pow(beta1, 3),
                   correction2 = 1 - std::pow(beta2, 3);
      Case launch("adamw");
      launch.input("parameter", DType::f32, 3, columns)
          .input("gradient", DType::f32, 3, columns)
          .input("first_moment", DType::f32, 3, columns)
          .input("second_moment", DType::f32, 3, columns,
                 [](uint64_t i) { return 1e-3 * std::fabs(uniform(9, i)); })
          .vector("adam", DType::f64,
                  {scale, rate, beta1, beta2, epsilon, decay, correction1,
                   correction2})
          .attribute("rate_factor", factor)
          .attribute("decay", decays)
          .expectSameBits();
      std::vector<double> p = launch.before("parameter"),
                          g = launch.before("gradient"),
                          m = launch.before("first_moment"),
                          v = launch.before("second_moment");
      for (size_t i = 0; i < p.size(); ++i) {
        g[i] *= scale;
        m[i] = beta1 * m[i] + (1 - beta1) * g[i];
        v[i] = beta2 * v[i] + (1 - beta2) * g[i] * g[i];
        p[i] *= decays ? 1 - lr * decay : 1;
        p[i] -= lr / correction1 * m[i] /
                (std::sqrt(v[i]) / std::sqrt(correction2) + epsilon);
      }
      launch.expectNear("parameter", p, 1e-6);
      launch.expectNear("first_moment", m, 1e-6);
      launch.expectNear("second_moment", v, 1e-6);
    }
}

} // namespace peft::conformance
