//===- EmbedGradient.cu - the gradient of an embedding table --------------===//
//
// dtable[id] += scale dy[i] for all rows i of that id, ascending, without
// atomics: the block of row i works iff i is the first row of its id, and then
// adds all of them. Block 0 checks the ids.
//
//===----------------------------------------------------------------------===//
#include "cuda/Kernels.h"
#include "cuda/RowIndex.h"

namespace peft::cuda {

namespace {

constexpr unsigned blockWarps = blockThreads / 32;
constexpr unsigned threadColumns = 4,
                   embedColumns = blockThreads * threadColumns;

/// Bit by bit, which of the block's rows [begin, begin + blockThreads) have the
/// id. All threads get all words.
__device__ void findRows(const int32_t *ids, uint64_t begin, uint64_t rows,
                         int32_t id, unsigned (&words)[blockWarps]) {
  __shared__ unsigned found[blockWarps];
  const uint64_t row = begin + threadIdx.x;
  const unsigned votes = __ballot_sync(fullWarp, row < rows && ids[row] == id);
  // The words of the rows before may still be read.
  __syncthreads();
  if (threadIdx.x % 32 == 0)
    found[threadIdx.x / 32] = votes;
  __syncthreads();
  for (unsigned i = 0; i < blockWarps; ++i)
    words[i] = found[i];
}

/// Block (1 + row, tile of columns).
__global__ void addRows(Gate gate, RowIndex ids, int64_t padding,
                        const float *dy, uint64_t columns, float scale,
                        float *dtable) {
  if (closed(gate))
    return;
  if (blockIdx.x == 0) {
    if (blockIdx.y == 0)
      ids.check();
    return;
  }
  const uint64_t own = blockIdx.x - 1;
  const int64_t id = ids.at(own, ids.rows);
  if (id < 0 || id == padding)
    return;
  const uint64_t first = uint64_t(blockIdx.y) * embedColumns + threadIdx.x;
  float sums[threadColumns] = {};
  for (unsigned j = 0; j < threadColumns; ++j)
    if (first + j * blockThreads < columns)
      sums[j] = dtable[uint64_t(id) * columns + first + j * blockThreads];
  for (uint64_t begin = 0; begin < ids.rows; begin += blockThreads) {
    unsigned words[blockWarps];
    findRows(ids.values, begin, ids.rows, static_cast<int32_t>(id), words);
    for (unsigned word = 0; word < blockWarps; ++word)
      for (unsigned bits = words[word]; bits; bits &= bits - 1) {
        const uint64_t row = begin + word * 32 + __ffs(bits) - 1;
        // An earlier row has the id: its block does this one's work.
        if (row < own)
          return;
        for (unsigned j = 0; j < threadColumns; ++j)
          if (first + j * blockThreads < columns)
            sums[j] = fmaf(dy[row * columns + first + j * blockThreads], scale,
                           sums[j]);
      }
  }
  for (unsigned j = 0; j < threadColumns; ++j)
    if (first + j * blockThreads < columns)
      dtable[uint64_t(id) * columns + first + j * blockThreads] = sums[j];
}

} // namespace

Status embed_dw(const Call &call) {
  namespace op = kernels::embed_dw;
  const uint64_t rows = call[op::ids].elements(),
                 columns = call[op::dtable].columns;
  const RowIndex ids{call[op::ids].as<int32_t>(),
                     rows,
                     0,
                     call[op::dtable].rows,
                     rows,
                     nullptr,
                     FaultKind::id,
                     call.fault};
  const Grid grid{
      .x = static_cast<unsigned>(rows + 1),
      .y = static_cast<unsigned>((columns + embedColumns - 1) / embedColumns),
      .threads = blockThreads};
  return launch(call, grid, addRows, ids, call.integer(op::padding_idx),
                call[op::dy].as<float>(), columns,
                static_cast<float>(call.real(op::scale)),
                call[op::dtable].as<float>());
}

} // namespace peft::cuda
