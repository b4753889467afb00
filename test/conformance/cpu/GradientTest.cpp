//===- GradientTest.cpp - gradients against central differences -----------===//
//
// The value is the sum of a forward kernel's output times fixed random numbers,
// so those numbers are the output's gradient. What the backward kernel answers
// is compared with differences of the value along random directions and along
// single elements.
//
//===----------------------------------------------------------------------===//
#include "../Suite.h"

#include <cmath>

namespace peft::conformance {
namespace {

using Values = std::vector<double>;

Values random(uint64_t seed, size_t count) {
  Values values(count);
  for (size_t i = 0; i < count; ++i)
    values[i] = rounded(DType::f32, uniform(seed, i));
  return values;
}

void run(Case &launch) {
  Fault fault = launch.run(availablePaths().back(), 2);
  ASSERT_FALSE(fault) << fault.text << ": " << fault.found;
}

std::function<double(uint64_t)> from(const Values &values) {
  return [&values](uint64_t i) { return values[i]; };
}

/// A value as a function of one parameter.
struct Question {
  const char *name;
  Values at;       ///< the parameter
  Values gradient; ///< what is claimed
  std::function<double(const Values &)> value;
  double tolerance = 2e-3;
};

void expectGradient(const Question &question) {
  const double step = 1e-2;
  const size_t count = question.at.size();
  ASSERT_EQ(question.gradient.size(), count);
  double norm = 0;
  for (double g : question.gradient)
    norm += g * g;
  norm = std::sqrt(norm / double(count));
  ASSERT_GT(norm, 0) << question.name;
  auto compare = [&](const Values &direction, double length) {
    Values up = question.at, down = question.at;
    double claimed = 0;
    for (size_t i = 0; i < count; ++i) {
      up[i] += step * direction[i];
      down[i] -= step * direction[i];
      claimed += question.gradient[i] * direction[i];
    }
    const double measured =
        (question.value(up) - question.value(down)) / (2 * step);
    EXPECT_NEAR(claimed, measured, question.tolerance * norm * length)
        << question.name;
  };
  for (uint64_t seed = 100; seed < 104; ++seed)
    compare(random(seed, count), std::sqrt(double(count)));
  for (size_t k = 0; k < 12; ++k) {
    Values direction(count, 0);
    direction[k * 7919 % count] = 1;
    compare(direction, 3);
  }
}

/// The sum of `output` times `weights` after running `launch` with `name` = x.
std::function<double(const Values &)> valueOf(const Case &launch,
                                              const std::string &name,
                                              const std::string &output,
                                              const Values &weights) {
  return [=](const Values &x) {
    Case copy = launch;
    for (size_t i = 0; i < x.size(); ++i)
      copy.poke(name, i, x[i]);
    run(copy);
    const Values out = copy.after(output);
    double value = 0;
    for (size_t i = 0; i < weights.size(); ++i)
      value += weights[i] * out[i];
    return value;
  };
}

/// A launch of a kernel whose operands are all f32.
struct Operand {
  const char *name;
  uint64_t rows, columns;
  const Values *values; ///< null: written by the kernel
};
Case caseOf(const char *kernel, std::initializer_list<Operand> operands) {
  Case launch(kernel);
  for (const Operand &operand : operands)
    if (operand.values)
      launch.input(operand.name, DType::f32, operand.rows, operand.columns,
                   from(*operand.values));
    else
      launch.output(operand.name, DType::f32, operand.rows, operand.columns);
  return launch;
}

Values result(Case launch, const char *output) {
  run(launch);
  return launch.after(output);
}

} // namespace

namespace {

void checkNorm(double offset) {
  const uint64_t m = 6, k = 40, g = 20;
  const Values x = random(1, m * k), weight = random(2, g),
               dy = random(3, m * k), zero(g, 0);
  Case forward = caseOf("rms_norm_fwd", {{"x", m, k, &x},
                                         {"weight", 1, g, &weight},
                                         {"y", m, k, nullptr},
                                         {"rstd", 1, m * k / g, nullptr}});
  forward.attribute("weight_offset", offset);
  const Values rstd = result(forward, "rstd");
  Case dx = caseOf("rms_norm_dx", {{"dy", m, k, &dy},
                                   {"x", m, k, &x},
                                   {"weight", 1, g, &weight},
                                   {"rstd", 1, m * k / g, &rstd},
                                   {"dx", m, k, nullptr}});
  dx.attribute("weight_offset", offset);
  Case dw = caseOf("rms_norm_dw", {{"dy", m, k, &dy},
                                   {"x", m, k, &x},
                                   {"rstd", 1, m * k / g, &rstd},
                                   {"dweight", 1, g, &zero}});
  expectGradient({"x", x, result(dx, "dx"), valueOf(forward, "x", "y", dy)});
  expectGradient({"weight", weight, result(dw, "dweight"),
                  valueOf(forward, "weight", "y", dy)});
}

/// `kernel`_fwd and _bwd, of a gate and what it lets through.
void checkGate(const std::string &kernel) {
  const uint64_t m = 4, k = 33;
  Values gate = random(1, m * k);
  for (double &value : gate)
    value *= 3;
  const Values up = random(2, m * k), dy = random(3, m * k);
  Case forward =
      caseOf((kernel + "_fwd").c_str(),
             {{"gate", m, k, &gate}, {"up", m, k, &up}, {"y", m, k, nullptr}});
  Case backward = caseOf((kernel + "_bwd").c_str(), {{"dy", m, k, &dy},
                                                     {"gate", m, k, &gate},
                                                     {"up", m, k, &up},
                                                     {"dgate", m, k, nullptr},
                                                     {"dup", m, k, nullptr}});
  expectGradient({"gate", gate, result(backward, "dgate"),
                  valueOf(forward, "gate", "y", dy)});
  expectGradient(
      {"up", up, result(backward, "dup"), valueOf(forward, "up", "y", dy)});
}

} // namespace

TEST(Gradient, RmsNorm) { checkNorm(0); }
TEST(Gradient, RmsNormOfOffsetWeights) { checkNorm(1); }
TEST(Gradient, Swiglu) { checkGate("swiglu"); }
TEST(Gradient, Geglu) { checkGate("geglu"); }

TEST(Gradient, Softcap) {
  const uint64_t rows = 5, columns = 21;
  Values x = random(1, rows * columns);
  for (double &value : x)
    value *= 4;
  const Values dy = random(2, rows * columns);
  Case forward = caseOf("softcap_fwd", {{"x", rows, columns, &x},
                                        {"y", rows, columns, nullptr}});
  forward.attribute("cap", 3.0);
  const Values y = result(forward, "y");
  Case backward = caseOf("softcap_bwd", {{"dy", rows, columns, &dy},
                                         {"y", rows, columns, &y},
                                         {"dx", rows, columns, nullptr}});
  backward.attribute("cap", 3.0);
  expectGradient(
      {"x", x, result(backward, "dx"), valueOf(forward, "x", "y", dy)});
}

TEST(Gradient, Rope) {
  const uint64_t m = 5, k = 24, w = 8;
  const Values x = random(1, m * k), dy = random(2, m * k);
  Values table(m * w);
  for (size_t i = 0; i < table.size(); ++i) {
    const double angle = uniform(3, i / w * 4 + i % 4) * 3;
    table[i] = i % w < w / 2 ? std::cos(angle) : std::sin(angle);
  }
  auto rotate = [&](const Values &values, int64_t inverse) {
    Case launch = caseOf(
        "rope_fwd",
        {{"x", m, k, &values}, {"table", m, w, &table}, {"y", m, k, nullptr}});
    launch.attribute("head_dim", int64_t(12)).attribute("inverse", inverse);
    return launch;
  };
  expectGradient({"x", x, result(rotate(dy, 1), "y"),
                  valueOf(rotate(x, 0), "x", "y", dy)});
}

TEST(Gradient, CrossEntropy) {
  const uint64_t rows = 6, vocab = 30;
  const Values logits = random(1, rows * vocab), ones(rows, 1);
  Case launch =
      caseOf("cross_entropy_fwd_bwd", {{"logits", rows, vocab, &logits},
                                       {"loss", 1, rows, nullptr},
                                       {"dlogits", rows, vocab, nullptr}});
  launch.vector("target", DType::i32, {3, 0, 29, 7, 7, 11})
      .vector("count", DType::i32, {double(rows)});
  expectGradient({"logits", logits, result(launch, "dlogits"),
                  valueOf(launch, "logits", "loss", ones)});
}

TEST(Gradient, Embedding) {
  const double scale = 1.5;
  const uint64_t rows = 6, vocab = 9, h = 5;
  const Values table = random(1, vocab * h), dy = random(2, rows * h),
               zero(vocab * h, 0), ids = {1, 8, 1, 0, 4, 1};
  Case forward = caseOf("embed_fwd",
                        {{"table", vocab, h, &table}, {"y", rows, h, nullptr}});
  forward.vector("ids", DType::i32, ids).attribute("scale", scale);
  Case backward =
      caseOf("embed_dw", {{"dy", rows, h, &dy}, {"dtable", vocab, h, &zero}});
  backward.vector("ids", DType::i32, ids).attribute("scale", scale);
  expectGradient({"table", table, result(backward, "dtable"),
                  valueOf(forward, "table", "y", dy)});
}

namespace {

void checkAttention(double softcap) {
  const uint64_t m = 140, seq = 70, heads = 4, kvHeads = 2, dim = 6;
  const uint64_t x = heads * dim, y = kvHeads * dim;
  const Values q = random(1, m * x), k = random(2, m * y), v = random(3, m * y),
               dO = random(4, m * x);
  auto attributes = [&](Case &launch) {
    launch.attribute("seq", int64_t(seq))
        .attribute("heads", int64_t(heads))
        .attribute("kv_heads", int64_t(kvHeads))
        .attribute("head_dim", int64_t(dim))
        .attribute("window", int64_t(50))
        .attribute("scale", 0.7)
        .attribute("softcap", softcap)
        .input("segments", DType::i32, 1, m,
               [](uint64_t i) { return double(i % 70 / 30); });
  };
  Case forward = caseOf("attention_fwd", {{"q", m, x, &q},
                                          {"k", m, y, &k},
                                          {"v", m, y, &v},
                                          {"o", m, x, nullptr},
                                          {"lse", heads, m, nullptr}});
  attributes(forward);
  const Values o = result(forward, "o"), lse = result(forward, "lse");
  Case backward = caseOf("attention_bwd", {{"q", m, x, &q},
                                           {"k", m, y, &k},
                                           {"v", m, y, &v},
                                           {"o", m, x, &o},
                                           {"d_o", m, x, &dO},
                                           {"lse", heads, m, &lse},
                                           {"dq", m, x, nullptr},
                                           {"dk", m, y, nullptr},
                                           {"dv", m, y, nullptr}});
  attributes(backward);
  expectGradient(
      {"q", q, result(backward, "dq"), valueOf(forward, "q", "o", dO)});
  expectGradient(
      {"k", k, result(backward, "dk"), valueOf(forward, "k", "o", dO)});
  expectGradient(
      {"v", v, result(backward, "dv"), valueOf(forward, "v", "o", dO)});
}

} // namespace

TEST(Gradient, Attention) { checkAttention(0); }
/// Half of the scores' spread is above the cap.
TEST(Gradient, CappedAttention) { checkAttention(0.6); }

TEST(Gradient, Linear) {
  const uint64_t m = 11, n = 17, k = 23;
  const Values x = random(1, m * k), w = random(2, n * k), bias = random(3, n),
               dy = random(4, m * n), zeroW(n * k, 0), zeroBias(n, 0);
  Case forward = caseOf("linear_fwd", {{"x", m, k, &x},
                                       {"w", n, k, &w},
                                       {"bias", 1, n, &bias},
                                       {"y", m, n, nullptr}});
  forward.attribute("scale", 0.5);
  Values scaled = dy;
  for (double &value : scaled)
    value *= 0.5;
  Case dx = caseOf("linear_dx",
                   {{"dy", m, n, &dy}, {"w", n, k, &w}, {"dx", m, k, nullptr}});
  dx.attribute("scale", 0.5);
  Case dw =
      caseOf("linear_dw",
             {{"dy", m, n, &scaled}, {"x", m, k, &x}, {"dw", n, k, &zeroW}});
  Case dbias =
      caseOf("bias_dw", {{"dy", m, n, &scaled}, {"dbias", 1, n, &zeroBias}});
  expectGradient({"x", x, result(dx, "dx"), valueOf(forward, "x", "y", dy)});
  expectGradient({"w", w, result(dw, "dw"), valueOf(forward, "w", "y", dy)});
  expectGradient({"bias", bias, result(dbias, "dbias"),
                  valueOf(forward, "bias", "y", dy)});
}

namespace {

/// y = x w^T + t b^T with t = 0.8 mask(x) a^T, as a plan launches it.
struct LoraLayer {
  static constexpr uint64_t m = 10, n = 13, k = 70, r = 4;
  double dropout;
  Values x = random(1, m *k), w = random(2, n *k), a = random(3, r *k),
         b = random(4, n *r), dy = random(5, m *n);

  void mask(Case &launch) const {
    launch.attribute("dropout", dropout)
        .attribute("module_key", int64_t(77))
        .attribute("seq", int64_t(5));
    if (dropout > 0)
      launch.vector("seed", DType::i64, {42})
          .vector("step", DType::i32, {3})
          .vector("first_row", DType::i32, {6});
  }
  Values down() const {
    Case launch =
        caseOf("lora_down_fwd",
               {{"x", m, k, &x}, {"a", r, k, &a}, {"t", m, r, nullptr}});
    mask(launch.attribute("scale", 0.8));
    return result(launch, "t");
  }
  double value() const {
    const Values t = down();
    const Values y = result(caseOf("linear_lora_fwd", {{"x", m, k, &x},
                                                       {"w", n, k, &w},
                                                       {"t", m, r, &t},
                                                       {"b", n, r, &b},
                                                       {"y", m, n, nullptr}}),
                            "y");
    double sum = 0;
    for (size_t i = 0; i < y.size(); ++i)
      sum += dy[i] * y[i];
    return sum;
  }
  std::function<double(const Values &)> of(Values LoraLayer::*parameter) {
    return [this, parameter](const Values &values) {
      LoraLayer copy = *this;
      copy.*parameter = values;
      return copy.value();
    };
  }
};

} // namespace

TEST(Gradient, Lora) {
  for (double dropout : {0.0, 0.3}) {
    LoraLayer layer{dropout};
    const uint64_t m = layer.m, n = layer.n, k = layer.k, r = layer.r;
    const Values t = layer.down(), zeroA(r * k, 0), zeroB(n * r, 0);
    Case launchDt = caseOf("linear_dx", {{"dy", m, n, &layer.dy},
                                         {"w", n, r, &layer.b},
                                         {"dx", m, r, nullptr}});
    launchDt.attribute("scale", 0.8);
    const Values dt = result(launchDt, "dx");
    Case db = caseOf(
        "linear_dw",
        {{"dy", m, n, &layer.dy}, {"x", m, r, &t}, {"dw", n, r, &zeroB}});
    Case da = caseOf(
        "lora_down_dw",
        {{"dt", m, r, &dt}, {"x", m, k, &layer.x}, {"da", r, k, &zeroA}});
    layer.mask(da);
    Case dx = caseOf("linear_lora_dx", {{"dy", m, n, &layer.dy},
                                        {"w", n, k, &layer.w},
                                        {"dt", m, r, &dt},
                                        {"a", r, k, &layer.a},
                                        {"dx", m, k, nullptr}});
    layer.mask(dx);
    expectGradient({"b", layer.b, result(db, "dw"), layer.of(&LoraLayer::b)});
    expectGradient({"a", layer.a, result(da, "da"), layer.of(&LoraLayer::a)});
    expectGradient({"x", layer.x, result(dx, "dx"), layer.of(&LoraLayer::x)});
  }
}

} // namespace peft::conformance
