//===- cuda/LinearTest.cpp - the linear family around library products ----===//
//
// On a card the products are a library's; here plain loops stand in for it, and
// what surrounds them (casts of weights, starts, rows past a count) is ours. On
// the CPU these kernels have tests of their own: bits against all paths.
//
//===----------------------------------------------------------------------===//
#include "../Suite.h"

namespace peft::conformance {
namespace {

constexpr uint64_t m = 67, n = 33, k = 50, r = 5;

/// The types of one launch, and how many rows its count leaves (-1: all).
struct Variant {
  DType compute, weight, out;
  bool init;
  int64_t count;
};

std::vector<Variant> variants() {
  std::vector<Variant> all;
  int64_t count = -1;
  for (DType compute : computeTypes)
    for (DType weight : computeTypes)
      for (DType out : {DType::f32, compute})
        for (bool init : {false, true}) {
          all.push_back({compute, weight, out, init, count});
          count = count == -1 ? 0 : count == 0 ? 40 : count == 40 ? 300 : -1;
        }
  return all;
}

Case caseOf(const char *kernel, const Variant &v) {
  Case launch(kernel);
  if (v.count >= 0)
    launch.vector("count", DType::i32, {double(v.count)})
        .attribute("row_start", int64_t(9));
  return launch.slack(4);
}

/// An output [rows, columns], with what it starts from.
void addOutput(Case &launch, const Variant &v, const char *name,
               uint64_t columns) {
  launch.output(name, v.out, m, columns);
  if (v.init)
    launch.input("init", DType::f32, m, columns);
}

/// A sum over rows, that goes on from what is stored.
void expectSums(const char *kernel, const char *left, uint64_t rows,
                const char *sum) {
  for (DType compute : computeTypes)
    for (int64_t count : {-1, 0, 40, 300}) {
      Case launch = caseOf(kernel, {compute, compute, compute, false, count});
      launch.input(left, compute, m, rows)
          .input("x", compute, m, k)
          .input(sum, DType::f32, rows, k)
          .expectSameBits();
    }
}

} // namespace

TEST_F(Conformance, linear_fwd) {
  for (const Variant &v : variants())
    for (bool bias : {false, true}) {
      Case launch = caseOf("linear_fwd", v);
      launch.input("x", v.compute, m, k).input("w", v.weight, n, k);
      addOutput(launch, v, "y", n);
      if (bias)
        launch.input("bias", v.weight, 1, n);
      if (!v.init)
        launch.attribute("scale", 0.37);
      launch.expectSameBits();
    }
}

TEST_F(Conformance, linear_lora_fwd) {
  for (const Variant &v : variants())
    for (bool bias : {false, true}) {
      Case launch = caseOf("linear_lora_fwd", v);
      launch.input("x", v.compute, m, k)
          .input("w", v.weight, n, k)
          .input("t", v.compute, m, r)
          .input("b", DType::f32, n, r);
      addOutput(launch, v, "y", n);
      if (bias)
        launch.input("bias", v.weight, 1, n);
      launch.expectSameBits();
    }
}

TEST_F(Conformance, linear_dx) {
  for (const Variant &v : variants()) {
    Case launch = caseOf("linear_dx", v);
    launch.input("dy", v.compute, m, n).input("w", v.weight, n, k);
    addOutput(launch, v, "dx", k);
    if (!v.init)
      launch.attribute("scale", 0.37);
    launch.expectSameBits();
  }
}

TEST_F(Conformance, linear_lora_dx) {
  for (const Variant &v : variants()) {
    Case launch = caseOf("linear_lora_dx", v);
    launch.input("dy", v.compute, m, n)
        .input("w", v.weight, n, k)
        .input("dt", v.compute, m, r)
        .input("a", DType::f32, r, k);
    addOutput(launch, v, "dx", k);
    launch.expectSameBits();
  }
}

TEST_F(Conformance, lora_down_fwd) {
  for (const Variant &v : variants()) {
    if (v.out != v.compute || v.init)
      continue;
    Case launch = caseOf("lora_down_fwd", v);
    launch.input("x", v.compute, m, k)
        .input("a", v.weight, r, k)
        .output("t", v.compute, m, r)
        .attribute("scale", 2.0)
        .expectSameBits();
  }
}

TEST_F(Conformance, linear_dw) { expectSums("linear_dw", "dy", n, "dw"); }

TEST_F(Conformance, lora_down_dw) {
  expectSums("lora_down_dw", "dt", r, "da");
}

TEST_F(Conformance, bias_dw) {
  for (DType type : computeTypes)
    for (uint64_t columns : {1, 32, 77})
      for (int64_t count : {-1, 0, 30, 199, 1000}) {
        Case launch = caseOf("bias_dw", {type, type, type, false, count});
        launch.input("dy", type, 333, columns)
            .input("dbias", DType::f32, 1, columns)
            .slack(10)
            .expectSameBits();
      }
}

} // namespace peft::conformance
