//===- Adamw8bitTest.cpp - AdamW with moments in 8 bits -------------------===//
#include "Suite.h"

#include "peft/DynamicMap.h"
#include "peft/FloatTypes.h"
#include "peft/Safetensors.h"

#include <cmath>

namespace peft::conformance {
namespace {

constexpr double rate = 3e-3, beta1 = 0.9, beta2 = 0.98, epsilon = 1e-8,
                 decay = 0.1;

uint64_t blocksOf(uint64_t elements) {
  return (elements + momentBlock - 1) / momentBlock;
}

/// The scalars of step `step`, from 1.
std::vector<double> adamOf(int step, double scale) {
  return {scale,   rate,  beta1,
          beta2,   epsilon, decay,
          1 - std::pow(beta1, step), 1 - std::pow(beta2, step)};
}

/// Codes that stand for all magnitudes, and blocks of zeros.
double codeAt(uint64_t i) { return double(i * 37 % 256); }
double scaleAt(uint64_t i) { return i % 5 == 3 ? 0 : 1e-3 * double(i % 7 + 1); }

/// Gradients of many magnitudes, and a block of zeros.
double gradientAt(uint64_t i) {
  if (i / momentBlock == 3)
    return 0;
  const double spread = uniform(2, i) * uniform(2, i);
  return uniform(10, i) * spread * spread;
}

std::vector<double> decoded(const DynamicMap &map,
                            const std::vector<double> &codes,
                            const std::vector<double> &scales) {
  std::vector<double> values;
  for (size_t i = 0; i < codes.size(); ++i)
    values.push_back(double(map[size_t(codes[i])]) * scales[i / momentBlock]);
  return values;
}

/// Whether the codes are those of `values`, but for a point to either side:
/// rounding decides between two.
void expectCodes(const DynamicMap &map, const std::vector<double> &values,
                 const std::vector<double> &codes,
                 const std::vector<double> &scales) {
  for (size_t i = 0; i < codes.size(); ++i) {
    const double scale = scales[i / momentBlock];
    if (scale == 0) {
      EXPECT_EQ(codes[i], 0) << i;
      continue;
    }
    const size_t code = size_t(codes[i]);
    const double low = code ? (map[code - 1] + map[code]) / 2.0 : -2;
    const double high = code < 255 ? (map[code] + map[code + 1]) / 2.0 : 2;
    const double point = 2.1 / 65535;
    EXPECT_GE(values[i] / scale, low - point) << i;
    EXPECT_LE(values[i] / scale, high + point) << i;
  }
}

void expectLargest(const std::vector<double> &values,
                   const std::vector<double> &scales) {
  std::vector<double> most(scales.size());
  for (size_t i = 0; i < values.size(); ++i)
    most[i / momentBlock] =
        std::max(most[i / momentBlock], std::fabs(values[i]));
  for (size_t i = 0; i < most.size(); ++i)
    EXPECT_NEAR(scales[i], most[i], 1e-6 * most[i]) << i;
}

} // namespace

TEST_F(Conformance, adamw8bit) {
  for (int64_t decays : {0, 1})
    for (uint64_t columns : {1, 100, 1707, 6001}) {
      const double scale = 0.25, factor = 2, lr = rate * factor;
      const uint64_t elements = 3 * columns, blocks = blocksOf(elements);
      Case launch("adamw8bit");
      launch.input("parameter", DType::f32, 3, columns)
          .input("gradient", DType::f32, 3, columns, gradientAt)
          .input("first_moment", DType::u8, 3, columns, codeAt)
          .input("second_moment", DType::u8, 3, columns, codeAt)
          .input("first_scale", DType::f32, 1, blocks, scaleAt)
          .input("second_scale", DType::f32, 1, blocks, scaleAt)
          .vector("adam", DType::f64, adamOf(3, scale))
          .attribute("rate_factor", factor)
          .attribute("decay", decays)
          .expectSameBits();
      std::vector<double> p = launch.before("parameter"),
                          g = launch.before("gradient"),
                          m = decoded(firstMomentMap,
                                      launch.before("first_moment"),
                                      launch.before("first_scale")),
                          v = decoded(secondMomentMap,
                                      launch.before("second_moment"),
                                      launch.before("second_scale"));
      for (size_t i = 0; i < p.size(); ++i) {
        g[i] *= scale;
        m[i] = beta1 * m[i] + (1 - beta1) * g[i];
        v[i] = beta2 * v[i] + (1 - beta2) * g[i] * g[i];
        p[i] *= decays ? 1 - lr * decay : 1;
        p[i] -= lr / (1 - std::pow(beta1, 3)) * m[i] /
                (std::sqrt(v[i] / (1 - std::pow(beta2, 3))) + epsilon);
      }
      launch.expectNear("parameter", p, 1e-6);
      expectLargest(m, launch.after("first_scale"));
      expectLargest(v, launch.after("second_scale"));
      expectCodes(firstMomentMap, m, launch.after("first_moment"),
                  launch.after("first_scale"));
      expectCodes(secondMomentMap, v, launch.after("second_moment"),
                  launch.after("second_scale"));
    }
}

namespace {

class Expected8bit {
public:
  Expected8bit() {
    auto opened = SafetensorsFile::open(
        PEFT_SOURCE_DIR "/test/golden/expected/adamw8bit.safetensors");
    if (opened.ok())
      file = std::move(*opened);
    else
      ADD_FAILURE() << opened.status().message();
  }
  std::vector<double> values(const char *name) const {
    std::vector<double> result;
    const TensorHeader *tensor = file.find(name);
    if (!tensor)
      return result;
    const std::byte *bytes = file.bytes(*tensor).data();
    for (uint64_t i = 0; i < tensor->elementCount(); ++i)
      result.push_back(tensor->dtype == DType::u8
                           ? double(std::to_integer<int>(bytes[i]))
                           : loadFloat(bytes, *tensor->dtype, i));
    return result;
  }

private:
  SafetensorsFile file;
};

double equalShare(const std::vector<double> &a, const std::vector<double> &b) {
  if (a.size() != b.size())
    return 0;
  double equal = 0;
  for (size_t i = 0; i < a.size(); ++i)
    equal += a[i] == b[i];
  return equal / double(a.size());
}

} // namespace

/// Five steps from zero moments; test/golden/make_adamw8bit.py made the file.
TEST(Adamw8bit, FollowsBitsandbytes) {
  constexpr uint64_t rows = 40, columns = 125, blocks = 20;
  const Expected8bit expected;
  std::vector<double> parameter(rows * columns), first(rows * columns),
      second(rows * columns), firstScale(blocks), secondScale(blocks);
  for (uint64_t i = 0; i < parameter.size(); ++i)
    parameter[i] = uniform(1, i);
  auto of = [](const std::vector<double> &values) {
    return [&values](uint64_t i) { return values[i]; };
  };
  for (int step = 1; step <= 5; ++step) {
    Case launch("adamw8bit");
    launch.input("parameter", DType::f32, rows, columns, of(parameter))
        .input("gradient", DType::f32, rows, columns,
               [&](uint64_t i) {
                 const double spread = uniform(2, i) * uniform(2, i);
                 return uniform(uint64_t(9 + step), i) * spread * spread;
               })
        .input("first_moment", DType::u8, rows, columns, of(first))
        .input("second_moment", DType::u8, rows, columns, of(second))
        .vector("first_scale", DType::f32, firstScale)
        .vector("second_scale", DType::f32, secondScale)
        .vector("adam", DType::f64, adamOf(step, 1))
        .attribute("decay", int64_t(1))
        .expectSameBits();
    parameter = launch.after("parameter");
    first = launch.after("first_moment");
    second = launch.after("second_moment");
    firstScale = launch.after("first_scale");
    secondScale = launch.after("second_scale");
  }
  const std::vector<double> theirs = expected.values("parameter");
  ASSERT_EQ(theirs.size(), parameter.size());
  double worst = 0;
  for (size_t i = 0; i < theirs.size(); ++i)
    worst = std::max(worst, std::fabs(parameter[i] - theirs[i]));
  EXPECT_LE(worst, 1e-6);
  EXPECT_GE(equalShare(first, expected.values("first_moment")), 0.999);
  EXPECT_GE(equalShare(second, expected.values("second_moment")), 0.999);
  const std::vector<double> scales = expected.values("first_scale");
  for (size_t i = 0; i < scales.size(); ++i)
    EXPECT_NEAR(firstScale[i], scales[i], 1e-6 * scales[i]) << i;
}

} // namespace peft::conformance
