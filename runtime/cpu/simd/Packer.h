//===- Packer.h - packs the operands of an item -----------------*- C++ -*-===//
#ifndef PEFT_CPU_SIMD_PACKER_H
#define PEFT_CPU_SIMD_PACKER_H

#include "../Decode.h"
#include "Blocks.h"
#include "Mask.h"
#include "Pack.h"
#include "schema/CpuWorkspace.h"

namespace peft::cpu::PEFT_PATH {

/// Columns of `out`, a group of which is packed at a time.
struct Columns {
  uint64_t begin = 0, count = 0;

  /// A narrow last panel is one vector wide.
  uint64_t panelWidth(uint64_t offset) const {
    return count - offset > laneCount ? panelColumns : laneCount;
  }
};

template <Form form> class Packer {
public:
  Packer(const Gemm &gemm, Columns columns, uint32_t *right, uint32_t *left)
      : gemm(gemm), columns(columns), right(right), left(left) {}

  /// Packs the group's panels, each [steps][width], one after the other.
  void packRight(const Block &block) {
    for (unsigned i = 0; i < block.sliceCount; ++i)
      if (gemm.masked == Masked::right)
        packDropped(block.slices[i], block.steps);
      else if (block.slices[i].product->rightQuantized)
        packQuantized(block.slices[i], block.steps);
      else
        withElement(block.slices[i].product->right.type, [&](auto type) {
          packStored<decltype(type)>(block.slices[i], block.steps);
        });
  }

  /// Packs one tile of rows.
  void packLeft(const Block &block, uint64_t row, uint64_t rows) {
    for (unsigned i = 0; i < block.sliceCount; ++i)
      packLeftSlice(block.slices[i], row, rows);
  }

private:
  using Left = TypeOf<form>;

  /// One step of all panels; `even` and `odd` start at the group's columns.
  template <typename T>
  void packStep(const T *even, const T *odd, const T *end, uint64_t step,
                uint64_t steps) {
    uint32_t *panel = right;
    for (uint64_t i = 0; i < columns.count; i += panelColumns) {
      uint64_t width = columns.panelWidth(i);
      for (uint64_t j = 0; j < width; j += laneCount)
        packAcross<form>(even + i + j, odd ? odd + i + j : nullptr, end,
                         columns.count - i - j, 0, panel + step * width + j);
      panel += steps * width;
    }
  }

  /// The group's columns of the next step's rows, far enough ahead for memory.
  template <typename T> void prefetchRows(const T *row, uint64_t stride) const {
    for (unsigned i = 0; i < elementsPerStep(form); ++i, row += stride)
      for (uint64_t j = 0; j < columns.count; j += 64 / sizeof(T))
        __builtin_prefetch(row + j, 0, 2);
  }

  template <typename T> void packStored(const Slice &slice, uint64_t steps) {
    const Operand &operand = slice.product->right;
    uint64_t stride = operand.columns;
    const T *from = operand.as<T>(), *end = from + operand.elements();
    if (!slice.product->rightTransposed) {
      from += slice.from * stride + columns.begin;
      for (uint64_t k = 0; k < slice.elements; k += elementsPerStep(form)) {
        const T *even = from + k * stride;
        prefetchRows(even + 16 * stride, stride);
        packStep(even, k + 1 < slice.elements ? even + stride : nullptr, end,
                 slice.at + k / elementsPerStep(form), steps);
      }
      return;
    }
    uint32_t *panel = right;
    for (uint64_t i = 0; i < columns.count; i += panelColumns) {
      uint64_t width = columns.panelWidth(i);
      for (uint64_t j = 0; j < width; j += laneCount)
        packColumns<form>(from + (columns.begin + i + j) * stride + slice.from,
                          end, stride,
                          std::min<uint64_t>(laneCount, columns.count - i - j),
                          slice.elements, panel + slice.at * width + j, width);
      panel += steps * width;
    }
  }

  /// Part of a row; the same part of the row after the next sixteen is fetched.
  static void decodeAhead(const Quantized &weight, uint64_t first,
                          uint64_t count, uint64_t stride, Left *to) {
    const uint64_t perByte = weight.type == DType::i8 ? 1 : 2;
    const std::byte *ahead = weight.codes + (first + 16 * stride) / perByte;
    for (uint64_t i = 0; i < count / perByte; i += 64)
      __builtin_prefetch(ahead + i, 0, 2);
    decode(weight, first, count, to);
  }

  /// Codes become numbers in the first-level cache, and are packed from there.
  void packQuantized(const Slice &slice, uint64_t steps) {
    const Quantized &weight = slice.product->rightQuantized;
    const uint64_t stride = slice.product->right.columns;
    if (!slice.product->rightTransposed) {
      Left rows[3][cpuGemmColumns];
      for (uint64_t k = 0; k < slice.elements; k += elementsPerStep(form)) {
        uint64_t count = std::min(elementsPerStep(form), slice.elements - k);
        for (uint64_t i = 0; i < count; ++i)
          decodeAhead(weight, (slice.from + k + i) * stride + columns.begin,
                      columns.count, stride, rows[i]);
        packStep<Left>(rows[0], count == 2 ? rows[1] : nullptr, rows[2],
                       slice.at + k / elementsPerStep(form), steps);
      }
      return;
    }
    Left rows[laneCount][blockSteps * elementsPerStep(form)];
    uint32_t *panel = right;
    for (uint64_t i = 0; i < columns.count; i += panelColumns) {
      uint64_t width = columns.panelWidth(i);
      for (uint64_t j = 0; j < width; j += laneCount) {
        uint64_t first = i + j;
        uint64_t count = std::min<uint64_t>(laneCount, columns.count - first);
        for (uint64_t r = 0; r < count; ++r)
          decodeAhead(weight, (columns.begin + first + r) * stride + slice.from,
                      slice.elements, stride, rows[r]);
        packColumns<form>(rows[0], std::end(rows[laneCount - 1]),
                          std::size(rows[0]), count, slice.elements,
                          panel + slice.at * width + j, width);
      }
      panel += steps * width;
    }
  }

  void packDropped(const Slice &slice, uint64_t steps) {
    Left dropped[3][cpuGemmColumns];
    const Operand &operand = slice.product->right;
    const Left *from = operand.template as<Left>() + columns.begin;
    for (uint64_t k = 0; k < slice.elements; k += elementsPerStep(form)) {
      uint64_t rows = std::min(elementsPerStep(form), slice.elements - k);
      for (uint64_t i = 0; i < rows; ++i) {
        uint64_t row = slice.from + k + i;
        dropRow(gemm.dropout, row, columns.begin, from + row * operand.columns,
                columns.count, dropped[i]);
      }
      packStep<Left>(dropped[0], rows == 2 ? dropped[1] : nullptr, dropped[2],
                     slice.at + k / elementsPerStep(form), steps);
    }
  }

  void packLeftSlice(const Slice &slice, uint64_t row, uint64_t rows) {
    const Operand &operand = slice.product->left;
    const Left *from = operand.template as<Left>();
    const Left *end = from + operand.elements();
    uint64_t stride = operand.columns;
    if (slice.product->leftTransposed)
      return packLeftTransposed<form>(from + slice.from * stride + row, end,
                                      stride, slice.elements, rows,
                                      left + slice.at * laneCount);
    for (uint64_t i = 0; i < rows; ++i) {
      uint32_t *to = left + i * leftStride + slice.at;
      const Left *elements = from + (row + i) * stride + slice.from;
      if (gemm.masked != Masked::left) {
        packRow<form>(elements, end, slice.elements, to);
        continue;
      }
      Left dropped[2 * blockSteps];
      dropRow(gemm.dropout, row + i, slice.from, elements, slice.elements,
              dropped);
      packRow<form>(dropped, std::end(dropped), slice.elements, to);
    }
  }

  const Gemm &gemm;
  Columns columns;
  uint32_t *right, *left;
};

} // namespace peft::cpu::PEFT_PATH

#endif // PEFT_CPU_SIMD_PACKER_H
