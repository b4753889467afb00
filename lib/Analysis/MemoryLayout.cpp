//===- MemoryLayout.cpp - offsets for buffers with lifetimes --------------===//
#include "peftc/Analysis/MemoryLayout.h"

#include "llvm/ADT/STLExtras.h"
#include "llvm/Support/MathExtras.h"

#include <algorithm>
#include <numeric>
#include <tuple>

using namespace peftc;

namespace {

struct Placed {
  uint64_t offset, end;
  uint32_t first, last;
};

/// The buffers placed so far, by offset, in blocks of bounded length: inserting
/// moves little, and a search steps over blocks whose lifetimes lie elsewhere.
class PlacedBuffers {
public:
  /// The lowest offset of the tightest gap that `buffer` fits into.
  uint64_t findOffset(const LiveRange &buffer, uint64_t size) const;
  void insert(const Placed &buffer);

private:
  struct Block {
    std::vector<Placed> buffers;
    uint32_t first = UINT32_MAX, last = 0; ///< union of the lifetimes
  };
  static constexpr size_t blockLength = 64; ///< bits of a mask
  std::vector<Block> blocks;
};

} // namespace

uint64_t PlacedBuffers::findOffset(const LiveRange &buffer,
                                   uint64_t size) const {
  uint64_t end = 0; // of everything seen that is needed at the same time
  uint64_t best = UINT64_MAX, bestGap = UINT64_MAX;
  for (const Block &block : blocks) {
    if (block.first > buffer.last || block.last < buffer.first)
      continue;
    // First which of them meet, without branches, then only those.
    uint64_t meeting = 0;
    for (size_t i = 0; i < block.buffers.size(); ++i)
      meeting |= uint64_t((block.buffers[i].first <= buffer.last) &
                          (block.buffers[i].last >= buffer.first))
                 << i;
    for (; meeting; meeting &= meeting - 1) {
      const Placed &placed = block.buffers[llvm::countr_zero(meeting)];
      if (placed.offset > end) {
        uint64_t gap = placed.offset - end;
        if (gap >= size && gap < bestGap) {
          best = end;
          bestGap = gap;
        }
      }
      end = std::max(end, placed.end);
    }
  }
  return best == UINT64_MAX ? end : best;
}

void PlacedBuffers::insert(const Placed &buffer) {
  auto after = [](uint64_t offset, const Placed &placed) {
    return offset < placed.offset;
  };
  if (blocks.empty())
    blocks.emplace_back();
  // The last block whose first buffer does not lie behind the new one.
  auto block = std::upper_bound(blocks.begin() + 1, blocks.end(), buffer.offset,
                                [&](uint64_t offset, const Block &block) {
                                  return after(offset, block.buffers.front());
                                }) -
               1;
  auto &list = block->buffers;
  list.insert(std::upper_bound(list.begin(), list.end(), buffer.offset, after),
              buffer);
  block->first = std::min(block->first, buffer.first);
  block->last = std::max(block->last, buffer.last);
  if (list.size() <= blockLength)
    return;

  Block upper;
  upper.buffers.assign(list.begin() + list.size() / 2, list.end());
  list.resize(list.size() / 2);
  for (Block *half : {&*block, &upper}) {
    half->first = UINT32_MAX;
    half->last = 0;
    for (const Placed &placed : half->buffers) {
      half->first = std::min(half->first, placed.first);
      half->last = std::max(half->last, placed.last);
    }
  }
  blocks.insert(block + 1, std::move(upper));
}

static MemoryLayout place(llvm::ArrayRef<LiveRange> buffers,
                          llvm::ArrayRef<uint32_t> order, uint64_t alignment) {
  MemoryLayout layout;
  layout.offsets.resize(buffers.size());
  PlacedBuffers placed;
  for (uint32_t index : order) {
    const LiveRange &buffer = buffers[index];
    uint64_t size = llvm::alignTo(buffer.size, alignment);
    uint64_t offset = placed.findOffset(buffer, size);
    placed.insert({offset, offset + size, buffer.first, buffer.last});
    layout.offsets[index] = offset;
    layout.size = std::max(layout.size, offset + size);
  }
  return layout;
}

static uint64_t mostBytesAtOnce(llvm::ArrayRef<LiveRange> buffers) {
  uint32_t end = 0;
  for (const LiveRange &buffer : buffers)
    end = std::max(end, buffer.last + 1);
  std::vector<int64_t> change(end + 1);
  for (const LiveRange &buffer : buffers) {
    change[buffer.first] += buffer.size;
    change[buffer.last + 1] -= buffer.size;
  }
  int64_t live = 0, most = 0;
  for (int64_t difference : change)
    most = std::max(most, live += difference);
  return most;
}

MemoryLayout peftc::packBuffers(llvm::ArrayRef<LiveRange> buffers,
                                uint64_t alignment) {
  std::vector<uint32_t> order(buffers.size());
  std::iota(order.begin(), order.end(), 0);
  auto bySize = order, byStart = order;
  // The index settles ties, so the result depends on nothing else.
  std::sort(bySize.begin(), bySize.end(), [&](uint32_t a, uint32_t b) {
    return std::tuple(buffers[b].size, a) < std::tuple(buffers[a].size, b);
  });
  std::sort(byStart.begin(), byStart.end(), [&](uint32_t a, uint32_t b) {
    return std::tuple(buffers[a].first, buffers[b].size, a) <
           std::tuple(buffers[b].first, buffers[a].size, b);
  });
  MemoryLayout first = place(buffers, bySize, alignment);
  MemoryLayout second = place(buffers, byStart, alignment);
  second.order = "start";
  MemoryLayout &better = second.size < first.size ? second : first;
  better.lowerBound = mostBytesAtOnce(buffers);
  return std::move(better);
}
