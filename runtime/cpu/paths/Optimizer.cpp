//===- Optimizer.cpp - gradient norm, the end of a step, AdamW ------------===//
#include "Parallel.h"

#include <cfloat>
#include <cmath>

namespace peft::cpu::PEFT_PATH {

namespace {

/// The squares of [begin, end): lane i sums elements i mod 16, then the tree.
double sumOfSquares(const F32 *x, uint64_t begin, uint64_t end) {
  double lanes[laneCount] = {};
  for (uint64_t i = begin; i < end; i += laneCount) {
    float values[laneCount] = {};
    uint64_t count = end - i < laneCount ? end - i : laneCount;
    std::memcpy(values, x + i, count * sizeof(float));
    for (unsigned j = 0; j < laneCount; ++j)
      lanes[j] += static_cast<double>(values[j]) * values[j];
  }
  for (unsigned half = laneCount / 2; half; half /= 2)
    for (unsigned j = 0; j < half; ++j)
      lanes[j] += lanes[j + half];
  return lanes[0];
}

/// base^exponent by squaring: one fixed sequence of roundings.
double power(double base, int32_t exponent) {
  double result = 1;
  for (; exponent > 0; exponent /= 2) {
    if (exponent % 2)
      result *= base;
    base *= base;
  }
  return result;
}

bool isFinite(double x) { return x >= -DBL_MAX && x <= DBL_MAX; }

} // namespace

Fault norm_square(const Call &call) {
  namespace op = kernels::norm_square;
  // Parts depend on the size only, so that the threads do not show.
  constexpr uint64_t mostParts = 64, leastPart = 1 << 16;
  const F32 *x = call[op::x].as<F32>();
  const uint64_t elements = call[op::x].elements();
  uint64_t part = (elements / mostParts + laneCount) / laneCount * laneCount;
  if (part < leastPart)
    part = leastPart;
  const uint64_t parts = elements / part + (elements % part != 0);
  double sums[mostParts + 1] = {};
  parallel(call, parts, 1, [&](uint64_t begin, uint64_t end) {
    for (uint64_t i = begin; i < end; ++i)
      sums[i] = sumOfSquares(
          x, i * part, (i + 1) * part < elements ? (i + 1) * part : elements);
  });
  double total = *call[op::sum].as<double>();
  for (uint64_t i = 0; i < parts; ++i)
    total += sums[i];
  *call[op::sum].as<double>() = total;
  return {};
}

Fault finish_step(const Call &call) {
  namespace op = kernels::finish_step;
  double &lossSum = *call[op::loss_sum].as<double>();
  double &normSum = *call[op::norm_sum].as<double>();
  int64_t &tokens = *call[op::tokens].as<int64_t>();
  int32_t &optimizerStep = *call[op::optimizer_step].as<int32_t>();
  auto scalar = [&](int operand) { return *call[operand].as<double>(); };

  const bool any = tokens > 0;
  const double count = static_cast<double>(tokens);
  const Operand &lossScale = call[op::loss_scale];
  const double scale = lossScale ? *lossScale.as<float>() : 1.0;
  const double loss = any ? lossSum / count : 0;
  const double norm = any ? std::sqrt(normSum) / (count * scale) : 0;
  const bool apply = any && isFinite(loss) && isFinite(norm);
  if (apply && optimizerStep < INT32_MAX)
    ++optimizerStep;

  double clip = 1;
  if (double most = scalar(op::max_grad_norm); most > 0)
    clip = most / (norm + 1e-6);
  double *adam = call[op::adam].as<double>();
  adam[0] = any ? (clip < 1 ? clip : 1) / (count * scale) : 0;
  adam[1] = scalar(op::learning_rate);
  adam[2] = scalar(op::beta1);
  adam[3] = scalar(op::beta2);
  adam[4] = scalar(op::epsilon);
  adam[5] = scalar(op::weight_decay);
  adam[6] = 1 - power(adam[2], optimizerStep);
  adam[7] = 1 - power(adam[3], optimizerStep);

  double *metrics = call[op::metrics].as<double>();
  metrics[0] = loss;
  metrics[1] = norm;
  metrics[2] = count;
  metrics[3] = apply;
  *call[op::apply].as<int32_t>() = apply;
  if (isFinite(loss))
    lossSum = 0;
  normSum = 0;
  tokens = 0;
  return {};
}

Fault adjust_loss_scale(const Call &call) {
  namespace op = kernels::adjust_loss_scale;
  constexpr float least = 0x1p-14f, most = 0x1p16f;
  const double *metrics = call[op::metrics].as<double>();
  float &scale = *call[op::loss_scale].as<float>();
  int32_t &goodSteps = *call[op::good_steps].as<int32_t>();
  const bool any = metrics[2] > 0, applied = metrics[3] > 0;
  const bool overflowed = any && !applied && isFinite(metrics[0]);
  *call[op::proceed].as<int32_t>() =
      !any || applied || (overflowed && scale > least);
  if (overflowed && scale > least) {
    scale = scale / 2;
    goodSteps = 0;
  } else if (applied) {
    const bool grows =
        goodSteps + int64_t{1} >= call.integer(op::growth_interval);
    if (grows)
      scale = scale < most / 2 ? scale * 2 : most;
    goodSteps = grows ? 0 : goodSteps + 1;
  }
  return {};
}

Fault adamw(const Call &call) {
  namespace op = kernels::adamw;
  F32 *parameter = call[op::parameter].as<F32>();
  F32 *first = call[op::first_moment].as<F32>();
  F32 *second = call[op::second_moment].as<F32>();
  const F32 *gradient = call[op::gradient].as<F32>();
  const double *adam = call[op::adam].as<double>();
  const double rate = adam[1] * call.real(op::rate_factor);
  // Scalars in f64, rounded once; then the order of torch's single-tensor step.
  auto rounded = [](double x) { return broadcast(static_cast<float>(x)); };
  const Lanes scale = rounded(adam[0]);
  const Lanes shrink =
      rounded(call.integer(op::decay) ? 1 - rate * adam[5] : 1.0);
  const Lanes newFirst = rounded(1 - adam[2]), oldSecond = rounded(adam[3]),
              newSecond = rounded(1 - adam[3]);
  const Lanes correction = rounded(std::sqrt(adam[7])),
              epsilon = rounded(adam[4]), minusStep = rounded(-rate / adam[6]);
  parallelElements(
      call, call[op::parameter].elements(), [=](uint64_t begin, uint64_t end) {
        forLanes(begin, end, [&](auto load, auto store) {
          Lanes g = load(gradient) * scale, p = load(parameter) * shrink;
          Lanes m = load(first), v = load(second) * oldSecond;
          m = fma(newFirst, g - m, m);
          v = fma(newSecond * g, g, v);
          Lanes denominator = squareRoot(v) / correction + epsilon;
          store(parameter, p + minusStep * m / denominator);
          store(first, m);
          store(second, v);
        });
      });
  return {};
}

} // namespace peft::cpu::PEFT_PATH
