//===- DataFeed.cpp - rows of a token file into a plan's batch ------------===//
#include "DataFeed.h"

#include <algorithm>
#include <cmath>
#include <numeric>

using namespace peft;

namespace {
/// Everything from `begin` to the end of the slot.
void pad(const BatchView &batch, uint32_t slot, uint64_t begin) {
  uint64_t start = slot * batch.seq;
  for (uint64_t i = begin; i < batch.seq; ++i) {
    batch.inputIds[start + i] = 0;
    batch.labels[start + i] = ignoredLabel;
    batch.positionIds[start + i] = static_cast<int32_t>(i);
    batch.segmentIds[start + i] = paddingSegment;
  }
}
} // namespace

uint64_t peft::writeRow(const BatchView &batch, uint32_t slot,
                        const TokenFile &file, int64_t row) {
  uint64_t start = slot * batch.seq;
  std::span<const int32_t> ids = file.inputIds(row), labels = file.labels(row);
  std::copy(ids.begin(), ids.end(), batch.inputIds + start);
  std::copy(labels.begin(), labels.end(), batch.labels + start);
  if (file.hasPositionIds()) {
    std::span<const int32_t> positions = file.positionIds(row);
    std::copy(positions.begin(), positions.end(), batch.positionIds + start);
  } else {
    std::iota(batch.positionIds + start, batch.positionIds + start + ids.size(),
              0);
  }
  uint64_t present = ids.size();
  if (file.hasSegmentIds()) {
    std::span<const int32_t> segments = file.segmentIds(row);
    std::copy(segments.begin(), segments.end(), batch.segmentIds + start);
    present = static_cast<uint64_t>(
        std::ranges::count_if(segments, [](int32_t s) { return s >= 0; }));
  } else {
    std::fill_n(batch.segmentIds + start, ids.size(), 0);
  }
  pad(batch, slot, ids.size());
  return present;
}

void peft::writePaddingRow(const BatchView &batch, uint32_t slot) {
  pad(batch, slot, 0);
}

uint64_t peft::countTrained(const BatchView &batch) {
  uint64_t count = 0;
  for (uint64_t i = 0; i + 1 < batch.rows * batch.seq; ++i)
    count += (i + 1) % batch.seq != 0 && batch.labels[i + 1] != ignoredLabel &&
             batch.segmentIds[i] == batch.segmentIds[i + 1];
  return count;
}

bool peft::attendsToOthers(const BatchView &batch) {
  for (uint64_t i = 1; i + 1 < batch.rows * batch.seq; ++i)
    if (i % batch.seq != 0 && (i + 1) % batch.seq != 0 &&
        batch.labels[i + 1] != ignoredLabel &&
        batch.segmentIds[i] == batch.segmentIds[i + 1] &&
        batch.segmentIds[i] == batch.segmentIds[i - 1])
      return true;
  return false;
}

void peft::writePrompt(const BatchView &batch, uint32_t slot,
                       std::span<const int32_t> tokens) {
  uint64_t start = slot * batch.seq;
  std::copy(tokens.begin(), tokens.end(), batch.inputIds + start);
  for (uint64_t i = 0; i < tokens.size(); ++i) {
    batch.labels[start + i] = ignoredLabel;
    batch.positionIds[start + i] = static_cast<int32_t>(i);
    batch.segmentIds[start + i] = 0;
  }
  pad(batch, slot, tokens.size());
}

Expected<TokenFile> peft::openTokens(const std::string &path, uint64_t vocab,
                                     uint64_t seq) {
  PEFT_ASSIGN(TokenFile file, TokenFile::open(path));
  if (static_cast<uint64_t>(file.seq()) > seq)
    return badInput(path + ": rows of " + std::to_string(file.seq()) +
                    " tokens, but the plan is compiled for " +
                    std::to_string(seq) + "; compile with --seq " +
                    std::to_string(file.seq()) +
                    " or tokenize with peft-data --seq " + std::to_string(seq));
  PEFT_TRY(file.check(static_cast<int64_t>(vocab)));
  return file;
}

DataFeed::DataFeed(const TokenFile &file, const TrainOptions &options,
                   uint64_t seed, uint32_t batch)
    : file(file),
      order(static_cast<uint64_t>(file.rows()), seed, options.shuffle),
      batch(batch), stepRows(uint64_t(batch) * options.gradAccum) {
  if (options.steps) {
    stepCount = *options.steps;
    rowLimit = stepCount * stepRows;
    return;
  }
  double rows = options.epochs * static_cast<double>(file.rows());
  rowLimit = std::max<uint64_t>(1, static_cast<uint64_t>(std::llround(rows)));
  stepCount = (rowLimit + stepRows - 1) / stepRows;
}

uint64_t DataFeed::fill(const BatchView &view, uint64_t step, uint32_t micro) {
  uint64_t first = step * stepRows + uint64_t(micro) * batch, present = 0;
  for (uint32_t slot = 0; slot < batch; ++slot) {
    if (first + slot >= rowLimit)
      writePaddingRow(view, slot);
    else
      present += writeRow(view, slot, file,
                          static_cast<int64_t>(order.at(first + slot)));
  }
  return present;
}

std::vector<uint64_t> DataFeed::rowsOf(uint64_t step, uint32_t micro) {
  std::vector<uint64_t> rows;
  uint64_t first = step * stepRows + uint64_t(micro) * batch;
  for (uint64_t i = first; i < std::min(first + batch, rowLimit); ++i)
    rows.push_back(order.at(i));
  return rows;
}
