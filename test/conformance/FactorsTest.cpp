//===- FactorsTest.cpp - pairs of low-rank factors ------------------------===//
#include "Suite.h"

namespace peft::conformance {

TEST_F(Conformance, join) {
  struct Shape {
    uint64_t rows, columns, more; ///< `more` of b where it may differ
  };
  for (const Shape &of : {Shape{5, 300, 9}, Shape{130, 7, 7}, Shape{1, 1, 1}})
    for (bool beside : {false, true}) {
      Case launch("join");
      launch.input("a", DType::f32, of.rows, of.columns)
          .input("b", DType::f32, beside ? of.rows : of.more,
                 beside ? of.more : of.columns)
          .output("y", DType::f32, of.rows + (beside ? 0 : of.more),
                  of.columns + (beside ? of.more : 0))
          .attribute("beside", int64_t(beside))
          .expectSameBits();
      const std::vector<double> a = launch.before("a"), b = launch.before("b");
      std::vector<double> y;
      if (!beside) {
        y = a;
        y.insert(y.end(), b.begin(), b.end());
      }
      for (uint64_t i = 0; beside && i < of.rows; ++i) {
        y.insert(y.end(), a.begin() + int64_t(i * of.columns),
                 a.begin() + int64_t((i + 1) * of.columns));
        y.insert(y.end(), b.begin() + int64_t(i * of.more),
                 b.begin() + int64_t((i + 1) * of.more));
      }
      EXPECT_EQ(launch.after("y"), y);
    }
}

TEST_F(Conformance, first_columns) {
  for (DType type : computeTypes)
    for (int64_t count : {-1, 40}) {
      constexpr uint64_t rows = 131, columns = 17, taken = 5;
      constexpr int64_t start = 7;
      Case launch("first_columns");
      launch.input("x", type, rows, columns)
          .output("y", type, rows, taken)
          .attribute("row_start", count < 0 ? int64_t(0) : start);
      if (count >= 0)
        launch.vector("count", DType::i32, {double(count)});
      launch.expectSameBits();
      const std::vector<double> x = launch.before("x"), y = launch.after("y");
      const uint64_t active = count < 0 ? rows : uint64_t(count - start);
      for (uint64_t i = 0; i < active * taken; ++i)
        EXPECT_EQ(y[i], x[i / taken * columns + i % taken]) << i;
    }
}

} // namespace peft::conformance
