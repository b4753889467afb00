//===- NormSquare.cu - squares of a gradient, zeros for the next one ------===//
//
// A block sums one part of a tensor in f64; one block then adds the parts.
//
//===----------------------------------------------------------------------===//
#include "cuda/Kernels.h"
#include "cuda/MultiTensor.h"
#include "cuda/Numbers.h"
#include "cuda/Reduce.h"
#include "schema/CudaParts.h"

#include <algorithm>

namespace peft::cuda {

namespace {

constexpr unsigned squaresWidth = 4;

/// The whole block calls; all threads get the sum.
__device__ double squaresOf(const float *x, uint64_t elements) {
  double sum = 0;
  const uint64_t whole = elements / squaresWidth * squaresWidth;
  for (uint64_t i = threadIdx.x * squaresWidth; i < whole;
       i += blockDim.x * squaresWidth) {
    const Pack<float, squaresWidth> values = packAt<squaresWidth>(x + i);
    for (unsigned j = 0; j < squaresWidth; ++j)
      sum = fma(double(values.value[j]), double(values.value[j]), sum);
  }
  if (whole + threadIdx.x < elements) {
    const double value = x[whole + threadIdx.x];
    sum = fma(value, value, sum);
  }
  return blockSum(sum);
}

__global__ void squareTensor(Gate gate, const float *x, uint64_t elements,
                             double *parts) {
  if (closed(gate))
    return;
  const uint64_t begin = uint64_t(blockIdx.x) * cudaTensorPart;
  const uint64_t left = elements - begin;
  const double sum =
      squaresOf(x + begin, left < cudaTensorPart ? left : cudaTensorPart);
  if (threadIdx.x == 0)
    parts[blockIdx.x] = sum;
}

__global__ void squareTable(Gate gate, const NormPart *table, double *parts) {
  if (closed(gate))
    return;
  const NormPart part = table[blockIdx.x];
  const double sum = squaresOf(part.x, part.elements);
  if (threadIdx.x == 0)
    parts[blockIdx.x] = sum;
}

__global__ void addSquares(Gate gate, const double *parts, uint64_t count,
                           double *sum) {
  if (closed(gate))
    return;
  double total = 0;
  for (uint64_t i = threadIdx.x; i < count; i += blockDim.x)
    total += parts[i];
  total = blockSum(total);
  if (threadIdx.x == 0)
    *sum += total;
}

Status addParts(const Call &call, uint64_t count, double *sum) {
  return launch(call, Grid{.threads = blockThreads}, addSquares,
                reinterpret_cast<const double *>(call.workspace), count, sum);
}

/// What a block clears.
constexpr uint64_t zeroBytes = cudaTensorPart * 4;

__global__ void clearTable(Gate gate, const ZeroPart *table) {
  if (closed(gate))
    return;
  const ZeroPart part = table[blockIdx.x];
  using Line = Pack<uint32_t, 4>;
  const uint64_t lines = part.bytes / sizeof(Line);
  for (uint64_t i = threadIdx.x; i < lines; i += blockDim.x)
    reinterpret_cast<Line *>(part.y)[i] = {};
  const uint64_t rest = lines * sizeof(Line) + threadIdx.x * 2;
  if (rest < part.bytes)
    *reinterpret_cast<uint16_t *>(part.y + rest) = 0;
}

} // namespace

void appendParts(const Call &normSquare, std::vector<NormPart> &parts) {
  const Operand &x = normSquare[kernels::norm_square::x];
  for (uint64_t i = 0; i < x.elements(); i += cudaTensorPart)
    parts.push_back({x.as<float>() + i,
                     std::min<uint64_t>(x.elements() - i, cudaTensorPart)});
}

Status norm_square(const Call &call) {
  namespace op = kernels::norm_square;
  const uint64_t elements = call[op::x].elements(),
                 parts = (elements + cudaTensorPart - 1) / cudaTensorPart;
  PEFT_TRY(launch(
      call, Grid{.x = static_cast<unsigned>(parts), .threads = blockThreads},
      squareTensor, call[op::x].as<float>(), elements,
      reinterpret_cast<double *>(call.workspace)));
  return addParts(call, parts, call[op::sum].as<double>());
}

Status normSquareTable(const Call &call, const NormPart *parts, size_t count,
                       double *sum) {
  if (call.workspaceBytes < count * sizeof(double))
    return internalError("a merged norm of " + std::to_string(count) +
                         " parts has " + std::to_string(call.workspaceBytes) +
                         " bytes of workspace; it needs 8 bytes a part");
  PEFT_TRY(launch(
      call, Grid{.x = static_cast<unsigned>(count), .threads = blockThreads},
      squareTable, parts, reinterpret_cast<double *>(call.workspace)));
  return addParts(call, count, sum);
}

void appendParts(const Call &fillZero, std::vector<ZeroPart> &parts) {
  const Operand &y = fillZero[kernels::fill_zero::y];
  const uint64_t bytes = y.elements() * byteSize(y.type);
  for (uint64_t i = 0; i < bytes; i += zeroBytes)
    parts.push_back({y.data + i, std::min<uint64_t>(bytes - i, zeroBytes)});
}

Status fillZeroTable(const Call &call, const ZeroPart *parts, size_t count) {
  return launch(
      call, Grid{.x = static_cast<unsigned>(count), .threads = blockThreads},
      clearTable, parts);
}

} // namespace peft::cuda
