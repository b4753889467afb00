//===- Adamw8bit.cu - AdamW with moments in 8 bits ------------------------===//
//
// A block of threads has one block of elements, whose magnitudes it shares.
//
//===----------------------------------------------------------------------===//
#include "cuda/Kernels.h"
#include "cuda/Reduce.h"
#include "peft/DynamicMap.h"

namespace peft::cuda {

namespace {

constexpr unsigned blockThreads = momentBlock;

/// The maps travel as arguments: device code knows no host tables.
struct Map {
  float values[256];
};

Map mapOf(const DynamicMap &map) {
  Map result;
  std::copy(map.begin(), map.end(), result.values);
  return result;
}

struct Moment {
  uint8_t *codes;
  float *scales;
};

struct State {
  float *parameter;
  const float *gradient;
  Moment first, second;
  const double *adam;
  double rateFactor;
  bool decays;
  uint64_t elements;
};

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

/// The whole block calls, with one value a thread.
__device__ void encode(const Moment &moment, const float *map, uint64_t i,
                       uint64_t elements, float value) {
  const float magnitude = value < 0.0f ? -value : value;
  const float most = blockReduce(magnitude, 0.0f, Greater());
  if (threadIdx.x == 0)
    moment.scales[blockIdx.x] = most > 0.0f ? most : 0.0f;
  if (i < elements)
    moment.codes[i] =
        most > 0.0f ? codeOf(map, value * (1.0f / most)) : uint8_t(0);
}

__global__ void updateCoded(Gate gate, State at, Map firstMap, Map secondMap) {
  if (closed(gate))
    return;
  __shared__ float firstValues[256], secondValues[256];
  __shared__ float scalars[8];
  firstValues[threadIdx.x] = firstMap.values[threadIdx.x];
  secondValues[threadIdx.x] = secondMap.values[threadIdx.x];
  // f64 is slow on most cards: once per block.
  if (threadIdx.x == 0) {
    const double rate = at.adam[1] * at.rateFactor;
    scalars[0] = static_cast<float>(at.adam[0]);
    scalars[1] = static_cast<float>(at.decays ? 1 - rate * at.adam[5] : 1.0);
    scalars[2] = static_cast<float>(at.adam[2]);
    scalars[3] = static_cast<float>(1 - at.adam[2]);
    scalars[4] = static_cast<float>(at.adam[3]);
    scalars[5] = static_cast<float>(1 - at.adam[3]);
    scalars[6] = static_cast<float>(sqrt(at.adam[7]));
    scalars[7] = static_cast<float>(-rate / at.adam[6]);
  }
  __syncthreads();
  const uint64_t i = uint64_t(blockIdx.x) * blockThreads + threadIdx.x;
  float m = 0, v = 0;
  if (i < at.elements) {
    const float g = at.gradient[i] * scalars[0];
    m = firstValues[at.first.codes[i]] * at.first.scales[blockIdx.x];
    v = secondValues[at.second.codes[i]] * at.second.scales[blockIdx.x];
    m = fmaf(scalars[3], g, m * scalars[2]);
    v = fmaf(scalars[5] * g, g, v * scalars[4]);
    const float denominator =
        sqrtf(v) / scalars[6] + static_cast<float>(at.adam[4]);
    at.parameter[i] =
        at.parameter[i] * scalars[1] + scalars[7] * m / denominator;
  }
  // All have read the magnitudes before the first one is replaced.
  __syncthreads();
  encode(at.first, firstValues, i, at.elements, m);
  encode(at.second, secondValues, i, at.elements, v);
}

} // namespace

Status adamw8bit(const Call &call) {
  namespace op = kernels::adamw8bit;
  const State state{
      call[op::parameter].as<float>(),
      call[op::gradient].as<float>(),
      {call[op::first_moment].as<uint8_t>(), call[op::first_scale].as<float>()},
      {call[op::second_moment].as<uint8_t>(),
       call[op::second_scale].as<float>()},
      call[op::adam].as<double>(),
      call.real(op::rate_factor),
      call.integer(op::decay) != 0,
      call[op::parameter].elements()};
  const Grid grid{.x = static_cast<unsigned>(call[op::first_scale].elements()),
                  .threads = blockThreads};
  return launch(call, grid, updateCoded, state, mapOf(firstMomentMap),
                mapOf(secondMomentMap));
}

} // namespace peft::cuda
