//===- LinearParts.cu - what surrounds the products of a library ----------===//
#include "cuda/LinearParts.h"

#include "cuda/Kernels.h"
#include "cuda/Numbers.h"

namespace peft::cuda {

namespace {

template <typename Word>
__global__ void countedRows(Gate gate, const Word *from, Word *to,
                            uint64_t words, uint64_t wordsPerRow,
                            const int32_t *count, int64_t rowStart) {
  if (closed(gate))
    return;
  const uint64_t i = uint64_t(blockIdx.x) * blockDim.x + threadIdx.x;
  if (i >= words)
    return;
  const bool counts = static_cast<int64_t>(i / wordsPerRow) + rowStart < *count;
  to[i] = counts ? from[i] : Word{};
}

template <typename Word>
Status launchCountedRows(const Call &call, const Operand &from,
                         const Operand &to, const Operand &count,
                         int64_t rowStart) {
  const uint64_t perRow = from.columns * byteSize(from.type) / sizeof(Word);
  const uint64_t words = from.rows * perRow;
  return launch(call, gridFor(words), countedRows<Word>, from.as<const Word>(),
                to.as<Word>(), words, perRow, count.as<const int32_t>(),
                rowStart);
}

__device__ inline float roundedTo(DType type, float value) {
  if (type == DType::bf16)
    return toFloat(fromFloat<BF16>(value));
  return type == DType::f16 ? toFloat(fromFloat<F16>(value)) : value;
}

template <typename Bias, typename Out>
__global__ void start(Gate gate, const float *init, const Bias *bias,
                      DType compute, Out *to, uint64_t elements,
                      uint64_t columns) {
  if (closed(gate))
    return;
  const uint64_t i = uint64_t(blockIdx.x) * blockDim.x + threadIdx.x;
  if (i >= elements)
    return;
  const float value = init ? init[i] : 0.0f;
  to[i] = fromFloat<Out>(
      value + roundedTo(compute, toFloat(bias[i % columns])));
}

/// The adapters of a lora_down_group_fwd, in the order of their ranks.
struct DownGroup {
  static constexpr unsigned most = 3;
  FloatsIn weights[most];
  FloatsOut outputs[most];
  float scales[most];
  uint64_t ends[most]; ///< ranks of an adapter and those before it

  __device__ unsigned memberOf(uint64_t rank) const {
    return (rank >= ends[0] ? 1 : 0) + (rank >= ends[1] ? 1 : 0);
  }
  __device__ uint64_t begin(unsigned member) const {
    return member == 0 ? 0 : ends[member - 1];
  }
};

DownGroup downGroup(const Call &call) {
  using namespace kernels::lora_down_group_fwd;
  constexpr int weights[] = {a0, a1, a2}, outputs[] = {t0, t1, t2};
  constexpr int scales[] = {scale0, scale1, scale2};
  DownGroup group;
  uint64_t ranks = 0;
  for (unsigned i = 0; i < DownGroup::most; ++i) {
    ranks += call[weights[i]].rows;
    group.weights[i] = FloatsIn(call[weights[i]]);
    group.outputs[i] = FloatsOut(call[outputs[i]]);
    group.scales[i] = static_cast<float>(call.real(scales[i]));
    group.ends[i] = ranks;
  }
  return group;
}

/// A thread rounds `width` elements, all of one adapter.
template <unsigned width>
__global__ void stackDown(Gate gate, DownGroup group, FloatsOut to,
                          uint64_t elements, uint64_t columns) {
  if (closed(gate))
    return;
  const uint64_t i = (uint64_t(blockIdx.x) * blockDim.x + threadIdx.x) * width;
  if (i >= elements)
    return;
  const unsigned member = group.memberOf(i / columns);
  float values[width];
  group.weights[member].load(i - group.begin(member) * columns, values);
  to.store(i, values);
}

__global__ void splitDown(Gate gate, const float *sums, DownGroup group,
                          uint64_t elements) {
  if (closed(gate))
    return;
  const uint64_t i = uint64_t(blockIdx.x) * blockDim.x + threadIdx.x;
  if (i >= elements)
    return;
  const uint64_t ranks = group.ends[DownGroup::most - 1];
  const uint64_t row = i / ranks, rank = i % ranks;
  const unsigned member = group.memberOf(rank);
  const uint64_t begin = group.begin(member);
  group.outputs[member].set(row * (group.ends[member] - begin) + rank - begin,
                            group.scales[member] * sums[i]);
}

} // namespace

Status convertElements(const Call &call, const Operand &from,
                       const Operand &to) {
  const Operand operands[] = {from, to};
  Call conversion = call;
  conversion.operands = operands;
  conversion.attributes = {};
  return cast(conversion);
}

Status copyCountedRows(const Call &call, const Operand &from, const Operand &to,
                       const Operand &count, int64_t rowStart) {
  using Wide = Pack<uint32_t, 4>;
  if (from.columns * byteSize(from.type) % sizeof(Wide) == 0)
    return launchCountedRows<Wide>(call, from, to, count, rowStart);
  return launchCountedRows<uint16_t>(call, from, to, count, rowStart);
}

Status writeStart(const Call &call, const Operand &init, const Operand &bias,
                  DType compute, const Operand &to) {
  return withFloat(bias.type, [&](auto biasElement) {
    return withFloat(to.type, [&](auto outElement) {
      using Bias = decltype(biasElement);
      using Out = decltype(outElement);
      return launch(call, gridFor(to.elements()), start<Bias, Out>,
                    init.as<const float>(), bias.as<const Bias>(), compute,
                    to.as<Out>(), to.elements(), to.columns);
    });
  });
}

Status stackDownWeights(const Call &call, const Operand &to) {
  const uint64_t elements = to.elements();
  if (to.columns % packSize == 0)
    return launch(call, gridFor(elements / packSize), stackDown<packSize>,
                  downGroup(call), FloatsOut(to), elements, to.columns);
  return launch(call, gridFor(elements), stackDown<1>, downGroup(call),
                FloatsOut(to), elements, to.columns);
}

Status splitDownSums(const Call &call, const Operand &from) {
  return launch(call, gridFor(from.elements()), splitDown,
                from.as<const float>(), downGroup(call), from.elements());
}

} // namespace peft::cuda
