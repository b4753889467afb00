//===- Blocks.h - the reduction, block by block -----------------*- C++ -*-===//
#ifndef PEFT_CPU_SIMD_BLOCKS_H
#define PEFT_CPU_SIMD_BLOCKS_H

#include "../Gemm.h"
#include "Tile.h"

namespace peft::cpu::PEFT_PATH {

constexpr uint64_t stepsOf(Form form, uint64_t elements) {
  return (elements + elementsPerStep(form) - 1) / elementsPerStep(form);
}

/// Part of one product's reduction, packed from step `at` of the block on.
struct Slice {
  const Product *product = nullptr;
  uint64_t from = 0, elements = 0, at = 0;
};

struct Block {
  Slice slices[2];
  unsigned sliceCount = 0;
  uint64_t steps = 0; ///< zero: there are no more blocks
  bool first = false, last = false;
  bool endsApart = false; ///< the end of a first product that stands apart
};

/// Walks the reduction of a Gemm.
template <Form form> class BlockWalk {
public:
  explicit BlockWalk(const Gemm &gemm) : gemm(gemm) {}

  Block next() {
    Block block;
    block.first = product == 0 && element == 0;
    while (product < gemm.productCount && block.steps < blockSteps) {
      addSlice(block);
      if (element < gemm.products[product].depth)
        break;
      ++product;
      element = 0;
      block.endsApart = product == 1 && gemm.firstApart;
      if (block.endsApart)
        break;
    }
    block.last = product == gemm.productCount;
    return block;
  }

private:
  void addSlice(Block &block) {
    const Product &source = gemm.products[product];
    // The blocks of one product are even, but leave room for a short second
    // one; masks are drawn for 64 elements at a time.
    uint64_t total = stepsOf(form, source.depth);
    uint64_t blocks = (total + blockSteps - 1) / blockSteps;
    uint64_t even = ((total + blocks - 1) / blocks + 63) / 64 * 64;
    uint64_t room = std::min(even, blockSteps - block.steps);
    uint64_t elements =
        std::min(room * elementsPerStep(form), source.depth - element);
    block.slices[block.sliceCount++] = {&source, element, elements,
                                        block.steps};
    block.steps += stepsOf(form, elements);
    element += elements;
  }

  const Gemm &gemm;
  unsigned product = 0; ///< where the next block starts
  uint64_t element = 0;
};

} // namespace peft::cpu::PEFT_PATH

#endif // PEFT_CPU_SIMD_BLOCKS_H
