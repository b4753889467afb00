//===- Norm.cu - RMS norm and the gradient of its input -------------------===//
//
// A group is `width` consecutive elements of a row (the whole row, or one head
// for the q and k norms), so an [m, k] operand is a list of groups. A warp
// takes a narrow group, a block a wide one. Weights are used as they are
// stored, with the offset added in f32.
//
//===----------------------------------------------------------------------===//
#include "cuda/Kernels.h"
#include "cuda/Numbers.h"
#include "cuda/Reduce.h"

namespace peft::cuda {

namespace {

/// The threads that work on one group, and where this thread is among them.
template <bool wholeBlock> struct Team {
  unsigned size, member;
  uint64_t group;

  __device__ Team()
      : size(wholeBlock ? unsigned(blockDim.x) : 32),
        member(threadIdx.x % size),
        group(uint64_t(blockIdx.x) * (blockDim.x / size) + threadIdx.x / size) {
  }
  __device__ float sum(float value) const {
    if constexpr (wholeBlock)
      return blockSum(value);
    else
      return warpSum(value);
  }
};

/// What is added to each weight. Minus zero changes no number, not even a zero.
float offsetOf(double offset) {
  return offset == 0 ? -0.0f : static_cast<float>(offset);
}

struct Forward {
  FloatsIn x, weight, init; ///< without init: zeros
  FloatsOut y;
  float *rstd;
  float epsilon, offset;

  template <unsigned n, typename Team>
  __device__ void run(const Team &team, unsigned width) const {
    const uint64_t at = team.group * width;
    float squares = 0;
    for (unsigned i = team.member * n; i < width; i += team.size * n) {
      float v[n];
      x.load(at + i, v);
      for (unsigned j = 0; j < n; ++j)
        squares = fmaf(v[j], v[j], squares);
    }
    const float mean = team.sum(squares) / static_cast<float>(width);
    const float factor = 1.0f / sqrtf(mean + epsilon);
    if (team.member == 0)
      rstd[team.group] = factor;
    for (unsigned i = team.member * n; i < width; i += team.size * n) {
      float v[n], w[n];
      x.load(at + i, v);
      weight.load(i, w);
      for (unsigned j = 0; j < n; ++j)
        v[j] = v[j] * factor * (w[j] + offset);
      if (init.data) {
        float start[n];
        init.load(at + i, start);
        for (unsigned j = 0; j < n; ++j)
          v[j] = start[j] + v[j];
      }
      y.store(at + i, v);
    }
  }
};

struct InputGradient {
  FloatsIn dy, x, weight, init; ///< without init: zeros
  const float *rstd;
  FloatsOut dx;
  float offset;

  template <unsigned n, typename Team>
  __device__ void run(const Team &team, unsigned width) const {
    const uint64_t at = team.group * width;
    float products = 0;
    for (unsigned i = team.member * n; i < width; i += team.size * n) {
      float d[n], v[n], w[n];
      dy.load(at + i, d);
      x.load(at + i, v);
      weight.load(i, w);
      for (unsigned j = 0; j < n; ++j)
        products = fmaf((w[j] + offset) * d[j], v[j], products);
    }
    const float factor = rstd[team.group];
    const float minusMean =
        -(factor * factor * team.sum(products) / static_cast<float>(width));
    for (unsigned i = team.member * n; i < width; i += team.size * n) {
      float d[n], v[n], w[n], start[n] = {};
      dy.load(at + i, d);
      x.load(at + i, v);
      weight.load(i, w);
      if (init.data)
        init.load(at + i, start);
      for (unsigned j = 0; j < n; ++j)
        v[j] = fmaf(factor, fmaf(minusMean, v[j], (w[j] + offset) * d[j]),
                    start[j]);
      dx.store(at + i, v);
    }
  }
};

template <unsigned n, bool wholeBlock, typename Work>
__global__ void everyGroup(Gate gate, uint64_t groups, unsigned width,
                           Work work) {
  if (closed(gate))
    return;
  const Team<wholeBlock> team;
  // A whole warp, or the whole block, leaves.
  if (team.group >= groups)
    return;
  work.template run<n>(team, width);
}

template <typename Work>
Status launchGroups(const Call &call, uint64_t groups, uint64_t width,
                    Work work) {
  // Groups of a multiple of eight elements start at multiples of 16 bytes.
  const bool packs = width % packSize == 0;
  if (width <= 1024) {
    constexpr unsigned threads = 128, perBlock = threads / 32;
    const Grid grid{
        .x = static_cast<unsigned>((groups + perBlock - 1) / perBlock),
        .threads = threads};
    return launch(call, grid,
                  packs ? everyGroup<packSize, false, Work>
                        : everyGroup<1, false, Work>,
                  groups, width, work);
  }
  const Grid grid{.x = static_cast<unsigned>(groups),
                  .threads = width > 4096 ? 512u : 256u};
  return launch(call, grid,
                packs ? everyGroup<packSize, true, Work>
                      : everyGroup<1, true, Work>,
                groups, width, work);
}

} // namespace

Status rms_norm_fwd(const Call &call) {
  namespace op = kernels::rms_norm_fwd;
  return launchGroups(
      call, call[op::rstd].elements(), call[op::weight].elements(),
      Forward{FloatsIn(call[op::x]), FloatsIn(call[op::weight]),
              FloatsIn(call[op::init]), FloatsOut(call[op::y]),
              call[op::rstd].as<float>(),
              static_cast<float>(call.real(op::epsilon)),
              offsetOf(call.real(op::weight_offset))});
}

Status rms_norm_dx(const Call &call) {
  namespace op = kernels::rms_norm_dx;
  return launchGroups(
      call, call[op::rstd].elements(), call[op::weight].elements(),
      InputGradient{FloatsIn(call[op::dy]), FloatsIn(call[op::x]),
                    FloatsIn(call[op::weight]), FloatsIn(call[op::init]),
                    call[op::rstd].as<float>(), FloatsOut(call[op::dx]),
                    offsetOf(call.real(op::weight_offset))});
}

} // namespace peft::cuda
