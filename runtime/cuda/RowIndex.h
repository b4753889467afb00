//===- RowIndex.h - rows that a count limits, rows that data names --------===//
//
// Whatever stands in ids, labels, targets, index or count, nothing outside an
// operand is touched. A kernel of many blocks gives its first block to the
// check: it alone writes the fault, the first of the wrong values in row order,
// as the CPU device reports it; the other blocks pass over wrong rows.
//
//===----------------------------------------------------------------------===//
#ifndef PEFT_CUDA_ROWINDEX_H
#define PEFT_CUDA_ROWINDEX_H

#include "cuda/Grid.h"
#include "cuda/Reduce.h"

namespace peft::cuda {

/// Which rows of a launch count.
struct RowLimit {
  const int32_t *count = nullptr; ///< null: all
  int64_t rowStart = 0;
  uint64_t rows = 0;
};

/// Rows [0, rows) of a launch that its optional `count` and its row_start
/// leave.
__device__ inline uint64_t activeRows(const int32_t *count, int64_t rowStart,
                                      uint64_t rows) {
  if (!count)
    return rows;
  const int64_t left = int64_t(*count) - rowStart;
  if (left <= 0)
    return 0;
  return uint64_t(left) < rows ? uint64_t(left) : rows;
}

/// Called by one thread of a launch. The first fault of a run stays.
__device__ inline void report(FaultSlot *slot, FaultKind kind, int64_t found,
                              int64_t limit) {
  if (!slot || slot->kind != 0)
    return;
  slot->found = found;
  slot->limit = limit;
  slot->kind = static_cast<int32_t>(kind);
}

/// The values that name a row (or a column, or an id) for each of the rows of a
/// launch, with what may be in them.
struct RowIndex {
  const int32_t *values = nullptr; ///< `size` of them
  uint64_t size = 0;
  int64_t rowStart = 0; ///< row i of the launch has values[rowStart + i]
  uint64_t limit = 0;   ///< values are in [0, limit)
  uint64_t rows = 0;    ///< of the launch
  const int32_t *count = nullptr;
  FaultKind kind = FaultKind::row;
  FaultSlot *fault = nullptr;

  /// Rows that a count leaves, whether or not they have a value.
  __device__ uint64_t wanted() const {
    return activeRows(count, rowStart, rows);
  }
  /// Where row i leads; -1 if nowhere. `wanted` is wanted().
  __device__ int64_t at(uint64_t i, uint64_t wanted) const {
    const uint64_t place = static_cast<uint64_t>(rowStart) + i;
    if (i >= wanted || place >= size)
      return -1;
    const int32_t value = values[place];
    return value >= 0 && static_cast<uint64_t>(value) < limit ? value : -1;
  }

  /// Reports the first wrong value, or a count past the end of the values. The
  /// whole block calls.
  __device__ void check() const {
    const uint64_t needed = wanted();
    const uint64_t first = static_cast<uint64_t>(rowStart);
    if (needed && (first > size || needed > size - first)) {
      if (threadIdx.x == 0)
        report(fault, FaultKind::count, static_cast<int64_t>(first + needed),
               static_cast<int64_t>(size));
      return;
    }
    uint64_t wrong = needed;
    for (uint64_t i = threadIdx.x; i < needed && wrong == needed;
         i += blockDim.x)
      if (at(i, needed) < 0)
        wrong = i;
    wrong = blockLeast(wrong, needed);
    if (threadIdx.x == 0 && wrong < needed)
      report(fault, kind, values[first + wrong], static_cast<int64_t>(limit));
  }
};

} // namespace peft::cuda

#endif // PEFT_CUDA_ROWINDEX_H
