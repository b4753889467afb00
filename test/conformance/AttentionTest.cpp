//===- AttentionTest.cpp - attention against sums in double ---------------===//
#include "Suite.h"

#include <cmath>

namespace peft::conformance {
namespace {

struct Shape {
  uint64_t batch, seq, heads, kvHeads, dim, window;
  bool segments;
  double softcap = 0;
  bool oneSegment = false; ///< with segments: every row is one
  bool library = false;    ///< by the card's library, where there is one
  bool falling = false;    ///< the second of two segments has the lower number
  bool large = false;      ///< gradients that f16 does not hold

  uint64_t rows() const { return batch * seq; }
  uint64_t width() const { return heads * dim; }
  uint64_t keyWidth() const { return kvHeads * dim; }
  /// Scores of long heads stay as small as f32 can tell them apart.
  double scale() const { return dim > 130 ? 0.1 : 0.3; }
};

const Shape shapes[] = {
    {2, 70, 4, 2, 16, 0, false},  {1, 200, 2, 1, 40, 0, true},
    {2, 130, 3, 3, 7, 20, false}, {1, 257, 1, 1, 64, 100, true},
    {1, 1, 2, 1, 1, 0, false},    {3, 64, 2, 2, 96, 1, false},
    {1, 66, 1, 1, 130, 0, true},  {1, 150, 2, 1, 128, 0, true},
    {1, 140, 1, 1, 80, 33, false}, {1, 97, 2, 2, 256, 0, false},
    {1, 70, 1, 1, 136, 30, true}, {1, 66, 1, 1, 300, 0, true},
    // Caps below the largest scores, so that they bend.
    {2, 70, 4, 2, 24, 0, false, 1.5}, {1, 150, 1, 1, 64, 40, true, 3},
    {1, 140, 2, 1, 96, 0, true, 2},   {1, 97, 2, 1, 128, 30, false, 4},
    {1, 97, 2, 1, 256, 0, false, 5},  {1, 66, 1, 1, 300, 0, true, 2},
    // By the library of a card: without segments, with one, with several.
    {2, 70, 4, 2, 16, 0, false, 0, false, true},
    {2, 66, 2, 1, 64, 20, true, 0, true, true},
    {1, 90, 2, 1, 8, 0, true, 0, false, true},
    {1, 460, 1, 1, 16, 0, true},
    {1, 200, 1, 1, 16, 0, true, 0, false, false, true},
    {1, 70, 2, 1, 7, 0, false, 0, false, false, false, true},
};

/// Segments of odd lengths, some longer than a block; one comes back, so that a
/// tile of it meets tiles that begin, and that end, with it and hold another. Of
/// two that fall, the second begins in the middle of a tile.
double segmentOf(const Shape &shape, uint64_t position) {
  if (shape.oneSegment)
    return 7;
  if (shape.falling)
    return position < 96 ? 9 : 4;
  return position < 11    ? 0
         : position < 90  ? 5
         : position < 150 ? -1
         : position < 330 ? 5
         : position < 400 ? 6
                          : 5;
}

Case &attributes(Case &launch, const Shape &shape) {
  if (shape.segments)
    launch.input("segments", DType::i32, 1, shape.rows(),
                 [&](uint64_t i) { return segmentOf(shape, i % shape.seq); });
  return launch.attribute("seq", int64_t(shape.seq))
      .attribute("heads", int64_t(shape.heads))
      .attribute("kv_heads", int64_t(shape.kvHeads))
      .attribute("head_dim", int64_t(shape.dim))
      .attribute("window", int64_t(shape.window))
      .attribute("engine", int64_t(shape.library))
      .attribute("scale", shape.scale())
      .attribute("softcap", shape.softcap);
}

/// Everything in double, one query at a time.
struct Reference {
  const Shape &shape;
  std::vector<double> q, k, v, grad;
  std::vector<double> o, lse, dq, dk, dv;

  Reference(const Shape &shape, const Case &launch)
      : shape(shape), q(launch.before("q")), k(launch.before("k")),
        v(launch.before("v")), o(q.size()), lse(shape.heads * shape.rows()),
        dq(q.size()), dk(k.size()), dv(k.size()) {}

  bool sees(uint64_t query, uint64_t key) const {
    return key <= query && (!shape.window || query - key < shape.window) &&
           (!shape.segments || segmentOf(shape, query) == segmentOf(shape, key));
  }

  bool seesOne(uint64_t query) const {
    uint64_t keys = 0;
    for (uint64_t key = 0; key <= query; ++key)
      keys += sees(query, key);
    return keys == 1;
  }

  void compute() {
    for (uint64_t row = 0; row < shape.batch; ++row)
      for (uint64_t head = 0; head < shape.heads; ++head)
        for (uint64_t i = 0; i < shape.seq; ++i)
          query(row, head, i);
  }

  void query(uint64_t row, uint64_t head, uint64_t i) {
    const uint64_t group = shape.heads / shape.kvHeads, dim = shape.dim;
    const uint64_t at = (row * shape.seq + i) * shape.width() + head * dim;
    auto key = [&](uint64_t j) {
      return (row * shape.seq + j) * shape.keyWidth() + head / group * dim;
    };
    std::vector<double> p(i + 1, 0), slope(i + 1, 1);
    double largest = -1e300, total = 0;
    for (uint64_t j = 0; j <= i; ++j) {
      for (uint64_t d = 0; d < dim; ++d)
        p[j] += shape.scale() * q[at + d] * k[key(j) + d];
      if (shape.softcap > 0) {
        const double bent = std::tanh(p[j] / shape.softcap);
        p[j] = shape.softcap * bent;
        slope[j] = 1 - bent * bent;
      }
      largest = sees(i, j) ? std::max(largest, p[j]) : largest;
    }
    for (uint64_t j = 0; j <= i; ++j) {
      p[j] = sees(i, j) ? std::exp(p[j] - largest) : 0;
      total += p[j];
    }
    lse[head * shape.rows() + row * shape.seq + i] = largest + std::log(total);
    double delta = 0;
    for (uint64_t d = 0; d < dim; ++d) {
      for (uint64_t j = 0; j <= i; ++j)
        o[at + d] += p[j] / total * v[key(j) + d];
      delta += grad.empty() ? 0 : o[at + d] * grad[at + d];
    }
    for (uint64_t j = 0; j <= i && !grad.empty(); ++j) {
      double dp = 0;
      for (uint64_t d = 0; d < dim; ++d)
        dp += grad[at + d] * v[key(j) + d];
      const double ds =
          p[j] / total * (dp - delta) * slope[j] * shape.scale();
      for (uint64_t d = 0; d < dim; ++d) {
        dq[at + d] += ds * k[key(j) + d];
        dk[key(j) + d] += ds * q[at + d];
        dv[key(j) + d] += p[j] / total * grad[at + d];
      }
    }
  }
};

double larger(uint64_t seed, uint64_t i) { return 3 * uniform(seed, i); }

void checkForward(std::initializer_list<DType> types) {
  for (DType type : types)
    for (const Shape &shape : shapes) {
      Case launch("attention_fwd");
      launch
          .input("q", type, shape.rows(), shape.width(),
                 [](uint64_t i) { return larger(1, i); })
          .input("k", type, shape.rows(), shape.keyWidth(),
                 [](uint64_t i) { return larger(2, i); })
          .input("v", type, shape.rows(), shape.keyWidth())
          .output("o", type, shape.rows(), shape.width())
          .output("lse", DType::f32, shape.heads, shape.rows());
      attributes(launch, shape).slack(2).expectSameBits();
      Reference reference(shape, launch);
      reference.compute();
      launch.expectNear("o", reference.o, toleranceOf(type, 1e-5, 8e-3));
      launch.expectNear("lse", reference.lse, 1e-6);
    }
}

void checkBackward(std::initializer_list<DType> types) {
  for (DType type : types)
    for (const Shape &shape : shapes) {
      SCOPED_TRACE("seq " + std::to_string(shape.seq) + ", heads " +
                   std::to_string(shape.heads) + " of " +
                   std::to_string(shape.dim));
      Case launch("attention_bwd");
      launch
          .input("q", type, shape.rows(), shape.width(),
                 [](uint64_t i) { return larger(1, i); })
          .input("k", type, shape.rows(), shape.keyWidth(),
                 [](uint64_t i) { return larger(2, i); })
          .input("v", type, shape.rows(), shape.keyWidth())
          .input("d_o", type, shape.rows(), shape.width(),
                 [&](uint64_t i) {
                   return uniform(3, i) *
                          (shape.large && type != DType::f16 ? 1e6 : 1);
                 });
      Reference reference(shape, launch);
      reference.grad = launch.before("d_o");
      reference.compute();
      launch
          .input("o", type, shape.rows(), shape.width(),
                 [&](uint64_t i) { return reference.o[i]; })
          .input("lse", DType::f32, shape.heads, shape.rows(),
                 [&](uint64_t i) { return reference.lse[i]; })
          .output("dq", type, shape.rows(), shape.width())
          .output("dk", type, shape.rows(), shape.keyWidth())
          .output("dv", type, shape.rows(), shape.keyWidth());
      // A library has an order of sums of its own.
      attributes(launch, shape).slack(shape.library ? 4 : 1);
      launch.expectSameBits();
      const double tolerance = toleranceOf(type, 2e-5, 1.5e-2);
      if (shape.seq > 1 && shape.window != 1) {
        launch.expectNear("dq", reference.dq, tolerance);
        launch.expectNear("dk", reference.dk, tolerance);
      } else {
        for (double value : launch.after("dk"))
          EXPECT_EQ(value, 0) << "dk";
      }
      // Queries that see one key: no rounding error may look like a gradient.
      const std::vector<double> dq = launch.after("dq");
      for (uint64_t i = 0; i < dq.size() && !shape.library; ++i)
        if (reference.seesOne(i / shape.width() % shape.seq))
          EXPECT_EQ(dq[i], 0) << "dq " << i;
      launch.expectNear("dv", reference.dv, tolerance);
    }
}

} // namespace

// A test per type: on a card f32 has kernels of its own.
TEST_F(Conformance, attention_fwd) { checkForward({DType::f32}); }
TEST(AttentionForward, inBF16) { checkForward({DType::bf16}); }
TEST(AttentionForward, inF16) { checkForward({DType::f16}); }

TEST_F(Conformance, attention_bwd) { checkBackward({DType::f32}); }
TEST(AttentionBackward, inBF16) { checkBackward({DType::bf16}); }
TEST(AttentionBackward, inF16) { checkBackward({DType::f16}); }

/// A NaN among the keys must reach every query that sees it, and no other.
TEST(AttentionForward, aNaNReachesOnlyWhoSeesIt) {
  Case launch("attention_fwd");
  launch.input("q", DType::bf16, 100, 8)
      .input("k", DType::bf16, 100, 8)
      .input("v", DType::bf16, 100, 8)
      .output("o", DType::bf16, 100, 8)
      .output("lse", DType::f32, 1, 100)
      .attribute("seq", int64_t(100))
      .attribute("head_dim", int64_t(8));
  launch.poke("k", 70 * 8 + 3, std::nan(""));
  launch.expectSameBits();
  const std::vector<double> lse = launch.after("lse");
  for (uint64_t i = 0; i < 100; ++i)
    EXPECT_EQ(std::isnan(lse[i]), i >= 70) << i;
}

} // namespace peft::conformance
