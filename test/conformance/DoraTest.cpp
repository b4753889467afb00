//===- DoraTest.cpp - norms and scales of DoRA, dropout alone -------------===//
#include "Suite.h"

#include "peft/Philox.h"

#include <cmath>

namespace peft::conformance {
namespace {

struct Sizes {
  uint64_t m, n, k, r;
};
const Sizes sizes[] = {
    {131, 72, 69, 8}, {50, 77, 613, 5}, {9, 16, 200, 1}, {1, 1, 1, 1}};

/// In what a launch may be cut short.
struct Rows {
  int64_t count, start; ///< count -1: absent
  uint64_t of(uint64_t rows) const {
    if (count < 0)
      return rows;
    const int64_t left = std::max<int64_t>(count - start, 0);
    return std::min(uint64_t(left), rows);
  }
};
const Rows rows[] = {{-1, 0}, {40, 7}, {3, 5}};

void limit(Case &launch, const Rows &rows) {
  launch.attribute("row_start", rows.start);
  if (rows.count >= 0)
    launch.vector("count", DType::i32, {double(rows.count)});
}

double toleranceOf(DType type) {
  return conformance::toleranceOf(type, 2e-6, 4e-3);
}

/// Norms, with one of a row that is all zero.
double normAt(uint64_t i) { return i == 3 ? 0 : 1.5 + uniform(5, i); }

double inverse(double norm) { return norm > 0 ? 1 / norm : 0; }

} // namespace

TEST_F(Conformance, dora_norm) {
  for (const Sizes &of : sizes)
    for (DType weight : computeTypes)
      for (double scale : {0.0, 2.5}) {
        Case launch("dora_norm");
        launch.input("w", weight, of.n, of.k)
            .input("a", DType::f32, of.r, of.k)
            .input("b", DType::f32, of.n, of.r)
            .output("norm", DType::f32, 1, of.n)
            .attribute("scale", scale)
            .expectSameBits();
        const std::vector<double> w = launch.before("w"),
                                  a = launch.before("a"),
                                  b = launch.before("b");
        std::vector<double> norm(of.n);
        for (uint64_t j = 0; j < of.n; ++j) {
          for (uint64_t k = 0; k < of.k; ++k) {
            double value = w[j * of.k + k];
            for (uint64_t i = 0; i < of.r; ++i)
              value += scale * b[j * of.r + i] * a[i * of.k + k];
            norm[j] += value * value;
          }
          norm[j] = std::sqrt(norm[j]);
        }
        launch.expectNear("norm", norm, 2e-6);
      }
}

TEST_F(Conformance, dora_scale) {
  for (DType type : computeTypes)
    for (const Sizes &of : sizes)
      for (const Rows &some : rows)
        for (int way = 0; way < 4; ++way) {
          Case launch("dora_scale");
          // Forward, with a residual or dropout, and the two of backward.
          const DType from = way == 3 ? DType::f32 : type,
                      to = way == 1 ? DType::f32 : type;
          launch.input("x", from, of.m, of.n)
              .input("magnitude", DType::f32, 1, of.n)
              .input("norm", DType::f32, 1, of.n, normAt)
              .output("y", to, of.m, of.n)
              .attribute("less", int64_t(way == 2));
          if (way < 2)
            launch.input("bias", way ? DType::bf16 : DType::f32, 1, of.n);
          if (way == 1)
            launch.input("init", DType::f32, of.m, of.n);
          limit(launch, some);
          launch.expectSameBits();
          const std::vector<double> x = launch.before("x"),
                                    m = launch.before("magnitude"),
                                    norm = launch.before("norm");
          std::vector<double> y = launch.after("y"), init, bias;
          if (way < 2)
            bias = launch.before("bias");
          if (way == 1)
            init = launch.before("init");
          for (uint64_t i = 0; i < some.of(of.m) * of.n; ++i) {
            const uint64_t j = i % of.n;
            y[i] = (m[j] * inverse(norm[j]) - (way == 2)) * x[i];
            y[i] += init.empty() ? 0 : init[i];
            y[i] += bias.empty() ? 0 : bias[j];
          }
          if (some.count < 0)
            launch.expectNear("y", y, toleranceOf(to));
        }
}

TEST_F(Conformance, dora_dw) {
  for (DType type : computeTypes)
    for (const Sizes &of : sizes)
      for (const Rows &some : rows) {
        Case launch("dora_dw");
        launch.input("dy", type, of.m, of.n)
            .input("x", type, of.m, of.n)
            .input("norm", DType::f32, 1, of.n, normAt)
            .input("dmagnitude", DType::f32, 1, of.n);
        limit(launch, some);
        launch.slack(4).expectSameBits();
        const std::vector<double> dy = launch.before("dy"),
                                  x = launch.before("x"),
                                  norm = launch.before("norm");
        std::vector<double> sum = launch.before("dmagnitude");
        for (uint64_t i = 0; i < some.of(of.m) * of.n; ++i)
          sum[i % of.n] += dy[i] * x[i] * inverse(norm[i % of.n]);
        launch.expectNear("dmagnitude", sum, 1e-5);
      }
}

TEST_F(Conformance, dropout_fwd) {
  constexpr int64_t key = 0x123456789abcdef, seed = -5, seq = 37;
  constexpr int32_t step = 11, firstRow = 3;
  constexpr double dropout = 0.3;
  for (DType type : computeTypes)
    for (const Sizes &of : sizes)
      for (const Rows &some : rows)
        for (int way = 0; way < 3; ++way) {
          Case launch("dropout_fwd");
          const DType from = way == 1 ? DType::f32 : type;
          launch.input("x", from, of.m, of.k)
              .vector("seed", DType::i64, {double(seed)})
              .vector("step", DType::i32, {double(step)})
              .vector("first_row", DType::i32, {double(firstRow)})
              .output("y", from, of.m, of.k)
              .attribute("dropout", dropout)
              .attribute("module_key", key)
              .attribute("seq", seq)
              .attribute("complement", int64_t(way == 2));
          if (way == 1)
            launch.input("init", DType::f32, of.m, of.k);
          std::vector<double> index;
          for (uint64_t i = 0; i < of.m + uint64_t(some.start); ++i)
            index.push_back(double(way ? i * 17 % 1009 : i));
          if (way)
            launch.vector("index", DType::i32, index);
          limit(launch, some);
          launch.expectSameBits();
          const std::vector<double> x = launch.before("x");
          std::vector<double> y(x.size());
          if (way == 1)
            y = launch.before("init");
          const PhiloxKey of64 = dropoutKey(uint64_t(key), seed, step);
          for (uint64_t i = 0; i < x.size(); ++i) {
            const uint64_t row = i / of.k, feature = i % of.k;
            const auto place =
                uint32_t(index[row + uint64_t(some.start)]);
            const bool kept =
                philox({uint32_t(feature / 4), place % uint32_t(seq),
                        uint32_t(firstRow) + place / uint32_t(seq), 0},
                       of64)[feature % 4] >= dropoutThreshold(dropout);
            const double masked = kept ? x[i] / (1 - dropout) : 0;
            y[i] += way == 2 ? x[i] - masked : masked;
          }
          if (some.count < 0)
            launch.expectNear("y", y, toleranceOf(from));
        }
}

TEST(DropoutFwd, RefusesAShortIndex) {
  Case launch("dropout_fwd");
  launch.input("x", DType::f32, 5, 8)
      .vector("seed", DType::i64, {1})
      .vector("step", DType::i32, {1})
      .vector("first_row", DType::i32, {0})
      .vector("index", DType::i32, {0, 1, 2})
      .output("y", DType::f32, 5, 8);
  launch.expectFault(5);
}

} // namespace peft::conformance
