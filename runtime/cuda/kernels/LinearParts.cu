//===- LinearParts.cu - what surrounds the products of a library ----------===//
#include "cuda/LinearParts.h"

#include "cuda/Kernels.h"
#include "cuda/Numbers.h"

namespace peft::cuda {

namespace {

constexpr unsigned blockThreads = 256;

Grid gridFor(uint64_t elements) {
  return {.x = static_cast<unsigned>((elements + blockThreads - 1) /
                                     blockThreads),
          .threads = blockThreads};
}

template <typename Word>
__global__ void countedRows(Gate gate, const Word *from, Word *to,
                            uint64_t words, uint64_t wordsPerRow,
                            const int32_t *count, int64_t rowStart) {
  if (closed(gate))
    return;
  const uint64_t i = uint64_t(blockIdx.x) * blockDim.x + threadIdx.x;
  if (i >= words)
    return;
  const bool counts =
      static_cast<int64_t>(i / wordsPerRow) + rowStart < *count;
  to[i] = counts ? from[i] : Word{};
}

template <typename Word>
Status launchCountedRows(const Call &call, const Operand &from,
                         const Operand &to, const Operand &count,
                         int64_t rowStart) {
  const uint64_t perRow = from.columns * byteSize(from.type) / sizeof(Word);
  const uint64_t words = from.rows * perRow;
  return launch(call, gridFor(words), countedRows<Word>,
                from.as<const Word>(), to.as<Word>(), words, perRow,
                count.as<const int32_t>(), rowStart);
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
  float value = init ? init[i] : 0.0f;
  if (bias)
    value += roundedTo(compute, toFloat(bias[i % columns]));
  to[i] = fromFloat<Out>(value);
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
  return withFloat(bias ? bias.type : DType::f32, [&](auto biasElement) {
    return withFloat(to.type, [&](auto outElement) {
      using Bias = decltype(biasElement);
      using Out = decltype(outElement);
      return launch(call, gridFor(to.elements()), start<Bias, Out>,
                    init.as<const float>(), bias.as<const Bias>(), compute,
                    to.as<Out>(), to.elements(), to.columns);
    });
  });
}

} // namespace peft::cuda
