//===- MemoryLayout.h - offsets for buffers with lifetimes ------*- C++ -*-===//
//
// Dynamic storage allocation with all requests known: a pure function, so that
// it can be tested without IR.
//
//===----------------------------------------------------------------------===//
#ifndef PEFTC_ANALYSIS_MEMORYLAYOUT_H
#define PEFTC_ANALYSIS_MEMORYLAYOUT_H

#include "llvm/ADT/ArrayRef.h"

#include <cstdint>
#include <vector>

namespace peftc {

/// A buffer of `size` bytes that is needed from item `first` to item `last`,
/// both included.
struct LiveRange {
  uint64_t size = 0;
  uint32_t first = 0, last = 0;
};

struct MemoryLayout {
  std::vector<uint64_t> offsets; ///< one per buffer, in the order given
  uint64_t size = 0;             ///< end of the buffer that reaches highest
  uint64_t lowerBound = 0;       ///< most bytes needed at once
  const char *order = "size";    ///< the better order: "size" or "start"
};

/// Places buffers so that two whose ranges meet share no byte; every offset is
/// a multiple of `alignment`. Greedy best-fit (the tightest gap, else the end)
/// once by falling size and once by rising start; the smaller result is kept.
/// Equal input gives equal output.
MemoryLayout packBuffers(llvm::ArrayRef<LiveRange> buffers, uint64_t alignment);

} // namespace peftc

#endif // PEFTC_ANALYSIS_MEMORYLAYOUT_H
