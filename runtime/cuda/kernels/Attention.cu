//===- Attention.cu - what both directions of attention begin with --------===//
#include "AttentionEngines.h"

#include "cuda/Kernels.h"
#include "schema/CudaParts.h"

namespace peft::cuda {

namespace {

/// One warp per range of positions.
__global__ void segmentRanges(Gate gate, AttentionShape shape) {
  if (closed(gate))
    return;
  const uint64_t entry = uint64_t(blockIdx.x) * (blockDim.x / 32) +
                         threadIdx.x / 32;
  const uint32_t perRow = shape.rangesOfRow();
  if (entry >= uint64_t(shape.batch) * perRow)
    return;
  const uint64_t row = entry / perRow;
  const uint32_t begin = uint32_t(entry % perRow) * rangeSize;
  const uint32_t last = smaller(begin + rangeSize, shape.seq) - 1;
  const int32_t own = shape.segments[row * shape.seq +
                                     smaller(begin + threadIdx.x % 32, last)];
  SegmentRange range = {own, own};
  for (int step = 16; step > 0; step /= 2) {
    const int32_t least = __shfl_xor_sync(0xffffffffu, range.least, step);
    const int32_t most = __shfl_xor_sync(0xffffffffu, range.most, step);
    range.least = least < range.least ? least : range.least;
    range.most = most > range.most ? most : range.most;
  }
  if (threadIdx.x % 32 == 0)
    shape.ranges[entry] = range;
}

/// Whether a query sees no key but its own; all lanes of a warp ask together.
__device__ inline bool seesOneKey(const AttentionShape &shape, uint32_t row,
                                  uint32_t query) {
  const uint32_t first = keysOf(shape, {query, query + 1}).begin;
  if (!shape.segments)
    return first == query;
  const int32_t *segments = shape.segments + uint64_t(row) * shape.seq;
  const int32_t own = segments[query];
  // From near to far: the neighbour is mostly of the same segment.
  for (uint32_t end = query; end > first; end -= smaller(end - first, 32)) {
    const uint32_t lane = threadIdx.x % 32;
    const bool seen = lane < end - first && segments[end - 1 - lane] == own;
    if (__any_sync(0xffffffffu, seen))
      return false;
  }
  return true;
}

/// One warp per position and head.
template <typename T>
__global__ void queryNumbers(Gate gate, AttentionShape shape, const T *o,
                             const T *dO, const float *lse,
                             QueryNumbers *numbers) {
  if (closed(gate))
    return;
  const uint64_t entry = uint64_t(blockIdx.x) * (blockDim.x / 32) +
                         threadIdx.x / 32;
  const uint64_t position = entry / shape.heads; // of all batch rows
  if (position >= shape.rows())
    return;
  const uint32_t head = uint32_t(entry % shape.heads);
  const uint64_t at =
      position * shape.queryStride() + uint64_t(head) * shape.headDim;
  float delta = 0;
  for (uint32_t d = threadIdx.x % 32; d < shape.headDim; d += 32)
    delta = fmaf(toFloat(o[at + d]), toFloat(dO[at + d]), delta);
  for (int step = 16; step > 0; step /= 2)
    delta += __shfl_xor_sync(0xffffffffu, delta, step);
  // Infinity has a meaning of its own; one that came from outside is as good
  // as no number.
  if (delta == INFINITY)
    delta = NAN;
  if (seesOneKey(shape, uint32_t(position / shape.seq),
                 uint32_t(position % shape.seq)))
    delta = INFINITY;
  const uint64_t number = head * shape.rows() + position;
  if (threadIdx.x % 32 == 0)
    numbers[number] = {lse[number] * log2e, delta};
}

/// `op` is kernels::attention_fwd or _bwd by its enumerators.
struct AttentionAttributes {
  int seq, heads, kvHeads, headDim, window, scale, softcap;
};

AttentionShape readShape(const Call &call, uint64_t rows,
                         const Operand &segments, AttentionAttributes at) {
  auto number = [&](int attribute) {
    return static_cast<uint32_t>(call.integer(attribute));
  };
  AttentionShape shape;
  shape.seq = number(at.seq);
  shape.batch = static_cast<uint32_t>(rows / shape.seq);
  shape.heads = number(at.heads);
  shape.kvHeads = number(at.kvHeads);
  shape.headDim = number(at.headDim);
  const uint32_t window = number(at.window);
  shape.window = window && window < shape.seq ? window : shape.seq;
  shape.scale = static_cast<float>(call.real(at.scale));
  const float softcap = static_cast<float>(call.real(at.softcap));
  shape.capScale = softcap > 0 ? shape.scale / softcap : 0;
  // Zero times a masked score, minus infinity, would be NaN.
  const float scale2 = (softcap > 0 ? softcap : shape.scale) * log2e;
  shape.scale2 = scale2 > 1e-30f ? scale2 : 1e-30f;
  shape.segments = segments.as<int32_t>();
  shape.ranges = nullptr;
  return shape;
}

/// Rows of whole 16 byte chunks, and a size that the tensor kernels have.
bool fitsTensorCores(const AttentionShape &shape, DType type) {
  return type != DType::f32 && shape.headDim % 8 == 0 && shape.headDim <= 256;
}

} // namespace

Status fillRanges(const Call &call, const AttentionShape &shape) {
  if (!shape.segments)
    return {};
  const uint64_t entries = uint64_t(shape.batch) * shape.rangesOfRow();
  return launch(call, Grid{.x = static_cast<unsigned>((entries + 3) / 4)},
                segmentRanges, shape);
}

AttentionShape forwardShape(const Call &call) {
  namespace op = kernels::attention_fwd;
  AttentionShape shape = readShape(
      call, call[op::q].rows, call[op::segments],
      {op::seq, op::heads, op::kv_heads, op::head_dim, op::window, op::scale,
       op::softcap});
  shape.ranges = reinterpret_cast<SegmentRange *>(call.workspace);
  return shape;
}

AttentionShape backwardShape(const Call &call) {
  namespace op = kernels::attention_bwd;
  AttentionShape shape = readShape(
      call, call[op::q].rows, call[op::segments],
      {op::seq, op::heads, op::kv_heads, op::head_dim, op::window, op::scale,
       op::softcap});
  shape.ranges = reinterpret_cast<SegmentRange *>(
      call.workspace +
      cudaAreaBytes(shape.rows() * shape.heads * sizeof(QueryNumbers)));
  return shape;
}

Status attention_fwd(const Call &call) {
  namespace op = kernels::attention_fwd;
  const AttentionShape shape = forwardShape(call);
  const ForwardOperands operands = {call[op::q], call[op::k], call[op::v],
                                    call[op::o], call[op::lse]};
  if (Status status = fillRanges(call, shape); !status.ok())
    return status;
  return fitsTensorCores(shape, call[op::q].type)
             ? tensorForward(call, shape, operands)
             : plainForward(call, shape, operands);
}

Status attention_bwd(const Call &call) {
  namespace op = kernels::attention_bwd;
  const AttentionShape shape = backwardShape(call);
  const uint64_t entries = shape.rows() * shape.heads;
  QueryNumbers *numbers = reinterpret_cast<QueryNumbers *>(call.workspace);
  const BackwardOperands operands = {call[op::q],  call[op::k],  call[op::v],
                                     call[op::d_o], call[op::dq], call[op::dk],
                                     call[op::dv], numbers};
  if (Status status = fillRanges(call, shape); !status.ok())
    return status;
  Status status = withFloat(call[op::q].type, [&](auto element) {
    using T = decltype(element);
    return launch(call, Grid{.x = static_cast<unsigned>((entries + 3) / 4)},
                  queryNumbers<T>, shape, call[op::o].as<T>(),
                  call[op::d_o].as<T>(), call[op::lse].as<float>(), numbers);
  });
  if (!status.ok())
    return status;
  return fitsTensorCores(shape, call[op::q].type)
             ? tensorBackward(call, shape, operands)
             : plainBackward(call, shape, operands);
}

} // namespace peft::cuda
