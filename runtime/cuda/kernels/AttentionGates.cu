//===- AttentionGates.cu - what surrounds attention by a library ----------===//
#include "cuda/AttentionGates.h"

#include "AttentionEngines.h"
#include "cuda/Reduce.h"

namespace peft::cuda {

namespace {

/// One block. Its own gate is always open, as gates must be set to 0 while that
/// of the launch (`of`) is closed.
__global__ void chooseWay(Gate gate, Gate of, AttentionShape shape,
                          AttentionGates *gates) {
  if (closed(gate))
    return;
  const bool open = !closed(of);
  const uint32_t perRow = shape.rangesOfRow();
  const uint32_t entries = shape.batch * perRow;
  uint32_t other = entries; // the first range of more than one segment
  for (uint32_t i = threadIdx.x; open && i < entries && other == entries;
       i += blockDim.x) {
    const int32_t first = shape.segments[uint64_t(i / perRow) * shape.seq];
    const SegmentRange range = shape.ranges[i];
    if (range.least != first || range.most != first)
      other = i;
  }
  other = blockLeast(other, entries);
  if (threadIdx.x == 0)
    *gates = {open && other == entries, other < entries};
}

/// Swaps the two outer dimensions: to [inner, outer, seq].
__global__ void swapOuter(Gate gate, const float *from, float *to,
                          uint64_t outer, uint64_t inner, uint64_t seq) {
  if (closed(gate))
    return;
  const uint64_t i = uint64_t(blockIdx.x) * blockDim.x + threadIdx.x;
  if (i >= outer * inner * seq)
    return;
  const uint64_t at = i % seq, second = i / seq % inner,
                 first = i / seq / inner;
  to[(second * outer + first) * seq + at] = from[i];
}

Status swap(const Call &call, const float *from, float *to, uint64_t outer,
            uint64_t inner, uint64_t seq) {
  const uint64_t blocks =
      (outer * inner * seq + blockThreads - 1) / blockThreads;
  return launch(
      call, Grid{.x = static_cast<unsigned>(blocks), .threads = blockThreads},
      swapOuter, from, to, outer, inner, seq);
}

} // namespace

Status openAttentionGates(const Call &call, bool backward,
                          AttentionGates *gates) {
  const AttentionShape shape =
      backward ? backwardShape(call) : forwardShape(call);
  if (Status status = fillRanges(call, shape); !status.ok())
    return status;
  Call always = call;
  always.gate = {};
  return launch(always, Grid{.threads = blockThreads}, chooseWay, call.gate,
                shape, gates);
}

Status numbersByHead(const Call &call, const QueryNumberShape &shape,
                     const float *from, float *to) {
  return swap(call, from, to, shape.batch, shape.heads, shape.seq);
}

Status numbersByRow(const Call &call, const QueryNumberShape &shape,
                    const float *from, float *to) {
  return swap(call, from, to, shape.heads, shape.batch, shape.seq);
}

} // namespace peft::cuda
