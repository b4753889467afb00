//===- StepSums.cu - the sums of a step and its end -----------------------===//
#include "cuda/Kernels.h"
#include "cuda/RowIndex.h"

#include <cfloat>

namespace peft::cuda {

namespace {

/// One block: thread i sums the rows that are i mod the threads, then a tree.
__global__ void sumLosses(Gate gate, const float *loss, uint64_t rows,
                          const int32_t *count, int64_t rowStart, double *sum) {
  if (closed(gate))
    return;
  const uint64_t active = activeRows(count, rowStart, rows);
  double total = 0;
  for (uint64_t i = threadIdx.x; i < active; i += blockDim.x)
    total += static_cast<double>(loss[i]);
  total = blockSum(total);
  if (threadIdx.x == 0)
    *sum += total;
}

__global__ void addCount(Gate gate, const int32_t *count, int64_t *tokens,
                         FaultSlot *fault) {
  if (closed(gate) || threadIdx.x != 0)
    return;
  if (*count < 0)
    report(fault, FaultKind::count, *count, 0);
  else
    *tokens += *count;
}

/// base^exponent by squaring: one fixed sequence of roundings.
__device__ double power(double base, int32_t exponent) {
  double result = 1;
  for (; exponent > 0; exponent /= 2) {
    if (exponent % 2)
      result *= base;
    base *= base;
  }
  return result;
}

__device__ bool isFinite(double x) { return x >= -DBL_MAX && x <= DBL_MAX; }

/// The operands of finish_step.
struct StepEnd {
  double *lossSum;
  int64_t *tokens;
  double *normSum;
  const double *learningRate, *beta1, *beta2, *epsilon, *weightDecay,
      *maxGradNorm;
  int32_t *optimizerStep;
  double *adam, *metrics;
  int32_t *apply;
  const float *lossScale; ///< null: 1
};

__global__ void endStep(Gate gate, StepEnd s) {
  if (closed(gate) || threadIdx.x != 0)
    return;
  const bool any = *s.tokens > 0;
  const double count = static_cast<double>(*s.tokens);
  const double loss = any ? *s.lossSum / count : 0;
  const double scaled = count * (s.lossScale ? double(*s.lossScale) : 1.0);
  const double norm = any ? sqrt(*s.normSum) / scaled : 0;
  const bool apply = any && isFinite(loss) && isFinite(norm);
  if (apply && *s.optimizerStep < INT32_MAX)
    ++*s.optimizerStep;
  const double most = *s.maxGradNorm;
  const double clip = most > 0 ? most / (norm + 1e-6) : 1;
  s.adam[0] = any ? (clip < 1 ? clip : 1) / scaled : 0;
  s.adam[1] = *s.learningRate;
  s.adam[2] = *s.beta1;
  s.adam[3] = *s.beta2;
  s.adam[4] = *s.epsilon;
  s.adam[5] = *s.weightDecay;
  s.adam[6] = 1 - power(*s.beta1, *s.optimizerStep);
  s.adam[7] = 1 - power(*s.beta2, *s.optimizerStep);
  s.metrics[0] = loss;
  s.metrics[1] = norm;
  s.metrics[2] = count;
  s.metrics[3] = apply;
  *s.apply = apply;
  if (isFinite(loss))
    *s.lossSum = 0;
  *s.normSum = 0;
  *s.tokens = 0;
}

__global__ void adjustScale(Gate gate, const double *metrics, float *scale,
                            int32_t *goodSteps, int32_t *proceed,
                            int64_t growthInterval) {
  if (closed(gate) || threadIdx.x != 0)
    return;
  constexpr float least = 0x1p-14f, most = 0x1p16f;
  const bool any = metrics[2] > 0, applied = metrics[3] > 0;
  const bool overflowed = any && !applied && isFinite(metrics[0]);
  *proceed = !any || applied || (overflowed && *scale > least);
  if (overflowed && *scale > least) {
    *scale = *scale / 2;
    *goodSteps = 0;
  } else if (applied) {
    const bool grows = *goodSteps + int64_t{1} >= growthInterval;
    if (grows)
      *scale = *scale < most / 2 ? *scale * 2 : most;
    *goodSteps = grows ? 0 : *goodSteps + 1;
  }
}

} // namespace

Status loss_sum(const Call &call) {
  namespace op = kernels::loss_sum;
  return launch(call, Grid{.threads = 256}, sumLosses,
                call[op::loss].as<float>(), call[op::loss].elements(),
                call[op::count].as<int32_t>(), call.integer(op::row_start),
                call[op::sum].as<double>());
}

Status count_tokens(const Call &call) {
  namespace op = kernels::count_tokens;
  return launch(call, Grid{.threads = 32}, addCount,
                call[op::count].as<int32_t>(), call[op::tokens].as<int64_t>(),
                call.fault);
}

Status finish_step(const Call &call) {
  namespace op = kernels::finish_step;
  auto scalar = [&](int operand) { return call[operand].as<double>(); };
  const StepEnd end{scalar(op::loss_sum),
                    call[op::tokens].as<int64_t>(),
                    scalar(op::norm_sum),
                    scalar(op::learning_rate),
                    scalar(op::beta1),
                    scalar(op::beta2),
                    scalar(op::epsilon),
                    scalar(op::weight_decay),
                    scalar(op::max_grad_norm),
                    call[op::optimizer_step].as<int32_t>(),
                    scalar(op::adam),
                    scalar(op::metrics),
                    call[op::apply].as<int32_t>(),
                    call[op::loss_scale].as<float>()};
  return launch(call, Grid{.threads = 32}, endStep, end);
}

Status adjust_loss_scale(const Call &call) {
  namespace op = kernels::adjust_loss_scale;
  return launch(
      call, Grid{.threads = 32}, adjustScale, call[op::metrics].as<double>(),
      call[op::loss_scale].as<float>(), call[op::good_steps].as<int32_t>(),
      call[op::proceed].as<int32_t>(), call.integer(op::growth_interval));
}

} // namespace peft::cuda
