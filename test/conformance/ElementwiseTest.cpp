//===- ElementwiseTest.cpp - SwiGLU, sums, casts, RoPE --------------------===//
#include "Suite.h"

#include <cmath>

namespace peft::conformance {
namespace {

double toleranceOf(DType type) {
  return conformance::toleranceOf(type, 1e-6, 5e-3);
}

double sigmoid(double x) { return 1 / (1 + std::exp(-x)); }

/// Also far from zero, where the exponential overflows or vanishes.
double wide(uint64_t i) {
  const double x = uniform(7, i);
  return i % 5 == 0 ? 120 * x : 4 * x;
}

} // namespace

TEST_F(Conformance, swiglu_fwd) {
  for (DType type : computeTypes)
    for (uint64_t columns : {1, 16, 37, 3000}) {
      Case launch("swiglu_fwd");
      launch.input("gate", type, 7, columns, wide)
          .input("up", type, 7, columns)
          .output("y", type, 7, columns)
          .expectSameBits();
      const std::vector<double> gate = launch.before("gate"),
                                up = launch.before("up");
      std::vector<double> y(gate.size());
      for (size_t i = 0; i < y.size(); ++i)
        y[i] = gate[i] * sigmoid(gate[i]) * up[i];
      launch.expectNear("y", y, toleranceOf(type));
    }
}

TEST_F(Conformance, swiglu_bwd) {
  for (DType type : computeTypes)
    for (uint64_t columns : {1, 16, 37, 3000}) {
      Case launch("swiglu_bwd");
      launch.input("dy", type, 7, columns)
          .input("gate", type, 7, columns, wide)
          .input("up", type, 7, columns)
          .output("dgate", type, 7, columns)
          .output("dup", type, 7, columns)
          .expectSameBits();
      const std::vector<double> dy = launch.before("dy"),
                                gate = launch.before("gate"),
                                up = launch.before("up");
      std::vector<double> dgate(dy.size()), dup(dy.size());
      for (size_t i = 0; i < dy.size(); ++i) {
        const double s = sigmoid(gate[i]);
        dgate[i] = dy[i] * up[i] * s * (1 + gate[i] * (1 - s));
        dup[i] = dy[i] * gate[i] * s;
      }
      launch.expectNear("dgate", dgate, toleranceOf(type));
      launch.expectNear("dup", dup, toleranceOf(type));
    }
}

/// gelu as torch computes it with approximate="tanh", and its derivative.
struct Gelu {
  double value, slope;

  explicit Gelu(double x) {
    const double root = std::sqrt(2 / std::acos(-1.0));
    const double t = std::tanh(root * (x + 0.044715 * x * x * x));
    value = 0.5 * x * (1 + t);
    slope = 0.5 * (1 + t) +
            0.5 * x * (1 - t * t) * root * (1 + 3 * 0.044715 * x * x);
  }
};

TEST_F(Conformance, geglu_fwd) {
  for (DType type : computeTypes)
    for (uint64_t columns : {1, 16, 37, 3000}) {
      Case launch("geglu_fwd");
      launch.input("gate", type, 7, columns, wide)
          .input("up", type, 7, columns)
          .output("y", type, 7, columns)
          .expectSameBits();
      const std::vector<double> gate = launch.before("gate"),
                                up = launch.before("up");
      std::vector<double> y(gate.size());
      for (size_t i = 0; i < y.size(); ++i)
        y[i] = Gelu(gate[i]).value * up[i];
      launch.expectNear("y", y, toleranceOf(type));
    }
}

TEST_F(Conformance, geglu_bwd) {
  for (DType type : computeTypes)
    for (uint64_t columns : {1, 16, 37, 3000}) {
      Case launch("geglu_bwd");
      launch.input("dy", type, 7, columns)
          .input("gate", type, 7, columns, wide)
          .input("up", type, 7, columns)
          .output("dgate", type, 7, columns)
          .output("dup", type, 7, columns)
          .expectSameBits();
      const std::vector<double> dy = launch.before("dy"),
                                gate = launch.before("gate"),
                                up = launch.before("up");
      std::vector<double> dgate(dy.size()), dup(dy.size());
      for (size_t i = 0; i < dy.size(); ++i) {
        const Gelu gelu(gate[i]);
        dgate[i] = dy[i] * up[i] * gelu.slope;
        dup[i] = dy[i] * gelu.value;
      }
      launch.expectNear("dgate", dgate, toleranceOf(type));
      launch.expectNear("dup", dup, toleranceOf(type));
    }
}

TEST_F(Conformance, add_fwd) {
  for (DType a : computeTypes)
    for (DType b : computeTypes)
      for (DType y : computeTypes) {
        // One launch has one compute type.
        const bool brain =
            a == DType::bf16 || b == DType::bf16 || y == DType::bf16;
        if (brain && (a == DType::f16 || b == DType::f16 || y == DType::f16))
          continue;
        Case launch("add_fwd");
        launch.input("a", a, 130, 67)
            .input("b", b, 130, 67)
            .output("y", y, 130, 67)
            .expectSameBits();
        const std::vector<double> left = launch.before("a"),
                                  right = launch.before("b");
        std::vector<double> sum(left.size());
        for (size_t i = 0; i < sum.size(); ++i)
          sum[i] = rounded(y, rounded(DType::f32, left[i] + right[i]));
        launch.expectNear("y", sum, 0);
      }
}

TEST_F(Conformance, cast) {
  // Halves between two bf16 numbers and between two f16 numbers, zeros of both
  // signs, infinities, numbers that round up to infinity, denormals of f32 and
  // of f16.
  const double special[] = {
      1 + 0x1p-8,  1 + 3 * 0x1p-8, -0.0,      INFINITY,    -INFINITY,
      65504,       0x1p-24,        -0x3p-20,  0x1.ffp+127, 0x1.1p-126,
      -0x1p-126,   65519,          65520,     -65520,      1 + 0x1p-11,
      1 + 0x3p-11, 0x1p-25,        0x1.8p-25, 0x1.008p-15, -0x1.ffcp-15};
  for (DType from : computeTypes)
    for (DType to : computeTypes) {
      Case launch("cast");
      launch
          .input("x", from, 3, 5003,
                 [&](uint64_t i) {
                   return i < std::size(special) ? special[i]
                                                 : 8 * uniform(1, i);
                 })
          .output("y", to, 3, 5003);
      launch.poke("x", 5000, std::nan(""));
      launch.expectSameBits();
      const std::vector<double> x = launch.before("x"), y = launch.after("y");
      EXPECT_TRUE(std::isnan(y[5000]));
      for (size_t i = 0; i < x.size(); ++i)
        if (i != 5000)
          ASSERT_EQ(y[i], rounded(to, x[i])) << name(from) << " " << i;
    }
}

TEST_F(Conformance, fill_zero) {
  for (DType type : {DType::f32, DType::bf16, DType::f16, DType::f64,
                     DType::i32, DType::i64})
    for (uint64_t columns : {1, 5, 70000}) {
      Case launch("fill_zero");
      launch.output("y", type, 3, columns).expectSameBits();
      launch.expectNear("y", std::vector<double>(3 * columns, 0), 0);
    }
}

TEST_F(Conformance, accumulate) {
  Case launch("accumulate");
  launch.input("x", DType::f32, 31, 333)
      .input("y", DType::f32, 31, 333)
      .expectSameBits();
  std::vector<double> sum = launch.before("x"), y = launch.before("y");
  for (size_t i = 0; i < sum.size(); ++i)
    sum[i] = rounded(DType::f32, sum[i] + y[i]);
  launch.expectNear("y", sum, 0);
}

TEST_F(Conformance, rope_table) {
  std::vector<float> frequencies;
  for (int i = 0; i < 21; ++i)
    frequencies.push_back(static_cast<float>(std::pow(10000.0, -i / 21.0)));
  const std::vector<double> positions = {0,    1,      17,      4095,
                                         8192, 131071, 9999999, -3};
  Case launch("rope_table");
  launch.vector("positions", DType::i32, positions)
      .output("table", DType::f32, positions.size(), 42)
      .attribute("inv_freq", frequencies)
      .attribute("attention_factor", 1.25)
      .expectSameBits();
  std::vector<double> table(positions.size() * 42);
  for (size_t i = 0; i < positions.size(); ++i)
    for (size_t j = 0; j < 21; ++j) {
      const float angle = static_cast<float>(positions[i]) * frequencies[j];
      table[i * 42 + j] = 1.25 * std::cos(static_cast<double>(angle));
      table[i * 42 + 21 + j] = 1.25 * std::sin(static_cast<double>(angle));
    }
  launch.expectNear("table", table, 1.5e-7);
}

TEST_F(Conformance, rope_fwd) {
  struct Shape {
    uint64_t rows, heads, dim, width;
  };
  for (DType type : computeTypes)
    for (Shape shape : {Shape{9, 3, 64, 64}, {130, 2, 10, 6}, {5, 1, 34, 34}, {3, 40, 64, 64}})
      for (int64_t inverse : {0, 1}) {
        const uint64_t columns = shape.heads * shape.dim;
        Case launch("rope_fwd");
        launch.input("x", type, shape.rows, columns)
            .input("table", DType::f32, shape.rows, shape.width)
            .output("y", type, shape.rows, columns)
            .attribute("head_dim", int64_t(shape.dim))
            .attribute("inverse", inverse)
            .expectSameBits();
        const std::vector<double> x = launch.before("x"),
                                  table = launch.before("table");
        std::vector<double> y = x;
        const uint64_t half = shape.width / 2;
        for (uint64_t i = 0; i < shape.rows; ++i)
          for (uint64_t h = 0; h < shape.heads; ++h)
            for (uint64_t j = 0; j < half; ++j) {
              const uint64_t a = i * columns + h * shape.dim + j, b = a + half;
              const double c = table[i * shape.width + j];
              const double s =
                  table[i * shape.width + half + j] * (inverse ? -1 : 1);
              y[a] = x[a] * c - x[b] * s;
              y[b] = x[b] * c + x[a] * s;
            }
        launch.expectNear("y", y, conformance::toleranceOf(type, 2e-7, 4e-3));
      }
}

} // namespace peft::conformance
