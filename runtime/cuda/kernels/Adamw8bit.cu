//===- Adamw8bit.cu - AdamW with moments in 8 bits ------------------------===//
//
// A block of threads goes over the blocks of elements of a part.
//
//===----------------------------------------------------------------------===//
#include "cuda/AdamParts.h"
#include "cuda/Kernels.h"
#include "cuda/MultiTensor.h"
#include "cuda/Reduce.h"
#include "peft/DynamicMap.h"

namespace peft::cuda {

namespace {

/// The maps travel as arguments: device code knows no host tables.
struct Map {
  float values[256];
};

Map mapOf(const DynamicMap &map) {
  Map result;
  std::copy(map.begin(), map.end(), result.values);
  return result;
}

/// The code nearest to the point that stands for `quotient`.
__device__ uint8_t codeOf(const float *map, float quotient) {
  const uint32_t point =
      static_cast<uint32_t>((quotient + 1.0f) * 32767.5f + 0.5f);
  const float place = static_cast<float>(point) * (2.0f / 65535.0f) - 1.0f;
  unsigned code = 0; // the last one that is not above, or the first
  for (unsigned step = 128; step; step /= 2)
    if (map[code + step] <= place)
      code += step;
  if (code < 255 && map[code + 1] - place < place - map[code])
    ++code;
  return static_cast<uint8_t>(code);
}

struct Greater {
  __device__ float operator()(float a, float b) const { return a > b ? a : b; }
};

/// The whole block calls, with the value of element i. Block `block` of a
/// moment becomes codes.
__device__ void encode(const CodedMoment &moment, const float *map,
                       uint32_t block, uint32_t i, uint32_t elements,
                       float value) {
  const float magnitude = value < 0.0f ? -value : value;
  // Its barriers: all have read the block's old magnitude.
  const float most = blockReduce(magnitude, 0.0f, Greater());
  if (threadIdx.x == 0)
    moment.scales[block] = most > 0.0f ? most : 0.0f;
  if (i < elements)
    moment.codes[i] =
        most > 0.0f ? codeOf(map, value * (1.0f / most)) : uint8_t(0);
}

/// The whole block calls, with one element a thread.
__device__ void updateBlock(const CodedAdamwPart &at, const AdamScalars &s,
                            const float *firstMap, const float *secondMap,
                            uint32_t block) {
  const uint32_t i = block * uint32_t(momentBlock) + threadIdx.x;
  float m = 0, v = 0;
  if (i < at.elements) {
    const float g = at.gradient[i] * s.scale;
    m = firstMap[at.first.codes[i]] * at.first.scales[block];
    v = secondMap[at.second.codes[i]] * at.second.scales[block];
    m = fmaf(s.newFirst, g, m * s.oldFirst);
    v = fmaf(s.newSecond * g, g, v * s.oldSecond);
    const float denominator = sqrtf(v) / s.correction + s.epsilon;
    at.parameter[i] =
        at.parameter[i] * s.shrink + s.minusStep * m / denominator;
  }
  encode(at.first, firstMap, block, i, at.elements, m);
  encode(at.second, secondMap, block, i, at.elements, v);
}

/// The whole block calls.
__device__ void updatePart(const CodedAdamwPart &part, const double *adam,
                           const Map &firstMap, const Map &secondMap) {
  __shared__ float firstValues[256], secondValues[256];
  firstValues[threadIdx.x] = firstMap.values[threadIdx.x];
  secondValues[threadIdx.x] = secondMap.values[threadIdx.x];
  // Its barrier is that of the maps, too.
  const AdamScalars s = adamScalars(adam, part.rateFactor, part.decay != 0);
  for (uint32_t block = 0; block * momentBlock < part.elements; ++block)
    updateBlock(part, s, firstValues, secondValues, block);
}

__global__ void updateCodedTensor(Gate gate, WholeTensor<CodedAdamwPart> tensor,
                                  const double *adam, Map firstMap,
                                  Map secondMap) {
  if (!closed(gate))
    updatePart(tensor.cut(blockIdx.x), adam, firstMap, secondMap);
}

__global__ void updateCodedTable(Gate gate, const CodedAdamwPart *parts,
                                 const double *adam, Map firstMap,
                                 Map secondMap) {
  if (!closed(gate))
    updatePart(parts[blockIdx.x], adam, firstMap, secondMap);
}

WholeTensor<CodedAdamwPart> codedTensor(const Call &call) {
  namespace op = kernels::adamw8bit;
  CodedAdamwPart part;
  part.parameter = call[op::parameter].as<float>();
  part.gradient = call[op::gradient].as<float>();
  part.first = {call[op::first_moment].as<uint8_t>(),
                call[op::first_scale].as<float>()};
  part.second = {call[op::second_moment].as<uint8_t>(),
                 call[op::second_scale].as<float>()};
  part.rateFactor = call.real(op::rate_factor);
  part.decay = static_cast<int32_t>(call.integer(op::decay));
  return {part, call[op::parameter].elements()};
}

} // namespace

static_assert(cudaTensorPart % momentBlock == 0, "a part is whole blocks");

void appendParts(const Call &adamw8bit, std::vector<CodedAdamwPart> &parts) {
  const WholeTensor<CodedAdamwPart> tensor = codedTensor(adamw8bit);
  for (unsigned i = 0; i < tensor.parts(); ++i)
    parts.push_back(tensor.cut(i));
}

Status adamw8bit(const Call &call) {
  const WholeTensor<CodedAdamwPart> tensor = codedTensor(call);
  return launch(call, Grid{.x = tensor.parts(), .threads = momentBlock},
                updateCodedTensor, tensor,
                call[kernels::adamw8bit::adam].as<double>(),
                mapOf(firstMomentMap), mapOf(secondMomentMap));
}

Status adamw8bitTable(const Call &call, const CodedAdamwPart *parts,
                      size_t count, const double *adam) {
  return launch(call,
                Grid{.x = static_cast<unsigned>(count), .threads = momentBlock},
                updateCodedTable, parts, adam, mapOf(firstMomentMap),
                mapOf(secondMomentMap));
}

} // namespace peft::cuda
