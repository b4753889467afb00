//===- CrossEntropy.cu - the loss and its gradient ------------------------===//
//
// Block 0 checks the targets, every other block works on one row: one pass for
// the largest logit and the sum of exponentials together, one for the gradient.
//
//===----------------------------------------------------------------------===//
#include "cuda/Kernels.h"
#include "cuda/Numbers.h"
#include "cuda/RowIndex.h"

#include <cfloat>

namespace peft::cuda {

namespace {

constexpr unsigned lossThreads = 512;

/// The sum of exp(logit - largest) over some logits. A NaN or an infinity among
/// them makes `total` NaN. No logit: largest is finite, so that nothing divides
/// infinities.
struct RowSum {
  float largest = -FLT_MAX, total = 0;

  __device__ void add(float logit) {
    if (logit > largest) {
      total *= expf(largest - logit);
      largest = logit;
    }
    total += expf(logit - largest);
  }
};

struct JoinSums {
  __device__ RowSum operator()(RowSum a, RowSum b) const {
    RowSum sum;
    sum.largest = a.largest > b.largest ? a.largest : b.largest;
    // The same in both orders: every lane gets the same bits.
    sum.total = a.total * expf(a.largest - sum.largest) +
                b.total * expf(b.largest - sum.largest);
    return sum;
  }
};

__device__ RowSum joinWarp(RowSum sum) {
  for (int distance = 16; distance; distance /= 2) {
    RowSum other;
    other.largest = __shfl_xor_sync(fullWarp, sum.largest, distance);
    other.total = __shfl_xor_sync(fullWarp, sum.total, distance);
    sum = JoinSums()(sum, other);
  }
  return sum;
}

__device__ RowSum joinBlock(RowSum sum) {
  __shared__ float largest[lossThreads / 32], total[lossThreads / 32];
  sum = joinWarp(sum);
  if (threadIdx.x % 32 == 0) {
    largest[threadIdx.x / 32] = sum.largest;
    total[threadIdx.x / 32] = sum.total;
  }
  __syncthreads();
  sum = RowSum();
  if (threadIdx.x % 32 < blockDim.x / 32) {
    sum.largest = largest[threadIdx.x % 32];
    sum.total = total[threadIdx.x % 32];
  }
  return joinWarp(sum);
}

struct Rows {
  FloatsIn logits;
  RowIndex target;
  uint64_t vocab;
  float *loss;
  FloatsOut dlogits;                ///< none: the loss only
  const float *lossScale = nullptr; ///< of the gradient; null: 1
};

template <unsigned n> __device__ void fillZero(const Rows &rows, uint64_t row) {
  const float zeros[n] = {};
  for (uint64_t i = threadIdx.x * n; i < rows.vocab; i += blockDim.x * n)
    rows.dlogits.store(row * rows.vocab + i, zeros);
}

template <unsigned n>
__device__ void writeGradient(const Rows &rows, uint64_t row, RowSum sum,
                              uint64_t target) {
  const float inverse = 1.0f / sum.total;
  const float scale = rows.lossScale ? *rows.lossScale : 1.0f;
  for (uint64_t i = threadIdx.x * n; i < rows.vocab; i += blockDim.x * n) {
    float values[n];
    rows.logits.load(row * rows.vocab + i, values);
    for (unsigned j = 0; j < n; ++j) {
      values[j] = expf(values[j] - sum.largest) * inverse;
      if (i + j == target)
        values[j] -= 1.0f;
      values[j] *= scale;
    }
    rows.dlogits.store(row * rows.vocab + i, values);
  }
}

template <unsigned n> __global__ void crossEntropy(Gate gate, Rows rows) {
  if (closed(gate))
    return;
  if (blockIdx.x == 0)
    return rows.target.check();
  const uint64_t row = blockIdx.x - 1;
  const int64_t target = rows.target.at(row, rows.target.wanted());
  if (target < 0) {
    if (rows.dlogits.data)
      fillZero<n>(rows, row);
    return;
  }
  RowSum sum;
  for (uint64_t i = threadIdx.x * n; i < rows.vocab; i += blockDim.x * n) {
    float values[n];
    rows.logits.load(row * rows.vocab + i, values);
    for (unsigned j = 0; j < n; ++j)
      sum.add(values[j]);
  }
  const float hit =
      rows.logits[row * rows.vocab + static_cast<uint64_t>(target)];
  // Behind its barrier the logits may be overwritten by their gradient.
  sum = joinBlock(sum);
  if (threadIdx.x == 0)
    rows.loss[row] = logf(sum.total) - (hit - sum.largest);
  if (rows.dlogits.data)
    writeGradient<n>(rows, row, sum, static_cast<uint64_t>(target));
}

Status launchRows(const Call &call, const Rows &rows) {
  return launch(call,
                Grid{.x = static_cast<unsigned>(rows.target.rows + 1),
                     .threads = lossThreads},
                rows.vocab % packSize == 0 ? crossEntropy<packSize>
                                           : crossEntropy<1>,
                rows);
}

} // namespace

Status cross_entropy_fwd(const Call &call) {
  namespace op = kernels::cross_entropy_fwd;
  const Operand &logits = call[op::logits];
  return launchRows(
      call,
      Rows{FloatsIn(logits),
           RowIndex{call[op::target].as<int32_t>(), call[op::target].elements(),
                    call.integer(op::row_start), logits.columns, logits.rows,
                    call[op::count].as<int32_t>(), FaultKind::target,
                    call.fault},
           logits.columns, call[op::loss].as<float>(), FloatsOut(), nullptr});
}

Status cross_entropy_fwd_bwd(const Call &call) {
  namespace op = kernels::cross_entropy_fwd_bwd;
  const Operand &logits = call[op::logits];
  return launchRows(
      call,
      Rows{FloatsIn(logits),
           RowIndex{call[op::target].as<int32_t>(), call[op::target].elements(),
                    call.integer(op::row_start), logits.columns, logits.rows,
                    call[op::count].as<int32_t>(), FaultKind::target,
                    call.fault},
           logits.columns, call[op::loss].as<float>(),
           FloatsOut(call[op::dlogits]), call[op::loss_scale].as<float>()});
}

} // namespace peft::cuda
