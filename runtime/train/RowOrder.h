//===- RowOrder.h - which row of the data comes when ------------*- C++ -*-===//
#ifndef PEFT_TRAIN_ROWORDER_H
#define PEFT_TRAIN_ROWORDER_H

#include <cstdint>
#include <vector>

namespace peft {

/// Rows of a data set in the order they are trained: epoch after epoch, each a
/// permutation drawn from (seed, epoch) alone, or the file's own order. The
/// permutation is rebuilt in place, so `at` allocates nothing.
class RowOrder {
public:
  RowOrder(uint64_t rows, uint64_t seed, bool shuffle);

  /// The row at `position`, counted over all epochs. Cheap while positions of
  /// one epoch follow each other; O(rows) when the epoch changes.
  uint64_t at(uint64_t position);

private:
  void deal(uint64_t epoch);

  std::vector<uint32_t> permutation;
  uint64_t seed = 0, epoch = 0;
  bool shuffle = true;
};

} // namespace peft

#endif // PEFT_TRAIN_ROWORDER_H
