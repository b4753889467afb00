//===- Adamw.cu - AdamW, of one tensor or of many -------------------------===//
#include "cuda/Kernels.h"
#include "cuda/MultiTensor.h"
#include "cuda/Numbers.h"
#include "schema/CudaParts.h"

namespace peft::cuda {

namespace {

constexpr unsigned blockThreads = 256;
/// Of an f32: 16 bytes, as four tensors are read and three written.
constexpr unsigned perThread = 4;

/// What finish_step's scalars are for one tensor: computed in f64, rounded
/// once.
struct Scalars {
  float scale, shrink, newFirst, oldSecond, newSecond, correction, epsilon,
      minusStep;
};

__device__ Scalars scalarsOf(const double *adam, double rateFactor,
                             bool decays) {
  const double rate = adam[1] * rateFactor;
  Scalars s;
  s.scale = static_cast<float>(adam[0]);
  s.shrink = static_cast<float>(decays ? 1 - rate * adam[5] : 1.0);
  s.newFirst = static_cast<float>(1 - adam[2]);
  s.oldSecond = static_cast<float>(adam[3]);
  s.newSecond = static_cast<float>(1 - adam[3]);
  s.correction = static_cast<float>(sqrt(adam[7]));
  s.epsilon = static_cast<float>(adam[4]);
  s.minusStep = static_cast<float>(-rate / adam[6]);
  return s;
}

/// Elements [i, i + n), in the order of torch's single-tensor step.
template <unsigned n>
__device__ void update(const AdamwPart &part, const Scalars &s, uint32_t i) {
  using Values = Pack<float, n>;
  Values *parameter = reinterpret_cast<Values *>(part.parameter + i);
  Values *first = reinterpret_cast<Values *>(part.firstMoment + i);
  Values *second = reinterpret_cast<Values *>(part.secondMoment + i);
  const Values gradient = *reinterpret_cast<const Values *>(part.gradient + i);
  Values p = *parameter, m = *first, v = *second;
  for (unsigned j = 0; j < n; ++j) {
    const float g = gradient.value[j] * s.scale;
    float moment = m.value[j], square = v.value[j] * s.oldSecond;
    moment = fmaf(s.newFirst, g - moment, moment);
    square = fmaf(s.newSecond * g, g, square);
    const float denominator = sqrtf(square) / s.correction + s.epsilon;
    p.value[j] = p.value[j] * s.shrink + s.minusStep * moment / denominator;
    m.value[j] = moment;
    v.value[j] = square;
  }
  *parameter = p;
  *first = m;
  *second = v;
}

/// The whole block calls.
__device__ void updatePart(const AdamwPart &part, const double *adam) {
  __shared__ Scalars scalars;
  // f64 is slow on most cards: once per block.
  if (threadIdx.x == 0)
    scalars = scalarsOf(adam, part.rateFactor, part.decay != 0);
  __syncthreads();
  const Scalars s = scalars;
  const uint32_t whole = part.elements / perThread * perThread;
  for (uint32_t i = threadIdx.x * perThread; i < whole;
       i += blockDim.x * perThread)
    update<perThread>(part, s, i);
  if (whole + threadIdx.x < part.elements)
    update<1>(part, s, whole + threadIdx.x);
}

/// The tensors of one launch as one part that is too long.
struct Whole {
  AdamwPart part;
  uint64_t elements;

  __host__ __device__ AdamwPart cut(uint64_t number) const {
    AdamwPart result = part;
    const uint64_t begin = number * cudaTensorPart, left = elements - begin;
    result.parameter += begin;
    result.gradient += begin;
    result.firstMoment += begin;
    result.secondMoment += begin;
    result.elements =
        static_cast<uint32_t>(left < cudaTensorPart ? left : cudaTensorPart);
    return result;
  }
  unsigned parts() const {
    return static_cast<unsigned>((elements + cudaTensorPart - 1) /
                                 cudaTensorPart);
  }
};

__global__ void updateTensor(Gate gate, Whole tensor, const double *adam) {
  if (!closed(gate))
    updatePart(tensor.cut(blockIdx.x), adam);
}

__global__ void updateTable(Gate gate, const AdamwPart *parts,
                            const double *adam) {
  if (!closed(gate))
    updatePart(parts[blockIdx.x], adam);
}

Whole wholeOf(const Call &call) {
  namespace op = kernels::adamw;
  AdamwPart part;
  part.parameter = call[op::parameter].as<float>();
  part.gradient = call[op::gradient].as<float>();
  part.firstMoment = call[op::first_moment].as<float>();
  part.secondMoment = call[op::second_moment].as<float>();
  part.rateFactor = call.real(op::rate_factor);
  part.decay = static_cast<int32_t>(call.integer(op::decay));
  return {part, call[op::parameter].elements()};
}

} // namespace

void appendParts(const Call &adamw, std::vector<AdamwPart> &parts) {
  const Whole tensor = wholeOf(adamw);
  for (unsigned i = 0; i < tensor.parts(); ++i)
    parts.push_back(tensor.cut(i));
}

Status adamw(const Call &call) {
  const Whole tensor = wholeOf(call);
  return launch(call, Grid{.x = tensor.parts(), .threads = blockThreads},
                updateTensor, tensor, call[kernels::adamw::adam].as<double>());
}

Status adamwTable(const Call &call, const AdamwPart *parts, size_t count,
                  const double *adam) {
  return launch(
      call, Grid{.x = static_cast<unsigned>(count), .threads = blockThreads},
      updateTable, parts, adam);
}

} // namespace peft::cuda
