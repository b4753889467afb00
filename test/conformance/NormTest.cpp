//===- NormTest.cpp - RMS norm and its gradients --------------------------===//
#include "Suite.h"

#include <cmath>

namespace peft::conformance {
namespace {

constexpr double epsilon = 1e-5;

struct Shape {
  uint64_t rows, columns, width; ///< groups of `width` columns
  uint64_t groups() const { return rows * columns / width; }
};
/// The widest before the wide: its larger block leaves more in shared memory
/// than the next may look at.
const Shape shapes[] = {
    {5, 64, 64}, {130, 96, 96}, {7, 39, 13}, {3, 1000, 1000}, {1, 1, 1},
    {2, 4101, 4101}, {3, 1504, 1504}};

struct Types {
  DType dy, x, weight, out;
};
const Types types[] = {{DType::f32, DType::f32, DType::f32, DType::f32},
                       {DType::bf16, DType::f32, DType::bf16, DType::bf16},
                       {DType::f32, DType::f32, DType::f16, DType::f32},
                       {DType::bf16, DType::bf16, DType::bf16, DType::bf16},
                       {DType::f16, DType::f32, DType::f32, DType::f16},
                       {DType::f32, DType::f16, DType::bf16, DType::f16},
                       {DType::f16, DType::f16, DType::f16, DType::f16}};

double toleranceOf(DType type) {
  return conformance::toleranceOf(type, 2e-6, 4e-3);
}

std::vector<double> rstdOf(const std::vector<double> &x, const Shape &shape) {
  std::vector<double> rstd(shape.groups());
  for (uint64_t i = 0; i < rstd.size(); ++i) {
    double squares = 0;
    for (uint64_t j = 0; j < shape.width; ++j)
      squares += x[i * shape.width + j] * x[i * shape.width + j];
    rstd[i] = 1 / std::sqrt(squares / double(shape.width) + epsilon);
  }
  return rstd;
}

} // namespace

/// How a norm is used: llama's, gemma's, and gemma's after a branch.
struct Use {
  double offset;
  bool hasInit;
};
const Use uses[] = {{0, false}, {1, false}, {1, true}, {0, true}};

TEST_F(Conformance, rms_norm_fwd) {
  for (const Shape &shape : shapes)
    for (const Types &type : types)
      for (const Use &use : uses) {
        Case launch("rms_norm_fwd");
        launch.input("x", type.x, shape.rows, shape.columns)
            .input("weight", type.weight, 1, shape.width)
            .output("y", type.out, shape.rows, shape.columns)
            .output("rstd", DType::f32, 1, shape.groups())
            .attribute("epsilon", epsilon)
            .attribute("weight_offset", use.offset);
        if (use.hasInit)
          launch.input("init", DType::f32, shape.rows, shape.columns,
                       [](uint64_t i) { return uniform(9, i); });
        launch.expectSameBits();
        const std::vector<double> x = launch.before("x"),
                                  weight = launch.before("weight"),
                                  rstd = rstdOf(x, shape);
        std::vector<double> y(x.size());
        if (use.hasInit)
          y = launch.before("init");
        for (size_t i = 0; i < y.size(); ++i)
          y[i] += x[i] * rstd[i / shape.width] *
                  (weight[i % shape.width] + use.offset);
        launch.expectNear("rstd", rstd, 1e-6);
        launch.expectNear("y", y, toleranceOf(type.out));
      }
}

TEST_F(Conformance, rms_norm_dx) {
  for (const Shape &shape : shapes)
    for (const Types &type : types)
      for (const auto &[offset, hasInit] : uses) {
        Case launch("rms_norm_dx");
        launch.input("dy", type.dy, shape.rows, shape.columns)
            .input("x", type.x, shape.rows, shape.columns)
            .input("weight", type.weight, 1, shape.width)
            .input("rstd", DType::f32, 1, shape.groups())
            .output("dx", type.out, shape.rows, shape.columns)
            .attribute("weight_offset", offset);
        if (hasInit)
          launch.input("init", DType::f32, shape.rows, shape.columns);
        launch.expectSameBits();
        const std::vector<double> x = launch.before("x"),
                                  dy = launch.before("dy"),
                                  rstd = launch.before("rstd");
        std::vector<double> weight = launch.before("weight");
        for (double &value : weight)
          value += offset;
        std::vector<double> dx(x.size());
        if (hasInit)
          dx = launch.before("init");
        for (uint64_t i = 0; i < rstd.size(); ++i) {
          const uint64_t at = i * shape.width;
          double mean = 0;
          for (uint64_t j = 0; j < shape.width; ++j)
            mean += weight[j] * dy[at + j] * x[at + j] / double(shape.width);
          for (uint64_t j = 0; j < shape.width; ++j)
            dx[at + j] += rstd[i] * (weight[j] * dy[at + j] -
                                     x[at + j] * rstd[i] * rstd[i] * mean);
        }
        launch.expectNear("dx", dx, toleranceOf(type.out));
      }
}

TEST_F(Conformance, rms_norm_dw) {
  for (const Shape &shape : shapes)
    for (const Types &type : types) {
      Case launch("rms_norm_dw");
      launch.input("dy", type.dy, shape.rows, shape.columns)
          .input("x", type.x, shape.rows, shape.columns)
          .input("rstd", DType::f32, 1, shape.groups())
          .input("dweight", DType::f32, 1, shape.width)
          .expectSameBits();
      const std::vector<double> x = launch.before("x"),
                                dy = launch.before("dy"),
                                rstd = launch.before("rstd");
      std::vector<double> sum = launch.before("dweight");
      for (size_t i = 0; i < x.size(); ++i)
        sum[i % shape.width] += dy[i] * x[i] * rstd[i / shape.width];
      launch.expectNear("dweight", sum, 1e-5);
    }
}

} // namespace peft::conformance
