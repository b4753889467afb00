//===- cuda/LinearTest.cpp - our products, and those under dropout --------===//
//
// Sizes have two tiles and a remainder in every dimension, and rows that are
// not whole packs of 16 bytes.
//
//===----------------------------------------------------------------------===//
#include "../Suite.h"

#include <cmath>

namespace peft::conformance {
namespace {

struct Sizes {
  uint64_t m, n, k, r;
};
const Sizes sizes[] = {
    {131, 69, 72, 8}, {50, 77, 133, 5}, {70, 16, 200, 72}, {1, 1, 1, 1}};

/// In what a launch may be cut short.
struct Rows {
  int64_t count, start; ///< count -1: absent
};
const Rows rows[] = {{-1, 0}, {40, 7}, {3, 5}};

void limit(Case &launch, const Rows &rows) {
  launch.attribute("row_start", rows.start);
  if (rows.count >= 0)
    launch.vector("count", DType::i32, {double(rows.count)});
}

/// Dropout at places that do not ascend, if `indexed`.
Case &dropOut(Case &launch, const Sizes &of, const Rows &rows, bool indexed,
              const char *member = "") {
  launch.attribute("dropout", 0.3)
      .attribute(std::string("module_key") + member,
                 int64_t(0x123456789abcdef))
      .attribute("seq", int64_t(37))
      .vector("seed", DType::i64, {-5})
      .vector("step", DType::i32, {11})
      .vector("first_row", DType::i32, {3});
  if (!indexed)
    return launch;
  std::vector<double> index;
  for (uint64_t i = 0; i < of.m + uint64_t(rows.start); ++i)
    index.push_back(double(i * 17 % 1009));
  return launch.vector("index", DType::i32, index);
}

/// body(type of compute, type of weights, sizes, rows). Types of weights move on
/// by one with every size, so that each meets all rows.
template <typename Body> void forCases(const Body &body) {
  const DType weights[] = {DType::f32, DType::bf16, DType::f16};
  unsigned i = 0;
  for (DType type : computeTypes)
    for (const Sizes &of : sizes)
      for (const Rows &some : rows)
        body(type, weights[(i + i / 3) % 3], of, some), ++i;
}

} // namespace

TEST_F(Conformance, linear_fwd) {
  forCases([](DType type, DType weight, const Sizes &of, const Rows &rows) {
    for (bool started : {false, true}) {
      Case launch("linear_fwd");
      launch.input("x", type, of.m, of.k).input("w", weight, of.n, of.k);
      launch.output("y", started ? type : DType::f32, of.m, of.n);
      limit(launch, rows);
      if (started)
        launch.input("init", DType::f32, of.m, of.n)
            .input("bias", weight, 1, of.n);
      else
        launch.attribute("scale", 0.5);
      launch.slack(4).expectSameBits();
    }
  });
}

TEST_F(Conformance, linear_lora_fwd) {
  forCases([](DType type, DType weight, const Sizes &of, const Rows &rows) {
    Case launch("linear_lora_fwd");
    launch.input("x", type, of.m, of.k)
        .input("w", weight, of.n, of.k)
        .input("bias", weight, 1, of.n)
        .input("t", type, of.m, of.r)
        .input("b", DType::f32, of.n, of.r)
        .output("y", type, of.m, of.n);
    limit(launch, rows);
    launch.slack(4).expectSameBits();
  });
}

TEST_F(Conformance, linear_dx) {
  forCases([](DType type, DType weight, const Sizes &of, const Rows &rows) {
    Case launch("linear_dx");
    launch.input("dy", type, of.m, of.n)
        .input("w", weight, of.n, of.k)
        .input("init", DType::f32, of.m, of.k)
        .output("dx", DType::f32, of.m, of.k);
    limit(launch, rows);
    launch.slack(4).expectSameBits();
  });
}

TEST_F(Conformance, linear_lora_dx) {
  forCases([](DType type, DType weight, const Sizes &of, const Rows &rows) {
    for (int way = 0; way < 3; ++way) {
      Case launch("linear_lora_dx");
      launch.input("dy", type, of.m, of.n)
          .input("w", weight, of.n, of.k)
          .input("dt", type, of.m, of.r)
          .input("a", weight, of.r, of.k)
          .output("dx", way == 1 ? DType::f32 : type, of.m, of.k);
      limit(launch, rows);
      if (way)
        dropOut(launch, of, rows, way == 2);
      if (way != 2)
        launch.input("init", DType::f32, of.m, of.k);
      launch.slack(4).expectSameBits();
    }
  });
}

/// A bias is rounded to the compute type, also where nothing else starts a sum.
TEST(LinearStart, isTheRoundedBias) {
  const Sizes of = sizes[1];
  for (DType type : computeTypes) {
    Case launch("linear_fwd");
    launch.input("x", type, of.m, of.k, [](uint64_t) { return 0.0; })
        .input("w", type, of.n, of.k)
        .input("bias", DType::f32, 1, of.n)
        .output("y", DType::f32, of.m, of.n);
    launch.slack(0).expectSameBits();
  }
}

/// Codes become a weight in the workspace first.
TEST(QuantizedLinear, agrees) {
  const Sizes of = sizes[1];
  for (DType type : computeTypes)
    for (const Quantization &how : quantizations) {
      Case forward("linear_lora_fwd");
      forward.input("x", type, of.m, of.k)
          .input("t", type, of.m, of.r)
          .input("b", DType::f32, of.n, of.r)
          .output("y", type, of.m, of.n);
      forward.quantized("w", how, of.n, of.k);
      forward.slack(4).expectSameBits();
      Case backward("linear_dx");
      backward.input("dy", type, of.m, of.n).output("dx", type, of.m, of.k);
      backward.quantized("w", how, of.n, of.k);
      backward.slack(4).expectSameBits();
    }
}

TEST_F(Conformance, linear_dw) {
  forCases([](DType type, DType, const Sizes &of, const Rows &rows) {
    Case launch("linear_dw");
    launch.input("dy", type, of.m, of.n)
        .input("x", type, of.m, of.k)
        .input("dw", DType::f32, of.n, of.k);
    limit(launch, rows);
    launch.slack(4).expectSameBits();
  });
}

TEST_F(Conformance, lora_down_fwd) {
  forCases([](DType type, DType weight, const Sizes &of, const Rows &rows) {
    for (int way = 0; way < 3; ++way) {
      Case launch("lora_down_fwd");
      launch.input("x", type, of.m, of.k)
          .input("a", weight, of.r, of.k)
          .attribute("scale", 2.0)
          .output("t", type, of.m, of.r);
      limit(launch, rows);
      if (way)
        dropOut(launch, of, rows, way == 2);
      launch.slack(4).expectSameBits();
    }
  });
}

/// Two and three adapters, with ranks on both sides of a tile.
TEST_F(Conformance, lora_down_group_fwd) {
  forCases([](DType type, DType weight, const Sizes &of, const Rows &rows) {
    for (int way = 0; way < 4; ++way) {
      Case launch("lora_down_group_fwd");
      launch.input("x", type, of.m, of.k)
          .input("a0", weight, of.r, of.k)
          .input("a1", DType::f32, of.r + 9, of.k)
          .attribute("scale0", 2.0)
          .attribute("scale1", 0.25)
          .output("t0", type, of.m, of.r)
          .output("t1", type, of.m, of.r + 9);
      if (way % 2)
        launch.input("a2", type, 3, of.k)
            .attribute("scale2", -1.5)
            .output("t2", type, of.m, 3);
      limit(launch, rows);
      if (way > 1)
        dropOut(launch, of, rows, way == 3, "0")
            .attribute("module_key1", int64_t(77))
            .attribute("module_key2", int64_t(-3));
      launch.slack(4).expectSameBits();
    }
  });
}

TEST_F(Conformance, lora_down_dw) {
  forCases([](DType type, DType, const Sizes &of, const Rows &rows) {
    for (int way = 0; way < 3; ++way) {
      Case launch("lora_down_dw");
      launch.input("dt", type, of.m, of.r)
          .input("x", type, of.m, of.k)
          .input("da", DType::f32, of.r, of.k);
      limit(launch, rows);
      if (way)
        dropOut(launch, of, rows, way == 2);
      launch.slack(4).expectSameBits();
    }
  });
}

/// More rows than one part takes, added to what is there.
TEST(LinearGradient, isAddedInParts) {
  for (DType type : computeTypes) {
    Case launch("linear_dw");
    launch.input("dy", type, 2500, 9)
        .input("x", type, 2500, 40)
        .input("dw", DType::f32, 9, 40);
    launch.slack(40).expectSameBits();
  }
}

/// Numbers that f16 does not hold.
TEST(LinearRange, isThatOfBF16) {
  const Sizes of = sizes[1];
  Case launch("linear_fwd");
  launch
      .input("x", DType::bf16, of.m, of.k,
             [](uint64_t i) { return 1e6 * uniform(1, i); })
      .input("w", DType::bf16, of.n, of.k)
      .output("y", DType::f32, of.m, of.n);
  launch.slack(4).expectSameBits();
}

/// More rows than one part takes, under dropout.
TEST(LoraGradient, isAddedInParts) {
  for (DType type : computeTypes) {
    Case launch("lora_down_dw");
    const Sizes of = {2500, 0, 40, 9};
    launch.input("dt", type, of.m, of.r)
        .input("x", type, of.m, of.k)
        .input("da", DType::f32, of.r, of.k);
    limit(launch, {2400, 300});
    dropOut(launch, of, {2400, 300}, true);
    launch.slack(40).expectSameBits();
  }
}

/// The mask itself, bit by bit: ones through an identity.
TEST(Dropout, masksAreTheCPUs) {
  for (DType type : {DType::bf16, DType::f16, DType::f32}) {
    constexpr uint64_t width = 40;
    Case launch("lora_down_fwd");
    launch.input("x", type, 90, width, [](uint64_t) { return 1.0; })
        .input("a", DType::f32, width, width,
               [](uint64_t i) { return i / width == i % width ? 1.0 : 0.0; })
        .output("t", type, 90, width);
    dropOut(launch, {90, 0, width, width}, {-1, 0}, true);
    launch.slack(0).expectSameBits();
  }
}

/// What the mask drops is zero, whatever it was.
TEST(Dropout, aNumberThatIsDroppedMayBeNoNumber) {
  for (DType type : computeTypes) {
    constexpr uint64_t width = 40;
    Case launch("lora_down_fwd");
    launch.input("x", type, 90, width)
        .input("a", DType::f32, 8, width)
        .output("t", type, 90, 8);
    dropOut(launch, {90, 0, width, 8}, {-1, 0}, false);
    for (uint64_t i = 0; i < 90 * width; i += 97)
      launch.poke("x", i, i % 2 ? INFINITY : std::nan(""));
    launch.slack(4).expectSameBits();
  }
}

/// No row is left: no index is asked for its places.
TEST(Dropout, aLaunchWithoutRowsNeedsNoIndex) {
  for (DType type : {DType::bf16, DType::f32}) {
    Case launch("lora_down_fwd");
    launch.input("x", type, 60, 32)
        .input("a", DType::f32, 8, 32)
        .output("t", type, 60, 8);
    limit(launch, {55, 70});
    launch.attribute("dropout", 0.3)
        .vector("seed", DType::i64, {1})
        .vector("step", DType::i32, {1})
        .vector("first_row", DType::i32, {0})
        .vector("index", DType::i32, std::vector<double>(50, 4));
    launch.expectSameBits();
  }
}

/// Fewer places than rows: said, and nothing outside is read.
TEST(Dropout, anIndexThatIsTooShortIsAFault) {
  const Sizes of = {60, 24, 32, 8};
  auto check = [&](DType type, const char *kernel, const Rows &rows) {
    Case launch(kernel);
    const std::string name = kernel;
    if (name == "linear_lora_dx")
      launch.input("dy", type, of.m, of.n)
          .input("w", type, of.n, of.k)
          .input("dt", type, of.m, of.r)
          .input("a", DType::f32, of.r, of.k)
          .output("dx", DType::f32, of.m, of.k);
    else
      launch.input("x", type, of.m, of.k);
    if (name == "lora_down_fwd")
      launch.input("a", DType::f32, of.r, of.k)
          .output("t", type, of.m, of.r);
    if (name == "lora_down_dw")
      launch.input("dt", type, of.m, of.r)
          .input("da", DType::f32, of.r, of.k);
    limit(launch, rows);
    launch.attribute("dropout", 0.3)
        .vector("seed", DType::i64, {1})
        .vector("step", DType::i32, {1})
        .vector("first_row", DType::i32, {0})
        .vector("index", DType::i32, std::vector<double>(50, 4));
    launch.expectFault(rows.count);
  };
  // The second has all of its rows behind the index.
  for (const Rows &rows : {Rows{55, 10}, {75, 60}})
    for (DType type : {DType::bf16, DType::f32})
      for (const char *kernel :
           {"lora_down_fwd", "lora_down_dw", "linear_lora_dx"})
        check(type, kernel, rows);
}

} // namespace peft::conformance
