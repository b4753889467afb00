//===- simd/Gemm.cpp - the linear family in tiles -------------------------===//
//
// An item walks the reduction in blocks. Of each block it packs a group of
// panels of the right operand into the second-level cache, then takes tile by
// tile of the left one into the first. Sums between blocks rest in f32, so no
// cut changes a bit.
//
//===----------------------------------------------------------------------===//
#include "../Kernels.h"
#include "../ThreadPool.h"
#include "Packer.h"
#include "Partition.h"

namespace peft::cpu::PEFT_PATH {

namespace {

/// A block of rows by a group of columns.
struct Area {
  uint64_t row = 0, rows = 0;
  Columns columns;
};

template <Form form> class Item {
public:
  Item(const Gemm &gemm, std::byte *workspace, const Area &area)
      : gemm(gemm), area(area), right(reinterpret_cast<uint32_t *>(workspace)),
        left(right + cpuGemmRightWords(gemm.columns)),
        partial(reinterpret_cast<float *>(left + cpuGemmLeftWords)),
        partialStride((area.columns.count + laneCount - 1) / laneCount *
                      laneCount),
        direct(gemm.out.type == DType::f32 && gemm.scale == 1 &&
               area.columns.count % laneCount == 0),
        packer(gemm, area.columns, right, left) {}

  void run();

private:
  void computeBlock(const Block &block);
  void computePanel(const Block &block, uint64_t row, uint64_t rows,
                    uint64_t offset, const uint32_t *panel);
  void prepareStart(uint64_t row, uint64_t rows, uint64_t offset, float *to);
  void addApart(uint64_t row, uint64_t rows);
  void finish(uint64_t row, uint64_t rows, uint64_t offset, const float *sums);

  uint64_t validColumns(uint64_t offset) const {
    return std::min(area.columns.panelWidth(offset),
                    area.columns.count - offset);
  }
  uint64_t outIndex(uint64_t row, uint64_t offset) const {
    return row * gemm.columns + area.columns.begin + offset;
  }
  float *sumsAt(uint64_t row, uint64_t offset) const {
    if (direct)
      return gemm.out.as<float>() + outIndex(row, offset);
    return partial + (row - area.row) * partialStride + offset;
  }
  uint64_t sumsStride() const { return direct ? gemm.columns : partialStride; }

  const Gemm &gemm;
  Area area;
  uint32_t *right; ///< panels of the block
  uint32_t *left;  ///< one tile
  float *partial;  ///< sums between blocks, unless they rest in `out`
  uint64_t partialStride;
  bool direct; ///< sums are written to `out` as they are
  Packer<form> packer;
};

/// The sums a tile's chains start from: init, then bias.
template <Form form>
void Item<form>::prepareStart(uint64_t row, uint64_t rows, uint64_t offset,
                              float *to) {
  uint64_t columns = validColumns(offset);
  for (uint64_t i = 0; i < rows; ++i) {
    float *sums = to + i * panelColumns;
    std::fill_n(sums, panelColumns, 0.0f);
    if (gemm.init)
      std::memcpy(sums, gemm.init.as<float>() + outIndex(row + i, offset),
                  columns * sizeof(float));
    for (uint64_t j = 0; gemm.bias && j < columns; ++j) {
      float bias =
          loadWeight(gemm.bias, area.columns.begin + offset + j, gemm.compute);
      sums[j] = gemm.init ? sums[j] + bias : bias;
    }
  }
}

/// Masks a product that stands apart and adds it to init, for one tile.
template <Form form> void Item<form>::addApart(uint64_t row, uint64_t rows) {
  for (uint64_t i = row; i < row + rows; ++i) {
    float *sums = sumsAt(i, 0);
    F32 *line = reinterpret_cast<F32 *>(sums);
    if (gemm.masked == Masked::first)
      dropRow(gemm.dropout, i, area.columns.begin, line, area.columns.count,
              line);
    if (!gemm.init)
      continue;
    const float *init = gemm.init.as<float>() + outIndex(i, 0);
    for (uint64_t j = 0; j < area.columns.count; ++j)
      sums[j] = init[j] + sums[j];
  }
}

/// Scales, rounds and stores the sums of a tile.
template <Form form>
void Item<form>::finish(uint64_t row, uint64_t rows, uint64_t offset,
                        const float *sums) {
  Lanes scale = broadcast(gemm.scale);
  uint64_t columns = validColumns(offset);
  withElement(gemm.out.type, [&](auto type) {
    auto *out = gemm.out.as<decltype(type)>();
    for (uint64_t i = 0; i < rows; ++i)
      for (uint64_t j = 0; j < columns; j += laneCount) {
        Lanes value = loadSums(sums + i * panelColumns + j) * scale;
        auto *to = out + outIndex(row + i, offset + j);
        if (columns - j < laneCount)
          store(to, value, columns - j);
        else
          store(to, value);
      }
  });
}

template <Form form>
void Item<form>::computePanel(const Block &block, uint64_t row, uint64_t rows,
                              uint64_t offset, const uint32_t *panel) {
  alignas(64) float scratch[tileRows * panelColumns];
  Tile tile{left, panel, block.steps, nullptr, 0, scratch, panelColumns};
  uint64_t width = area.columns.panelWidth(offset);
  float *sums = sumsAt(row, offset);
  if (!block.first) {
    tile.start = sums;
    tile.startStride = sumsStride();
  } else if (!gemm.firstApart && (gemm.init || gemm.bias)) {
    if (gemm.init && !gemm.bias && validColumns(offset) == width) {
      tile.start = gemm.init.as<float>() + outIndex(row, offset);
      tile.startStride = gemm.columns;
    } else {
      prepareStart(row, rows, offset, scratch);
      tile.start = scratch;
      tile.startStride = panelColumns;
    }
  }
  bool toSums = direct || !block.last;
  if (toSums) {
    tile.to = sums;
    tile.toStride = sumsStride();
  }
  if (block.slices[0].product->leftTransposed)
    findTile<tileForm(form), true>(rows, width / laneCount)(tile);
  else
    findTile<tileForm(form), false>(rows, width / laneCount)(tile);
  if (!toSums)
    finish(row, rows, offset, scratch);
}

template <Form form> void Item<form>::computeBlock(const Block &block) {
  packer.packRight(block);
  uint64_t tiles = (area.rows + tileRows - 1) / tileRows;
  for (uint64_t t = 0; t < tiles; ++t) {
    // Even tiles: a lone last row would cost as much as a full tile.
    uint64_t row = area.row + area.rows * t / tiles;
    uint64_t rows = area.row + area.rows * (t + 1) / tiles - row;
    packer.packLeft(block, row, rows);
    const uint32_t *panel = right;
    for (uint64_t offset = 0; offset < area.columns.count;
         offset += panelColumns) {
      computePanel(block, row, rows, offset, panel);
      panel += block.steps * area.columns.panelWidth(offset);
    }
    if (block.endsApart)
      addApart(row, rows);
  }
}

template <Form form> void Item<form>::run() {
  BlockWalk<form> walk(gemm);
  for (Block block = walk.next(); block.steps > 0; block = walk.next())
    computeBlock(block);
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
      Area area;
      area.row = item % cut.rowBlocks * cut.blockRows;
      area.rows = std::min(cut.blockRows, gemm.rows - area.row);
      uint64_t column = item / cut.rowBlocks * cut.groupColumns;
      area.columns = {column,
                      std::min(cut.groupColumns, gemm.columns - column)};
      Item<form>(gemm, call.workspaceOf(thread), area).run();
    }
  };
  call.pool->forRanges(cut.rowBlocks * cut.groups, cut.alone ? UINT64_MAX : 1,
                       runItem);
}

void multiply(const Call &call, const Gemm &gemm) {
  withElement(gemm.compute, [&](auto type) {
    multiplyAs<formOf<decltype(type)>>(call, gemm);
  });
}

} // namespace

PEFT_LINEAR_KERNELS

} // namespace peft::cpu::PEFT_PATH
