//===- RowsTest.cpp - kernels that index by data --------------------------===//
#include "Suite.h"

#include <cmath>

namespace peft::conformance {
namespace {

constexpr uint64_t rows = 90, vocab = 37;

/// Of two operands that are "f32|C".
constexpr std::pair<DType, DType> typePairs[] = {
    {DType::f32, DType::f32},   {DType::f32, DType::bf16},
    {DType::bf16, DType::f32},  {DType::bf16, DType::bf16},
    {DType::f32, DType::f16},   {DType::f16, DType::f32},
    {DType::f16, DType::f16}};

double idOf(uint64_t i) { return static_cast<double>(i * 29 % vocab); }

} // namespace

TEST_F(Conformance, embed_fwd) {
  for (DType type : {DType::f32, DType::bf16, DType::f16})
    for (uint64_t width : {1, 48, 203, 1112}) {
      Case launch("embed_fwd");
      const double scale = width == 48 ? 33.75 : 1;
      launch.input("ids", DType::i32, 1, rows, idOf)
          .input("table", type, vocab, width)
          .output("y", DType::f32, rows, width)
          .attribute("scale", scale)
          .expectSameBits();
      const std::vector<double> table = launch.before("table");
      std::vector<double> y(rows * width);
      for (uint64_t i = 0; i < y.size(); ++i)
        y[i] = rounded(DType::f32,
                       scale *
                           table[uint64_t(idOf(i / width)) * width + i % width]);
      launch.expectNear("y", y, 0);
      for (double wrong : {-1.0, double(vocab)}) {
        launch.poke("ids", 5, wrong);
        launch.expectFault(static_cast<int64_t>(wrong));
      }
    }
  // Of several wrong ids the first is named, whoever finds the others.
  Case launch("embed_fwd");
  launch.input("ids", DType::i32, 1, 400, idOf)
      .input("table", DType::f32, vocab, 3)
      .output("y", DType::f32, 400, 3);
  for (uint64_t i : {5, 5 + 128, 6, 399})
    launch.poke("ids", i, double(vocab + i));
  launch.expectFault(int64_t(vocab + 5));
}

/// Rows of odd length, so that a row begins inside a byte and inside a block.
TEST(Embedding, ofAQuantizedTable) {
  for (const Quantization &how : quantizations)
    for (uint64_t width : {1, 48, 203}) {
      Case launch("embed_fwd");
      launch.input("ids", DType::i32, 1, rows, idOf)
          .output("y", DType::f32, rows, width);
      const std::vector<double> table =
          launch.quantized("table", how, vocab, width);
      launch.expectSameBits();
      std::vector<double> y(rows * width);
      for (uint64_t i = 0; i < y.size(); ++i)
        y[i] = table[uint64_t(idOf(i / width)) * width + i % width];
      launch.expectNear("y", y, 0);
      launch.poke("ids", 5, double(vocab));
      launch.expectFault(int64_t(vocab));
    }
}

TEST_F(Conformance, dequantize) {
  for (const Quantization &how : quantizations)
    for (DType type : computeTypes)
      for (auto [rows, columns] :
           {std::pair<uint64_t, uint64_t>{67, 128}, {35, 241}, {1, 1}}) {
        Case launch("dequantize");
        launch.output("y", type, rows, columns);
        std::vector<double> values = launch.quantized("w", how, rows, columns);
        launch.expectSameBits();
        for (double &value : values)
          value = rounded(type, value);
        launch.expectNear("y", values, 0);
      }
}

TEST_F(Conformance, embed_dw) {
  struct Shape {
    uint64_t rows, width;
  };
  for (const auto &[rows, width] :
       {Shape{90, 1}, {90, 48}, {90, 203}, {700, 5}, {270, 1100}}) {
    Case launch("embed_dw");
    launch.input("ids", DType::i32, 1, rows, idOf)
        .input("dy", DType::f32, rows, width)
        .input("dtable", DType::f32, vocab, width)
        .attribute("padding_idx", int64_t(3))
        .attribute("scale", width == 48 ? 33.75 : 1.0)
        .expectSameBits();
    const std::vector<double> dy = launch.before("dy");
    std::vector<double> sum = launch.before("dtable");
    for (uint64_t i = 0; i < dy.size(); ++i)
      if (idOf(i / width) != 3)
        sum[uint64_t(idOf(i / width)) * width + i % width] +=
            dy[i] * (width == 48 ? 33.75 : 1.0);
    launch.expectNear("dtable", sum, 1e-6);
    launch.poke("ids", 7, double(vocab));
    launch.expectFault(int64_t(vocab));
  }
}

TEST_F(Conformance, compact_rows) {
  constexpr uint64_t seq = 15;
  for (auto [segments, rows] : {std::pair<bool, uint64_t>{false, 90},
                                {true, 90},
                                {false, 2505},
                                {true, 2505}}) {
    Case launch("compact_rows");
    auto label = [](uint64_t i) { return i % 3 == 1 ? -100 : idOf(i); };
    auto segment = [](uint64_t i) { return double(i % seq / 4); };
    launch.input("labels", DType::i32, 1, rows, label)
        .output("index", DType::i32, 1, rows)
        .output("target", DType::i32, 1, rows)
        .output("count", DType::i32, 1, 1)
        .attribute("seq", int64_t(seq))
        .attribute("vocab", int64_t(vocab));
    if (segments)
      launch.input("segments", DType::i32, 1, rows, segment);
    launch.expectSameBits();
    std::vector<double> index, target;
    for (uint64_t i = 0; i < rows; ++i)
      if (i % seq != seq - 1 && label(i + 1) != -100 &&
          (!segments || segment(i) == segment(i + 1))) {
        index.push_back(double(i));
        target.push_back(label(i + 1));
      }
    launch.expectNear("count", {double(index.size())}, 0);
    index.resize(rows);
    target.resize(rows);
    launch.expectNear("index", index, 0);
    launch.expectNear("target", target, 0);
    for (double wrong : {-1.0, -101.0, double(vocab)}) {
      launch.poke("labels", 44, wrong);
      launch.expectFault(static_cast<int64_t>(wrong));
    }
    for (uint64_t i = 44 + 1024; i < rows; i += 1024)
      launch.poke("labels", i, -7);
    launch.expectFault(int64_t(vocab));
  }
}

TEST_F(Conformance, gather_rows) {
  constexpr uint64_t width = 45, chunk = 20;
  for (auto [from, to] : typePairs)
      for (int64_t count : {-1, 3, 10, 17, 60}) {
        Case launch("gather_rows");
        auto index = [](uint64_t i) { return double(i * 7 % rows); };
        launch.input("x", from, rows, width)
            .input("index", DType::i32, 1, 60, index)
            .output("y", to, chunk, width)
            .attribute("row_start", int64_t(10));
        if (count >= 0)
          launch.vector("count", DType::i32, {double(count)});
        launch.expectSameBits();
        const uint64_t taken =
            count < 0 ? chunk
                      : std::min<uint64_t>(chunk, count > 10 ? count - 10 : 0);
        const std::vector<double> x = launch.before("x"), y = launch.after("y");
        for (uint64_t i = 0; i < chunk * width; ++i)
          if (i / width < taken)
            EXPECT_EQ(
                y[i],
                rounded(
                    to,
                    x[uint64_t(index(10 + i / width)) * width + i % width]));
          else
            EXPECT_TRUE(std::isnan(y[i])) << "row past the count was written";
        if (taken == 0)
          continue;
        launch.poke("index", 10, double(rows));
        launch.expectFault(int64_t(rows));
      }
}

TEST_F(Conformance, scatter_rows) {
  constexpr uint64_t width = 45, chunk = 20;
  for (auto [from, to] : typePairs)
      for (int64_t count : {3, 17, 60}) {
        Case launch("scatter_rows");
        auto index = [](uint64_t i) { return double(i * 7 % rows); };
        launch.input("x", from, chunk, width)
            .input("index", DType::i32, 1, 60, index)
            .vector("count", DType::i32, {double(count)})
            .input("y", to, rows, width)
            .attribute("row_start", int64_t(10))
            .expectSameBits();
        const std::vector<double> x = launch.before("x");
        std::vector<double> y = launch.before("y");
        for (uint64_t i = 0; i < chunk && int64_t(i + 10) < count; ++i)
          for (uint64_t j = 0; j < width; ++j)
            y[uint64_t(index(10 + i)) * width + j] =
                rounded(to, x[i * width + j]);
        launch.expectNear("y", y, 0);
      }
  // A count past the end of the index, and rows that begin behind it: a fault
  // where some row is wanted.
  for (auto [start, count] : {std::pair{0, 5}, {7, 9}, {7, 7}, {7, 2}}) {
    Case launch("scatter_rows");
    launch.input("x", DType::f32, 8, 4)
        .vector("index", DType::i32, {0, 1, 2})
        .vector("count", DType::i32, {double(count)})
        .attribute("row_start", int64_t(start))
        .input("y", DType::f32, 9, 4);
    if (count > start)
      launch.expectFault(count);
    else
      launch.expectSameBits();
  }
}

} // namespace peft::conformance
