//===- Adamw.cu - AdamW, of one tensor or of many -------------------------===//
#include "cuda/AdamParts.h"
#include "cuda/Kernels.h"
#include "cuda/MultiTensor.h"
#include "cuda/Numbers.h"

namespace peft::cuda {

namespace {

/// Of an f32: 16 bytes, as four tensors are read and three written.
constexpr unsigned adamwWidth = 4;

/// Elements [i, i + n), in the order of torch's single-tensor step.
template <unsigned n>
__device__ void update(const AdamwPart &part, const AdamScalars &s,
                       uint32_t i) {
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
  const AdamScalars s = adamScalars(adam, part.rateFactor, part.decay != 0);
  const uint32_t whole = part.elements / adamwWidth * adamwWidth;
  for (uint32_t i = threadIdx.x * adamwWidth; i < whole;
       i += blockDim.x * adamwWidth)
    update<adamwWidth>(part, s, i);
  if (whole + threadIdx.x < part.elements)
    update<1>(part, s, whole + threadIdx.x);
}

__global__ void updateTensor(Gate gate, WholeTensor<AdamwPart> tensor,
                             const double *adam) {
  if (!closed(gate))
    updatePart(tensor.cut(blockIdx.x), adam);
}

__global__ void updateTable(Gate gate, const AdamwPart *parts,
                            const double *adam) {
  if (!closed(gate))
    updatePart(parts[blockIdx.x], adam);
}

WholeTensor<AdamwPart> wholeOf(const Call &call) {
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
  const WholeTensor<AdamwPart> tensor = wholeOf(adamw);
  for (unsigned i = 0; i < tensor.parts(); ++i)
    parts.push_back(tensor.cut(i));
}

Status adamw(const Call &call) {
  const WholeTensor<AdamwPart> tensor = wholeOf(call);
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
