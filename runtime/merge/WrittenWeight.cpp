//===- WrittenWeight.cpp - a weight on its way to a file ------------------===//
#include "WrittenWeight.h"

#include "peft/FloatTypes.h"

#include <algorithm>
#include <cmath>
#include <thread>

using namespace peft;

void RoundingLoss::add(const RoundingLoss &other) {
  if (other.maximum > maximum) {
    maximum = other.maximum;
    worst = other.worst;
  }
  lossSquares += other.lossSquares;
  exactSquares += other.exactSquares;
  changeSquares += other.changeSquares;
}

static double ratio(double part, double whole) {
  return whole > 0 ? std::sqrt(part / whole) : 0;
}
double RoundingLoss::relative() const {
  return ratio(lossSquares, exactSquares);
}
double RoundingLoss::relativeToChange() const {
  return ratio(lossSquares, changeSquares);
}

//===----------------------------------------------------------------------===//
// W + s B A
//===----------------------------------------------------------------------===//

static std::vector<float> transposed(const std::vector<float> &matrix,
                                     uint64_t rows, uint64_t columns) {
  std::vector<float> result(matrix.size());
  for (uint64_t i = 0; i < rows; ++i)
    for (uint64_t j = 0; j < columns; ++j)
      result[j * rows + i] = matrix[i * columns + j];
  return result;
}

Expected<LowRankRows> LowRankRows::read(const SafetensorsFile &file,
                                        const LowRankChange &change) {
  LowRankRows rows;
  rows.rank = static_cast<uint64_t>(change.rank);
  rows.scale = change.scale;
  PEFT_ASSIGN(std::vector<float> a, readValues(file, *change.a));
  PEFT_ASSIGN(std::vector<float> b, readValues(file, *change.b));
  const auto outer = static_cast<uint64_t>(change.b->shape[0]);
  const auto inner = static_cast<uint64_t>(change.a->shape[1]);
  if (change.embedding) {
    // A row of the table is a column of A, its columns are the rows of B.
    rows.columns = outer;
    rows.left = transposed(a, rows.rank, inner);
    rows.right = transposed(b, outer, rows.rank);
  } else {
    rows.columns = inner;
    rows.left = std::move(b);
    rows.right = std::move(a);
  }
  if (change.magnitude) {
    PEFT_ASSIGN(rows.magnitude, readValues(file, *change.magnitude));
  }
  return rows;
}

void LowRankRows::operator()(uint64_t firstRow, std::span<const float>,
                             std::span<double> values) const {
  std::vector<double> change(columns);
  for (uint64_t row = 0; row * columns < values.size(); ++row) {
    std::span<double> out = values.subspan(row * columns, columns);
    std::ranges::fill(change, 0.0);
    const float *factors = left.data() + (firstRow + row) * rank;
    for (uint64_t r = 0; r < rank; ++r) {
      const double factor = factors[r];
      const float *line = right.data() + r * columns;
      for (uint64_t i = 0; i < columns; ++i)
        change[i] += factor * line[i];
    }
    for (uint64_t i = 0; i < columns; ++i)
      out[i] += scale * change[i];
    if (magnitude.empty())
      continue;
    double squares = 0;
    for (double value : out)
      squares += value * value;
    // As in training: a row of zeros has no direction to bring to a length.
    const double factor =
        squares > 0 ? magnitude[firstRow + row] / std::sqrt(squares) : 0;
    for (double &value : out)
      value *= factor;
  }
}

//===----------------------------------------------------------------------===//
// Rows on all cores
//===----------------------------------------------------------------------===//

namespace {

/// Some rows of a weight, from their base to their bytes.
struct RowBlock {
  std::vector<float> base;
  std::vector<double> values;
  std::vector<std::byte> stored;
  std::vector<RoundingLoss> losses; ///< by row, so that sums have one order
  std::vector<uint8_t> failed;      ///< by row: a value is not finite

  /// Rounds row `row` of `columns` values to `dtype`. The loss is against
  /// `exact`, which may be what another base gives.
  void round(uint64_t row, uint64_t columns, DType dtype,
             const std::vector<double> &exactly) {
    RoundingLoss &loss = losses[row];
    loss = {};
    for (uint64_t i = row * columns; i < (row + 1) * columns; ++i) {
      const double exact = exactly[i];
      storeFloat(stored.data(), dtype, i, static_cast<float>(values[i]));
      const double held = loadFloat(stored.data(), dtype, i);
      failed[row] |= !std::isfinite(held);
      const double lost = std::fabs(held - exact), change = exact - base[i];
      loss.maximum = std::max(loss.maximum, lost);
      loss.lossSquares += lost * lost;
      loss.exactSquares += exact * exact;
      loss.changeSquares += change * change;
    }
  }
};

/// Runs `body` on [begin, end) of `count` rows, a piece on each core.
template <typename Body> void onAllCores(uint64_t count, Body body) {
  const uint64_t cores = std::clamp<uint64_t>(
      std::thread::hardware_concurrency(), 1, std::min<uint64_t>(count, 16));
  std::vector<std::jthread> others;
  for (uint64_t core = 1; core < cores; ++core)
    others.emplace_back(body, core * count / cores,
                        (core + 1) * count / cores);
  body(0, count / cores);
}

Status notFinite(const BaseWeight &base, DType dtype, const RowBlock &block,
                 uint64_t firstRow, uint64_t columns) {
  const uint64_t row = std::ranges::find(block.failed, 1) -
                       block.failed.begin();
  for (uint64_t i = row * columns; i < (row + 1) * columns; ++i) {
    if (std::isfinite(loadFloat(block.stored.data(), dtype, i)))
      continue;
    const std::string where = (base.path.empty() ? "" : base.path + ": ") +
                              base.name + ": the value at [" +
                              std::to_string(firstRow + row) + ", " +
                              std::to_string(i - row * columns) + "] ";
    if (!std::isfinite(block.values[i]))
      return badInput(where + "is not finite; the model is damaged");
    return badInput(where + "is " + std::to_string(block.values[i]) +
                    ", more than " + std::string(name(dtype)) +
                    " can hold; take --type bf16 or f32");
  }
  return internalError(base.name + ": a row failed, but no value of it");
}

} // namespace

/// Reads rows [first, first + count) of `base` into `block`, changes and rounds
/// them. Losses are against `exactly`, or against the block's own values.
static Status makeRows(const BaseWeight &base, DType dtype,
                       const ChangeRows &change, uint64_t first, uint64_t count,
                       RowBlock &block, const std::vector<double> *exactly) {
  const uint64_t columns = base.rowSize();
  block.base.resize(count * columns);
  block.values.resize(count * columns);
  block.stored.resize(count * columns * byteSize(dtype));
  PEFT_TRY(base.reader->read(first * columns, block.base));
  block.losses.assign(count, {});
  block.failed.assign(count, 0);
  onAllCores(count, [&](uint64_t begin, uint64_t end) {
    const uint64_t offset = begin * columns, size = (end - begin) * columns;
    const auto from = std::span<const float>(block.base).subspan(offset, size);
    const auto to = std::span(block.values).subspan(offset, size);
    std::ranges::copy(from, to.begin());
    if (change)
      change(first + begin, from, to);
    for (uint64_t row = begin; row < end; ++row)
      block.round(row, columns, dtype, exactly ? *exactly : block.values);
  });
  return {};
}

/// Adds the losses of a block's rows, in order.
static void addLosses(const RowBlock &block, const std::string &name,
                      RoundingLoss &loss) {
  RoundingLoss sum;
  for (const RoundingLoss &row : block.losses)
    sum.add(row);
  sum.worst = name;
  loss.add(sum);
}

Status peft::writeWeight(const BaseWeight &base, DType dtype,
                         const ChangeRows &change, FileSink &sink,
                         RoundingLoss &loss, const OtherBase &other) {
  constexpr uint64_t blockElements = 1 << 18; // 4 MB of buffers
  const uint64_t columns = base.rowSize();
  const uint64_t rows = columns ? base.elementCount() / columns : 0;
  const uint64_t most = std::max<uint64_t>(1, blockElements / (columns + 1));
  RowBlock block, compared;
  for (uint64_t first = 0; first < rows; first += most) {
    const uint64_t count = std::min(most, rows - first);
    PEFT_TRY(makeRows(base, dtype, change, first, count, block, nullptr));
    if (std::ranges::find(block.failed, 1) != block.failed.end())
      return notFinite(base, dtype, block, first, columns);
    addLosses(block, base.name, loss);
    PEFT_TRY(sink.write(block.stored));
    if (!other.weight)
      continue;
    PEFT_TRY(makeRows(*other.weight, dtype, change, first, count, compared,
                      &block.values));
    addLosses(compared, base.name, *other.loss);
  }
  base.reader->forget();
  return {};
}
