//===- ColumnsTest.cpp - soft caps of logits, parts of rows ---------------===//
#include "Suite.h"

#include <cmath>

namespace peft::conformance {
namespace {

/// A cap that logits pass, with all rows of a launch or a chunk's.
struct Capped {
  uint64_t rows, columns;
  double cap;
  int64_t count, start; ///< count < 0: none
  uint64_t active() const {
    if (count < 0)
      return rows;
    return static_cast<uint64_t>(
        std::min<int64_t>(std::max<int64_t>(count - start, 0), int64_t(rows)));
  }
};
const Capped capped[] = {{5, 40, 30, -1, 0},  {3, 2051, 2, -1, 0},
                         {7, 4104, 3, 14, 9}, {4, 33, 5, 30, 8},
                         {6, 17, 5, 3, 12}};

Case &attributes(Case &launch, const Capped &shape) {
  if (shape.count >= 0)
    launch.vector("count", DType::i32, {double(shape.count)});
  return launch.attribute("cap", shape.cap).attribute("row_start", shape.start);
}

/// From well below the cap to well above it.
double logit(uint64_t i) {
  return uniform(3, i) * (i % 3 ? 1 : 40);
}

} // namespace

TEST_F(Conformance, softcap_fwd) {
  for (const Capped &shape : capped) {
    Case launch("softcap_fwd");
    launch.input("x", DType::f32, shape.rows, shape.columns, logit)
        .output("y", DType::f32, shape.rows, shape.columns);
    attributes(launch, shape).expectSameBits();
    const std::vector<double> x = launch.before("x"), after = launch.after("y");
    const size_t active = shape.active() * shape.columns;
    for (size_t i = 0; i < active; ++i)
      ASSERT_NEAR(after[i], shape.cap * std::tanh(x[i] / shape.cap),
                  4e-7 * std::min(std::fabs(x[i]), shape.cap))
          << i;
  }
}

TEST_F(Conformance, softcap_bwd) {
  for (DType from : computeTypes)
    for (DType to : computeTypes)
      for (const Capped &shape : capped) {
        if (from != DType::f32 && to != DType::f32 && from != to)
          continue;
        Case launch("softcap_bwd");
        launch.input("dy", from, shape.rows, shape.columns)
            .input("y", DType::f32, shape.rows, shape.columns,
                   [&](uint64_t i) {
                     return shape.cap * std::tanh(logit(i) / shape.cap);
                   })
            .output("dx", to, shape.rows, shape.columns);
        attributes(launch, shape).expectSameBits();
        const std::vector<double> dy = launch.before("dy"),
                                  y = launch.before("y"),
                                  after = launch.after("dx");
        const size_t active = shape.active() * shape.columns;
        for (size_t i = 0; i < active; ++i) {
          const double t = y[i] / shape.cap;
          ASSERT_NEAR(after[i], dy[i] * (1 - t * t),
                      toleranceOf(to, 5e-7, 4e-3))
              << i;
        }
      }
}

TEST_F(Conformance, take_columns) {
  struct Shape {
    uint64_t rows, columns, from, width;
  };
  for (DType type : {DType::f32, DType::bf16, DType::f16})
    for (DType to : {DType::f32, type})
      for (Shape shape : {Shape{9, 64, 0, 24}, {130, 37, 5, 32},
                          {3, 4000, 1600, 2400}, {1, 3, 2, 1}}) {
        Case launch("take_columns");
        launch.input("x", type, shape.rows, shape.columns)
            .output("y", to, shape.rows, shape.width)
            .attribute("column", int64_t(shape.from))
            .expectSameBits();
        const std::vector<double> x = launch.before("x");
        std::vector<double> y;
        for (uint64_t i = 0; i < shape.rows; ++i)
          for (uint64_t j = 0; j < shape.width; ++j)
            y.push_back(x[i * shape.columns + shape.from + j]);
        launch.expectNear("y", y, 0);
      }
}

TEST_F(Conformance, join_columns) {
  struct Shape {
    uint64_t rows, first, second;
    bool three;
  };
  for (DType type : {DType::f32, DType::bf16, DType::f16})
    for (Shape shape : {Shape{9, 48, 16, true}, {130, 5, 33, true},
                        {3, 1600, 1600, false}, {1, 1, 2, false}}) {
      Case launch("join_columns");
      const uint64_t width =
          shape.first + (shape.three ? 2 : 1) * shape.second;
      launch.input("a", type, shape.rows, shape.first)
          .input("b", type, shape.rows, shape.second)
          .output("y", type, shape.rows, width);
      std::vector<std::pair<std::string, uint64_t>> parts = {
          {"a", shape.first}, {"b", shape.second}};
      if (shape.three) {
        launch.input("c", type, shape.rows, shape.second);
        parts.emplace_back("c", shape.second);
      }
      launch.expectSameBits();
      std::vector<double> y;
      for (uint64_t i = 0; i < shape.rows; ++i)
        for (const auto &[name, columns] : parts) {
          const std::vector<double> part = launch.before(name);
          y.insert(y.end(), part.begin() + std::ptrdiff_t(i * columns),
                   part.begin() + std::ptrdiff_t((i + 1) * columns));
        }
      launch.expectNear("y", y, 0);
    }
}

} // namespace peft::conformance
