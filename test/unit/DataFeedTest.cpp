//===- DataFeedTest.cpp - rows, their order and their padding -------------===//
#include "train/DataFeed.h"

#include "peft/File.h"
#include "peft/Safetensors.h"

#include <algorithm>
#include <gtest/gtest.h>
#include <numeric>

using namespace peft;

namespace {
struct Columns {
  int64_t rows = 0, seq = 0;
  std::vector<int32_t> ids, labels, positions, segments;
};

Expected<TokenFile> writeAndOpen(const Columns &columns, const char *name) {
  std::string path = joinPath(testing::TempDir(), name);
  std::vector<TensorToWrite> tensors;
  auto add = [&](const char *tensor, const std::vector<int32_t> &values) {
    if (!values.empty())
      tensors.push_back({tensor,
                         DType::i32,
                         {columns.rows, columns.seq},
                         std::as_bytes(std::span(values)),
                         {}});
  };
  add("input_ids", columns.ids);
  add("labels", columns.labels);
  add("position_ids", columns.positions);
  add("segment_ids", columns.segments);
  PEFT_TRY(writeSafetensors(path, std::move(tensors)));
  return TokenFile::open(path);
}

/// Row r holds the ids 10 r, 10 r + 1, ...; everything is trained.
Columns plainRows(int64_t rows, int64_t seq) {
  Columns columns{rows, seq, {}, {}, {}, {}};
  for (int64_t row = 0; row < rows; ++row)
    for (int64_t i = 0; i < seq; ++i)
      columns.ids.push_back(static_cast<int32_t>(10 * row + i));
  columns.labels = columns.ids;
  return columns;
}

struct Batch {
  explicit Batch(uint32_t rows, uint64_t seq)
      : storage(4 * rows * seq, -77), view{storage.data(),
                                           storage.data() + rows * seq,
                                           storage.data() + 2 * rows * seq,
                                           storage.data() + 3 * rows * seq,
                                           rows,
                                           seq} {}
  std::vector<int32_t> storage;
  BatchView view;
};

using Values = std::vector<int32_t>;
Values slot(const int32_t *values, uint64_t seq, uint32_t slot = 0) {
  return Values(values + slot * seq, values + (slot + 1) * seq);
}
} // namespace

TEST(DataFeed, aShorterRowIsPaddedInItsOwnSegment) {
  auto file = writeAndOpen(plainRows(2, 3), "short.safetensors");
  ASSERT_TRUE(file.ok()) << file.status().message();
  Batch batch(2, 5);
  EXPECT_EQ(writeRow(batch.view, 1, *file, 1), 3u);
  EXPECT_EQ(slot(batch.view.inputIds, 5, 1), (Values{10, 11, 12, 0, 0}));
  EXPECT_EQ(slot(batch.view.labels, 5, 1), (Values{10, 11, 12, -100, -100}));
  EXPECT_EQ(slot(batch.view.positionIds, 5, 1), (Values{0, 1, 2, 3, 4}));
  EXPECT_EQ(slot(batch.view.segmentIds, 5, 1), (Values{0, 0, 0, -1, -1}));
  EXPECT_EQ(batch.view.inputIds[0], -77) << "the other slot stays";
}

TEST(DataFeed, positionsAndSegmentsOfTheFileAreKept) {
  Columns columns = plainRows(1, 5);
  columns.positions = {0, 1, 0, 1, 0};
  columns.segments = {0, 0, 1, 1, -1};
  auto file = writeAndOpen(columns, "packed.safetensors");
  ASSERT_TRUE(file.ok()) << file.status().message();
  Batch batch(1, 5);
  EXPECT_EQ(writeRow(batch.view, 0, *file, 0), 4u) << "padding does not count";
  EXPECT_EQ(slot(batch.view.positionIds, 5), columns.positions);
  EXPECT_EQ(slot(batch.view.segmentIds, 5), columns.segments);
}

TEST(DataFeed, longerRowsAreRefusedNotCut) {
  ASSERT_TRUE(writeAndOpen(plainRows(1, 9), "long.safetensors").ok());
  std::string path = joinPath(testing::TempDir(), "long.safetensors");
  auto file = openTokens(path, 100, 8);
  ASSERT_FALSE(file.ok());
  EXPECT_EQ(file.status().code(), Code::badInput);
  EXPECT_NE(file.status().message().find("rows of 9 tokens"),
            std::string::npos);
  EXPECT_NE(file.status().message().find("--seq 9"), std::string::npos);
  EXPECT_TRUE(openTokens(path, 100, 9).ok());
}

TEST(DataFeed, idsBeyondTheVocabularyAreRefused) {
  ASSERT_TRUE(writeAndOpen(plainRows(3, 4), "vocab.safetensors").ok());
  std::string path = joinPath(testing::TempDir(), "vocab.safetensors");
  EXPECT_TRUE(openTokens(path, 24, 4).ok());
  auto file = openTokens(path, 23, 4);
  ASSERT_FALSE(file.ok());
  EXPECT_EQ(file.status().code(), Code::badInput);
  EXPECT_NE(file.status().message().find("23"), std::string::npos);
}

TEST(DataFeed, theSplitIntoMicroBatchesKeepsTheRowsOfAStep) {
  auto file = writeAndOpen(plainRows(7, 2), "split.safetensors");
  ASSERT_TRUE(file.ok());
  auto rowsOfStep = [&](uint32_t batch, uint32_t accumulate, uint64_t step) {
    TrainOptions options;
    options.steps = 5;
    options.gradAccum = accumulate;
    DataFeed feed(*file, options, 3, batch);
    EXPECT_EQ(feed.rowsPerStep(), 4u);
    Values ids;
    Batch host(batch, 2);
    for (uint32_t micro = 0; micro < accumulate; ++micro) {
      feed.fill(host.view, step, micro);
      for (uint32_t row = 0; row < batch; ++row)
        ids.push_back(host.view.inputIds[row * 2]);
    }
    return ids;
  };
  // Step 1 holds rows 4 to 7 of the stream: the last three of the first epoch
  // and the first of the second.
  for (uint64_t step : {0, 1, 4}) {
    Values whole = rowsOfStep(4, 1, step);
    EXPECT_EQ(rowsOfStep(2, 2, step), whole);
    EXPECT_EQ(rowsOfStep(1, 4, step), whole);
  }
}

TEST(DataFeed, epochsEndWithPaddingRows) {
  auto file = writeAndOpen(plainRows(5, 2), "epochs.safetensors");
  ASSERT_TRUE(file.ok());
  TrainOptions options;
  options.shuffle = false;
  DataFeed one(*file, options, 0, 2);
  EXPECT_EQ(one.steps(), 3u);
  Batch host(2, 2);
  EXPECT_EQ(one.fill(host.view, 2, 0), 2u) << "one row of the two is there";
  EXPECT_EQ(slot(host.view.inputIds, 2), (Values{40, 41}));
  EXPECT_EQ(slot(host.view.labels, 2, 1), (Values{-100, -100}));
  EXPECT_EQ(one.rowsOf(2, 0), (std::vector<uint64_t>{4}));

  options.epochs = 0.4;
  EXPECT_EQ(DataFeed(*file, options, 0, 2).steps(), 1u);
  options.epochs = 2;
  EXPECT_EQ(DataFeed(*file, options, 0, 2).steps(), 5u);
}

TEST(RowOrder, everyEpochIsAPermutationOfItsOwn) {
  RowOrder order(50, 11, true);
  std::vector<std::vector<uint64_t>> epochs(3);
  for (uint64_t position = 0; position < 150; ++position)
    epochs[position / 50].push_back(order.at(position));
  EXPECT_NE(epochs[0], epochs[1]);
  EXPECT_NE(epochs[1], epochs[2]);
  std::vector<uint64_t> all(50);
  std::iota(all.begin(), all.end(), 0);
  for (std::vector<uint64_t> epoch : epochs) {
    EXPECT_NE(epoch, all);
    std::ranges::sort(epoch);
    EXPECT_EQ(epoch, all);
  }
  EXPECT_EQ(order.at(7), epochs[0][7]) << "going back gives the same row";
  RowOrder again(50, 11, true), other(50, 12, true);
  EXPECT_EQ(again.at(120), epochs[2][20]);
  bool differs = false;
  for (uint64_t i = 0; i < 50; ++i)
    differs |= other.at(i) != epochs[0][i];
  EXPECT_TRUE(differs);
}

TEST(RowOrder, withoutShufflingRowsComeAsTheyStand) {
  RowOrder order(4, 11, false);
  for (uint64_t i = 0; i < 12; ++i)
    EXPECT_EQ(order.at(i), i % 4);
}

TEST(DataFeed, trainedTokensAreCountedAsTheStepCountsThem) {
  Batch batch(2, 4);
  Columns columns = plainRows(2, 4);
  columns.labels = {5, -100, 7, 8, 1, 2, 3, 4};
  columns.segments = {0, 0, 0, 0, 0, 0, 1, 1};
  auto file = writeAndOpen(columns, "trained.safetensors");
  ASSERT_TRUE(file.ok()) << file.status().message();
  writeRow(batch.view, 0, *file, 0);
  writeRow(batch.view, 1, *file, 1);
  // The first label of a row is no target; 1 to 2 crosses a segment.
  EXPECT_EQ(countTrained(batch.view), 2u + 2u);
  writePaddingRow(batch.view, 1);
  EXPECT_EQ(countTrained(batch.view), 2u);
  writePaddingRow(batch.view, 0);
  EXPECT_EQ(countTrained(batch.view), 0u);
}

TEST(DataFeed, aTokenThatSeesOnlyItselfIsNoticed) {
  Batch batch(1, 4);
  // The only trained token is predicted by position 0 ...
  Columns columns = plainRows(1, 4);
  columns.labels = {-100, 7, -100, -100};
  auto first = writeAndOpen(columns, "first.safetensors");
  ASSERT_TRUE(first.ok()) << first.status().message();
  writeRow(batch.view, 0, *first, 0);
  EXPECT_FALSE(attendsToOthers(batch.view));
  // ... by position 2 ...
  columns.labels = {-100, -100, -100, 7};
  auto later = writeAndOpen(columns, "later.safetensors");
  ASSERT_TRUE(later.ok()) << later.status().message();
  writeRow(batch.view, 0, *later, 0);
  EXPECT_TRUE(attendsToOthers(batch.view));
  // ... and that one begins a segment.
  columns.segments = {0, 0, 1, 1};
  auto packed = writeAndOpen(columns, "packed.safetensors");
  ASSERT_TRUE(packed.ok()) << packed.status().message();
  writeRow(batch.view, 0, *packed, 0);
  EXPECT_FALSE(attendsToOthers(batch.view));
}
