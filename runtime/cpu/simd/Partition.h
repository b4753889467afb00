//===- Partition.h - how a GEMM is cut into work items ----------*- C++ -*-===//
//
// An item is a block of rows by a group of columns; threads take items, so the
// cut decides balance and how often operands are packed, and never the bits.
//
//===----------------------------------------------------------------------===//
#ifndef PEFT_CPU_SIMD_PARTITION_H
#define PEFT_CPU_SIMD_PARTITION_H

#include "Tile.h"
#include "schema/CpuWorkspace.h"

namespace peft::cpu::PEFT_PATH {

static_assert(blockSteps == cpuGemmSteps &&
              leftStride * laneCount == cpuGemmLeftWords);

/// Columns of a group at most: its packed block is to stay in the second-level
/// cache, which is half as large on processors without AVX-512.
#if defined(__AVX512F__)
constexpr uint64_t groupLimit = cpuGemmColumns;
#else
constexpr uint64_t groupLimit = cpuGemmColumns / 2;
#endif

struct Partition {
  uint64_t blockRows = 0, groupColumns = 0;
  uint64_t rowBlocks = 0, groups = 0;
  bool alone = false; ///< too little work to wake other threads
};

/// Time of an item in multiply instructions per step. Packing a vector of the
/// right operand costs about five of them, a word of the left one a tenth.
inline double itemCost(uint64_t rows, uint64_t columns) {
  double vectors = static_cast<double>(columns) / laneCount;
  return static_cast<double>(rows) * (vectors + 0.1) + 5 * vectors;
}

/// The cut of least estimated time on `threads` threads. Groups start at
/// multiples of 64 columns, for which masks are drawn together.
inline Partition choosePartition(uint64_t rows, uint64_t columns,
                                 uint64_t depth, unsigned threads) {
  // Waking the others takes as long as about a million products.
  bool alone = rows * columns * depth < 1000000;
  if (alone)
    threads = 1;
  Partition best;
  double bestTime = 0;
  for (uint64_t width = groupLimit; width >= 64; width -= 64)
    for (uint64_t height = cpuGemmRows; height >= 28;
         height = height > 128 ? height * 3 / 4 : height / 2) {
      Partition cut;
      // Even blocks: 520 rows are two blocks of 260, not 512 and 8.
      cut.rowBlocks = (rows + height - 1) / height;
      cut.blockRows = (rows + cut.rowBlocks - 1) / cut.rowBlocks;
      cut.rowBlocks = (rows + cut.blockRows - 1) / cut.blockRows;
      cut.groups = (columns + width - 1) / width;
      cut.groupColumns = std::min(width, columns);
      uint64_t items = cut.rowBlocks * cut.groups;
      uint64_t waves = (items + threads - 1) / threads;
      // Few waves balance badly when a thread is held up by something else.
      double slack = threads == 1 ? 1 : 1 + 0.12 / static_cast<double>(waves);
      double time = static_cast<double>(waves) * slack *
                    itemCost(cut.blockRows, cut.groupColumns);
      if (bestTime == 0 || time < bestTime) {
        bestTime = time;
        best = cut;
      }
    }
  best.alone = alone;
  return best;
}

} // namespace peft::cpu::PEFT_PATH

#endif // PEFT_CPU_SIMD_PARTITION_H
