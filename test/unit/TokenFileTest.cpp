//===- TokenFileTest.cpp - rows of token ids ------------------------------===//
#include "peft/TokenFile.h"
#include "TemporaryFiles.h"

#include <cstring>
#include <limits>

using namespace peft;

namespace {

/// One tensor of a token file.
struct Column {
  std::string name, type;
  std::vector<int64_t> shape;
  std::vector<int64_t> values;
};

/// The bytes of a token file; `shift` spaces pad the header, to misalign it.
std::string tokenBytes(const std::vector<Column> &columns, size_t shift = 0) {
  std::string header = "{", data;
  for (const Column &column : columns) {
    const size_t begin = data.size();
    for (const int64_t value : column.values)
      data.append(reinterpret_cast<const char *>(&value),
                  column.type == "I64" ? 8 : 4);
    header += (header.size() > 1 ? ",\"" : "\"") + column.name +
              "\":{\"dtype\":\"" + column.type + "\",\"shape\":[";
    for (size_t i = 0; i < column.shape.size(); ++i)
      header += (i ? "," : "") + std::to_string(column.shape[i]);
    header += "],\"data_offsets\":[" + std::to_string(begin) + "," +
              std::to_string(data.size()) + "]}";
  }
  header += '}';
  header.resize((header.size() + 7) / 8 * 8 + shift, ' ');
  return safetensorsBytes(header, data);
}

const Column ids = {"input_ids", "I32", {2, 3}, {1, 2, 3, 4, 5, 6}};
const Column labels = {"labels", "I32", {2, 3}, {-100, 2, 3, -100, -100, 6}};

std::vector<int32_t> copy(std::span<const int32_t> row) {
  return {row.begin(), row.end()};
}

TEST(TokenFile, ReadsRows) {
  TemporaryDirectory folder;
  const Column positions = {"position_ids", "I32", {2, 3}, {0, 1, 2, 0, 0, 1}};
  const Column segments = {"segment_ids", "I32", {2, 3}, {0, 0, 1, 0, 1, 1}};
  const std::string bytes = tokenBytes({ids, labels, positions, segments});
  auto opened = TokenFile::open(folder.write("t.safetensors", bytes));
  ASSERT_TRUE(opened.ok()) << opened.status().message();
  const TokenFile file = std::move(*opened);
  EXPECT_EQ(file.rows(), 2);
  EXPECT_EQ(file.seq(), 3);
  EXPECT_EQ(copy(file.inputIds(1)), (std::vector<int32_t>{4, 5, 6}));
  EXPECT_EQ(copy(file.labels(0)), (std::vector<int32_t>{-100, 2, 3}));
  EXPECT_EQ(copy(file.positionIds(1)), (std::vector<int32_t>{0, 0, 1}));
  EXPECT_EQ(copy(file.segmentIds(0)), (std::vector<int32_t>{0, 0, 1}));
  EXPECT_EQ(file.trainedTokens(0), 1); // the last starts a segment
  EXPECT_EQ(file.trainedTokens(1), 1);
  EXPECT_TRUE(file.check(7).ok());
}

/// int64 columns, and int32 columns at any address, give the same rows.
TEST(TokenFile, ConvertsAndRealigns) {
  Column wide = ids;
  wide.type = "I64";
  for (const Column &input : {ids, wide})
    for (size_t shift = 0; shift < 8; ++shift) {
      const std::string bytes = tokenBytes({input, labels}, shift);
      auto file = TokenFile::parse(asBytes(bytes), "t");
      ASSERT_TRUE(file.ok()) << file.status().message();
      const TokenFile moved = std::move(*file);
      EXPECT_FALSE(moved.hasPositionIds());
      EXPECT_FALSE(moved.hasSegmentIds());
      EXPECT_EQ(copy(moved.inputIds(1)), (std::vector<int32_t>{4, 5, 6}));
      EXPECT_EQ(copy(moved.labels(1)), (std::vector<int32_t>{-100, -100, 6}));
      EXPECT_EQ(moved.trainedTokens(0), 2);
    }
}

Column changed(Column column, std::string type, std::vector<int64_t> shape,
               std::vector<int64_t> values) {
  column.type = std::move(type);
  column.shape = std::move(shape);
  column.values = std::move(values);
  return column;
}

TEST(TokenFile, RefusesOtherLayouts) {
  const int64_t beyond = int64_t(std::numeric_limits<int32_t>::max()) + 1;
  const std::vector<int64_t> six = {1, 2, 3, 4, 5, 6};
  const struct {
    const char *name;
    std::vector<Column> columns;
    const char *fragment;
  } cases[] = {
      {"no input_ids", {labels}, "has no input_ids; a token file has"},
      {"no labels", {ids}, "has no labels"},
      {"one row without its dimension",
       {changed(ids, "I32", {6}, six), labels},
       "input_ids is i32[6]"},
      {"three dimensions",
       {changed(ids, "I32", {1, 2, 3}, six), labels},
       "input_ids is i32[1, 2, 3]"},
      {"no rows",
       {changed(ids, "I32", {0, 3}, {}), changed(labels, "I32", {0, 3}, {})},
       "so the file has no tokens"},
      {"floats",
       {changed(ids, "F32", {2, 3}, six), labels},
       "input_ids is f32[2, 3]; the type must be int32"},
      {"unsigned",
       {changed(ids, "U32", {2, 3}, six), labels},
       "input_ids is U32[2, 3]; the type must be int32"},
      {"other shape",
       {ids, changed(labels, "I32", {3, 2}, six)},
       "labels is i32[3, 2], but input_ids has [2, 3]"},
      {"segments of another shape",
       {ids, labels, {"segment_ids", "I32", {1, 3}, {0, 0, 0}}},
       "segment_ids is i32[1, 3]"},
      {"too large for 32 bits",
       {changed(ids, "I64", {2, 3}, {1, 2, 3, 4, beyond, 6}), labels},
       "input_ids: row 1, token 1: 2147483648 does not fit"},
      {"too small for 32 bits",
       {ids, changed(labels, "I64", {2, 3}, {1, 2, 3, 4, 5, -beyond - 1})},
       "labels: row 1, token 2: -2147483649 does not fit"},
  };
  for (const auto &[name, columns, fragment] : cases) {
    SCOPED_TRACE(name);
    const std::string bytes = tokenBytes(columns);
    EXPECT_TRUE(failsWith(TokenFile::parse(asBytes(bytes), "t").status(),
                          Code::badInput, fragment));
  }
  EXPECT_TRUE(failsWith(TokenFile::open("/nonexistent").status(), Code::io,
                        "cannot be opened"));
}

TEST(TokenFile, ChecksItsValues) {
  const std::vector<int64_t> shape = {2, 3};
  const std::vector<int64_t> none(6, -100);
  const Column apart = {"segment_ids", "I32", shape, {0, 1, 2, 0, 1, 2}};
  const struct {
    const char *name;
    std::vector<Column> columns;
    const char *fragment;
  } cases[] = {
      {"id beyond the vocabulary",
       {changed(ids, "I32", shape, {1, 2, 3, 4, 7, 6}), labels},
       "input_ids: row 1, token 1: 7 is outside the model's vocabulary [0, 7)"},
      {"negative id",
       {changed(ids, "I32", shape, {-1, 2, 3, 4, 5, 6}), labels},
       "row 0, token 0: -1 is outside"},
      {"label beyond the vocabulary",
       {ids, changed(labels, "I32", shape, {0, 0, 0, 0, 0, 7})},
       "labels: row 1, token 2: 7 is neither -100"},
      {"negative label",
       {ids, changed(labels, "I32", shape, {0, -1, 0, 0, 0, 0})},
       "labels: row 0, token 1: -1 is neither"},
      {"negative position",
       {ids, labels, {"position_ids", "I32", shape, {0, 1, 2, 0, -1, 2}}},
       "position_ids: row 1, token 1: -1 is negative"},
      {"nothing trained",
       {ids, changed(labels, "I32", shape, none)},
       "no token is trained"},
      {"only position 0 trained",
       {ids, changed(labels, "I32", shape, {1, -100, -100, 1, -100, -100})},
       "no token is trained"},
      {"only first tokens of segments trained",
       {ids, labels, apart},
       "no token is trained"},
  };
  for (const auto &[name, columns, fragment] : cases) {
    SCOPED_TRACE(name);
    const std::string bytes = tokenBytes(columns);
    const auto file = TokenFile::parse(asBytes(bytes), "t");
    ASSERT_TRUE(file.ok()) << file.status().message();
    EXPECT_TRUE(failsWith(file->check(7), Code::badInput, fragment));
  }
}

} // namespace
