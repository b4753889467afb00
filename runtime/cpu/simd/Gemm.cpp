//===- simd/Gemm.cpp - the linear family in tiles -------------------------===//
//
// An item walks the reduction in blocks. Of each block it packs a group of
// panels of the right operand into the second-level cache, then takes tile by
// tile of the left one into the first. Sums between blocks rest in f32, so no
// cut changes a bit.
//
//===----------------------------------------------------------------------===//
#include "../Gemm.h"
#include "../Kernels.h"
#include "../ThreadPool.h"
#include "Mask.h"
#include "Pack.h"
#include "Partition.h"

namespace peft::cpu::PEFT_PATH {

namespace {

/// Part of one product's reduction, packed from step `at` of the block on.
struct Slice {
  const Product *product = nullptr;
  uint64_t from = 0, elements = 0, at = 0;
};

struct Block {
  Slice slices[2];
  unsigned sliceCount = 0;
  uint64_t steps = 0;
  bool first = false, last = false;
  bool endsApart = false; ///< the end of a first product that stands apart
};

struct Area {
  uint64_t row, rows, column, columns;
};

template <Form form> class Item {
public:
  Item(const Gemm &gemm, std::byte *workspace, Area area)
      : gemm(gemm), area(area), right(reinterpret_cast<uint32_t *>(workspace)),
        left(right + cpuGemmRightWords(gemm.columns)),
        partial(reinterpret_cast<float *>(left + cpuGemmLeftWords)),
        partialStride((area.columns + laneCount - 1) / laneCount * laneCount) {
    direct = gemm.out.type == DType::f32 && gemm.scale == 1 &&
             area.columns % laneCount == 0;
  }

  void run();

private:
  using Left = std::conditional_t<form == Form::f32, F32, BF16>;

  bool nextBlock(Block &block);
  void packRight(const Slice &slice);
  template <typename T>
  void packRightTransposed(const Slice &slice, const T *from);
  template <typename T>
  void packRightStep(const T *even, const T *odd, const T *end, uint64_t step);
  void packLeft(const Slice &slice, uint64_t row, uint64_t rows);
  void computePanel(const Block &block, uint64_t row, uint64_t rows,
                    uint64_t column, const uint32_t *panel);
  void prepareStart(uint64_t row, uint64_t rows, uint64_t column, float *to);
  void addApart(uint64_t row, uint64_t rows);
  void finish(uint64_t row, uint64_t rows, uint64_t column, const float *sums);

  uint64_t panelWidth(uint64_t column) const {
    return area.column + area.columns - column > laneCount ? panelColumns
                                                           : laneCount;
  }
  uint64_t validColumns(uint64_t column) const {
    return std::min<uint64_t>(panelWidth(column),
                              area.column + area.columns - column);
  }
  float *sumsAt(uint64_t row, uint64_t column) const {
    if (direct)
      return gemm.out.as<float>() + row * gemm.columns + column;
    return partial + (row - area.row) * partialStride + column - area.column;
  }
  uint64_t sumsStride() const { return direct ? gemm.columns : partialStride; }

  const Gemm &gemm;
  Area area;
  uint32_t *right; ///< panels of the block, each [steps][width]
  uint32_t *left;  ///< one tile
  float *partial;  ///< sums between blocks, unless they rest in `out`
  uint64_t partialStride;
  bool direct; ///< sums are written to `out` as they are
  uint64_t blockStepCount = 0;
  unsigned product = 0; ///< where the next block starts
  uint64_t element = 0;
};

constexpr uint64_t stepsOf(Form form, uint64_t elements) {
  return (elements + elementsPerStep(form) - 1) / elementsPerStep(form);
}

template <Form form> bool Item<form>::nextBlock(Block &block) {
  block = {};
  block.first = product == 0 && element == 0;
  while (product < gemm.productCount && block.steps < blockSteps) {
    const Product &source = gemm.products[product];
    // The blocks of one product are even, but leave room for a short second
    // one; masks are drawn for 64 elements at a time.
    uint64_t total = stepsOf(form, source.depth);
    uint64_t blocks = (total + blockSteps - 1) / blockSteps;
    uint64_t even = ((total + blocks - 1) / blocks + 63) / 64 * 64;
    uint64_t elements =
        std::min({(blockSteps - block.steps) * elementsPerStep(form),
                  std::min(even, blockSteps) * elementsPerStep(form),
                  source.depth - element});
    block.slices[block.sliceCount++] = {&source, element, elements,
                                        block.steps};
    block.steps += stepsOf(form, elements);
    element += elements;
    if (element < source.depth)
      break;
    ++product;
    element = 0;
    block.endsApart = product == 1 && gemm.firstApart;
    if (block.endsApart)
      break;
  }
  block.last = product == gemm.productCount;
  return block.steps > 0;
}

/// Packs a slice whose stored rows are columns of the panels.
template <Form form>
template <typename T>
void Item<form>::packRightTransposed(const Slice &slice, const T *from) {
  uint64_t stride = slice.product->right.columns;
  uint64_t end = area.column + area.columns;
  uint32_t *panel = right;
  for (uint64_t column = area.column; column < end; column += panelColumns) {
    uint64_t width = panelWidth(column);
    for (uint64_t j = 0; j < width; j += laneCount)
      packColumns<form>(from + (column + j) * stride + slice.from,
                        from + slice.product->right.elements(), stride,
                        std::min<uint64_t>(laneCount, end - column - j),
                        slice.elements, panel + slice.at * width + j, width);
    panel += blockStepCount * width;
  }
}

/// Packs one step of all panels; `even` and `odd` start at the group's columns.
template <Form form>
template <typename T>
void Item<form>::packRightStep(const T *even, const T *odd, const T *end,
                               uint64_t step) {
  uint32_t *panel = right;
  for (uint64_t i = 0; i < area.columns; i += panelColumns) {
    uint64_t width = panelWidth(area.column + i);
    for (uint64_t j = 0; j < width; j += laneCount)
      packAcross<form>(even + i + j, odd ? odd + i + j : nullptr, end,
                       area.columns - i - j, 0, panel + step * width + j);
    panel += blockStepCount * width;
  }
}

template <Form form> void Item<form>::packRight(const Slice &slice) {
  const Operand &operand = slice.product->right;
  uint64_t stride = operand.columns;
  if (gemm.masked == Masked::right) {
    Left dropped[3][cpuGemmColumns];
    const Left *from = operand.template as<Left>() + area.column;
    for (uint64_t k = 0; k < slice.elements; k += elementsPerStep(form)) {
      uint64_t rows = std::min(elementsPerStep(form), slice.elements - k);
      for (uint64_t i = 0; i < rows; ++i)
        dropRow(gemm.dropout, slice.from + k + i, area.column,
                from + (slice.from + k + i) * stride, area.columns, dropped[i]);
      packRightStep(dropped[0], rows == 2 ? dropped[1] : nullptr, dropped[2],
                    slice.at + k / elementsPerStep(form));
    }
    return;
  }
  withElement(operand.type, [&](auto type) {
    const auto *from = operand.template as<decltype(type)>();
    if (slice.product->rightTransposed)
      return packRightTransposed(slice, from);
    const auto *end = from + operand.elements();
    from += slice.from * stride + area.column;
    for (uint64_t k = 0; k < slice.elements; k += elementsPerStep(form)) {
      const auto *even = from + k * stride;
      packRightStep(even, k + 1 < slice.elements ? even + stride : nullptr, end,
                    slice.at + k / elementsPerStep(form));
    }
  });
}

template <Form form>
void Item<form>::packLeft(const Slice &slice, uint64_t row, uint64_t rows) {
  const Product &source = *slice.product;
  const Left *from = source.left.template as<Left>();
  uint64_t stride = source.left.columns;
  if (source.leftTransposed)
    return packLeftTransposed<form>(
        from + slice.from * stride + row, from + source.left.elements(), stride,
        slice.elements, rows, left + slice.at * laneCount);
  for (uint64_t i = 0; i < rows; ++i) {
    const Left *elements = from + (row + i) * stride + slice.from;
    const Left *end = from + source.left.elements();
    Left dropped[2 * blockSteps];
    if (gemm.masked == Masked::left) {
      dropRow(gemm.dropout, row + i, slice.from, elements, slice.elements,
              dropped);
      elements = dropped;
      end = std::end(dropped);
    }
    packRow<form>(elements, end, slice.elements,
                  left + i * leftStride + slice.at);
  }
}

/// The sums a tile's chains start from: init, then bias.
template <Form form>
void Item<form>::prepareStart(uint64_t row, uint64_t rows, uint64_t column,
                              float *to) {
  uint64_t columns = validColumns(column);
  for (uint64_t i = 0; i < rows; ++i) {
    float *sums = to + i * panelColumns;
    std::fill_n(sums, panelColumns, 0.0f);
    if (gemm.init)
      std::memcpy(sums,
                  gemm.init.as<float>() + (row + i) * gemm.columns + column,
                  columns * sizeof(float));
    for (uint64_t j = 0; gemm.bias && j < columns; ++j) {
      float bias = loadWeight(gemm.bias, column + j, gemm.compute);
      sums[j] = gemm.init ? sums[j] + bias : bias;
    }
  }
}

/// Masks a product that stands apart and adds it to init, for one tile.
template <Form form> void Item<form>::addApart(uint64_t row, uint64_t rows) {
  for (uint64_t i = row; i < row + rows; ++i) {
    float *sums = sumsAt(i, area.column);
    F32 *line = reinterpret_cast<F32 *>(sums);
    if (gemm.masked == Masked::first)
      dropRow(gemm.dropout, i, area.column, line, area.columns, line);
    if (!gemm.init)
      continue;
    const float *init = gemm.init.as<float>() + i * gemm.columns + area.column;
    for (uint64_t j = 0; j < area.columns; ++j)
      sums[j] = init[j] + sums[j];
  }
}

/// Scales, rounds and stores the sums of a tile.
template <Form form>
void Item<form>::finish(uint64_t row, uint64_t rows, uint64_t column,
                        const float *sums) {
  Lanes scale = broadcast(gemm.scale);
  uint64_t columns = validColumns(column);
  withFloat(gemm.out.type, [&](auto type) {
    auto *out = gemm.out.as<decltype(type)>();
    for (uint64_t i = 0; i < rows; ++i)
      for (uint64_t j = 0; j < columns; j += laneCount) {
        Lanes value = loadSums(sums + i * panelColumns + j) * scale;
        auto *to = out + (row + i) * gemm.columns + column + j;
        if (columns - j < laneCount)
          store(to, value, columns - j);
        else
          store(to, value);
      }
  });
}

template <Form form>
void Item<form>::computePanel(const Block &block, uint64_t row, uint64_t rows,
                              uint64_t column, const uint32_t *panel) {
  alignas(64) float scratch[tileRows * panelColumns];
  Tile tile{left, panel, block.steps, nullptr, 0, scratch, panelColumns};
  float *sums = sumsAt(row, column);
  if (!block.first) {
    tile.start = sums;
    tile.startStride = sumsStride();
  } else if (!gemm.firstApart && (gemm.init || gemm.bias)) {
    bool whole = validColumns(column) == panelWidth(column);
    if (whole && !gemm.bias) {
      tile.start = gemm.init.as<float>() + row * gemm.columns + column;
      tile.startStride = gemm.columns;
    } else {
      prepareStart(row, rows, column, scratch);
      tile.start = scratch;
      tile.startStride = panelColumns;
    }
  }
  bool toSums = direct || !block.last;
  if (toSums) {
    tile.to = sums;
    tile.toStride = sumsStride();
  }
  uint64_t vectors = panelWidth(column) / laneCount;
  if (block.slices[0].product->leftTransposed)
    findTile<form, true>(rows, vectors)(tile);
  else
    findTile<form, false>(rows, vectors)(tile);
  if (!toSums)
    finish(row, rows, column, scratch);
}

template <Form form> void Item<form>::run() {
  Block block;
  while (nextBlock(block)) {
    blockStepCount = block.steps;
    for (unsigned i = 0; i < block.sliceCount; ++i)
      packRight(block.slices[i]);
    uint64_t tiles = (area.rows + tileRows - 1) / tileRows;
    for (uint64_t t = 0; t < tiles; ++t) {
      // Even tiles: a lone last row would cost as much as a full tile.
      uint64_t row = area.rows * t / tiles;
      uint64_t rows = area.rows * (t + 1) / tiles - row;
      for (unsigned i = 0; i < block.sliceCount; ++i)
        packLeft(block.slices[i], area.row + row, rows);
      const uint32_t *panel = right;
      for (uint64_t column = area.column; column < area.column + area.columns;
           column += panelColumns) {
        computePanel(block, area.row + row, rows, column, panel);
        panel += block.steps * panelWidth(column);
      }
      if (block.endsApart)
        addApart(area.row + row, rows);
    }
  }
}

template <Form form> void multiplyAs(const Call &call, const Gemm &gemm) {
  uint64_t depth = 0;
  for (unsigned i = 0; i < gemm.productCount; ++i)
    depth += gemm.products[i].depth;
  if (gemm.rows == 0 || depth == 0)
    return;
  Partition cut =
      choosePartition(gemm.rows, gemm.columns, depth, call.pool->size());
  auto runItem = [&](unsigned thread, uint64_t begin, uint64_t end) {
    for (uint64_t item = begin; item < end; ++item) {
      uint64_t row = item % cut.rowBlocks * cut.blockRows;
      uint64_t column = item / cut.rowBlocks * cut.groupColumns;
      Area area{row, std::min(cut.blockRows, gemm.rows - row), column,
                std::min(cut.groupColumns, gemm.columns - column)};
      Item<form>(gemm, call.workspaceOf(thread), area).run();
    }
  };
  call.pool->forRanges(cut.rowBlocks * cut.groups, cut.alone ? UINT64_MAX : 1,
                       runItem);
}

void multiply(const Call &call, const Gemm &gemm) {
#if defined(__AVX512BF16__)
  constexpr Form halves = Form::pairs;
#else
  constexpr Form halves = Form::widened;
#endif
  if (gemm.compute == DType::f32)
    multiplyAs<Form::f32>(call, gemm);
  else
    multiplyAs<halves>(call, gemm);
}

} // namespace

PEFT_LINEAR_KERNELS

} // namespace peft::cpu::PEFT_PATH
