//===- CompactRows.cu - which tokens are trained --------------------------===//
//
// One block: the tokens' places are an ordered prefix sum, a tile at a time.
//
//===----------------------------------------------------------------------===//
#include "cuda/Kernels.h"
#include "cuda/RowIndex.h"

namespace peft::cuda {

namespace {

constexpr unsigned compactThreads = 1024, compactWarps = compactThreads / 32;
constexpr int32_t ignored = -100;

struct Tokens {
  const int32_t *labels, *segments; ///< no segments: one per row
  uint64_t rows, seq;
  int64_t vocab;

  __device__ bool wrong(uint64_t i) const {
    return labels[i] != ignored && (labels[i] < 0 || labels[i] >= vocab);
  }
  /// Rows are whole sequences, so that the last token ends one.
  __device__ bool trained(uint64_t i) const {
    return (i + 1) % seq != 0 && labels[i + 1] != ignored &&
           !(segments && segments[i] != segments[i + 1]);
  }
};

/// How many earlier threads of the block say yes; `total` is how many do in
/// all.
__device__ unsigned placeInBlock(bool yes, unsigned &total) {
  __shared__ unsigned counts[compactWarps];
  const unsigned lane = threadIdx.x % 32, warp = threadIdx.x / 32;
  const unsigned votes = __ballot_sync(fullWarp, yes);
  // The counts of the tile before may still be read.
  __syncthreads();
  if (lane == 0)
    counts[warp] = __popc(votes);
  __syncthreads();
  unsigned before = counts[lane];
  for (unsigned distance = 1; distance < 32; distance *= 2) {
    const unsigned left = __shfl_up_sync(fullWarp, before, distance);
    if (lane >= distance)
      before += left;
  }
  total = __shfl_sync(fullWarp, before, 31);
  before = __shfl_sync(fullWarp, before - counts[lane], warp);
  return before + __popc(votes & ((1u << lane) - 1));
}

__global__ void compact(Gate gate, Tokens tokens, int32_t *index,
                        int32_t *target, int32_t *count, FaultSlot *fault) {
  if (closed(gate))
    return;
  uint64_t taken = 0, wrong = tokens.rows;
  for (uint64_t begin = 0; begin < tokens.rows; begin += compactThreads) {
    const uint64_t i = begin + threadIdx.x;
    const bool inside = i < tokens.rows;
    if (inside && wrong == tokens.rows && tokens.wrong(i))
      wrong = i;
    const bool trained = inside && tokens.trained(i);
    unsigned total = 0;
    const uint64_t place = taken + placeInBlock(trained, total);
    if (trained) {
      index[place] = static_cast<int32_t>(i);
      target[place] = tokens.labels[i + 1];
    }
    taken += total;
  }
  // The rest is never read as a row, but two runs write the same bytes.
  for (uint64_t i = taken + threadIdx.x; i < tokens.rows; i += compactThreads)
    index[i] = target[i] = 0;
  wrong = blockLeast(wrong, tokens.rows);
  if (threadIdx.x != 0)
    return;
  *count = static_cast<int32_t>(taken);
  if (wrong < tokens.rows)
    report(fault, FaultKind::label, tokens.labels[wrong], tokens.vocab);
}

} // namespace

Status compact_rows(const Call &call) {
  namespace op = kernels::compact_rows;
  const Tokens tokens{
      call[op::labels].as<int32_t>(), call[op::segments].as<int32_t>(),
      call[op::labels].elements(), static_cast<uint64_t>(call.integer(op::seq)),
      call.integer(op::vocab)};
  return launch(call, Grid{.threads = compactThreads}, compact, tokens,
                call[op::index].as<int32_t>(), call[op::target].as<int32_t>(),
                call[op::count].as<int32_t>(), call.fault);
}

} // namespace peft::cuda
