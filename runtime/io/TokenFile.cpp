//===- TokenFile.cpp - rows of token ids ----------------------------------===//
#include "peft/TokenFile.h"
#include "peft/Json.h"

#include <algorithm>
#include <cstring>
#include <limits>

using namespace peft;

namespace {

/// "row 3, token 17"
std::string place(size_t index, int64_t seq) {
  const auto length = static_cast<size_t>(seq);
  return "row " + std::to_string(index / length) + ", token " +
         std::to_string(index % length);
}

int64_t loadI64(ByteSpan bytes, size_t index) {
  int64_t value; // the file need not align it
  std::memcpy(&value, bytes.data() + index * sizeof value, sizeof value);
  return value;
}

constexpr const char *layout =
    "; a token file has input_ids and labels, int32 [rows, seq], and perhaps "
    "position_ids and segment_ids";

} // namespace

Expected<TokenFile> TokenFile::open(const std::string &path) {
  PEFT_ASSIGN(MappedFile file, MappedFile::open(path));
  PEFT_ASSIGN(TokenFile tokens, parse(file.bytes(), path));
  tokens.file = std::move(file);
  return tokens;
}

Expected<TokenFile> TokenFile::parse(ByteSpan bytes, const std::string &what) {
  PEFT_ASSIGN(const SafetensorsHeader header,
              parseSafetensorsHeader(bytes, bytes.size(), what));
  TokenFile tokens;
  tokens.name = what;
  const TensorHeader *ids = header.find("input_ids");
  if (!ids)
    return badInput(what + ": has no input_ids" + layout);
  if (ids->shape.size() != 2)
    return badInput(what + ": input_ids is " + ids->describe() + layout);
  tokens.rowCount = ids->shape[0];
  tokens.rowLength = ids->shape[1];
  if (tokens.rowCount == 0 || tokens.rowLength == 0)
    return badInput(what + ": input_ids is " + ids->describe() +
                    ", so the file has no tokens");
  if (!header.find("labels"))
    return badInput(what + ": has no labels" + layout);

  for (const TensorHeader &tensor : header.tensors)
    if (tensor.name != "input_ids" && tensor.name != "labels" &&
        tensor.name != "position_ids" && tensor.name != "segment_ids")
      tokens.others += (tokens.others.empty() ? "" : ", ") + tensor.name;
  PEFT_TRY(tokens.readColumn(header, bytes, "input_ids", tokens.ids));
  PEFT_TRY(tokens.readColumn(header, bytes, "labels", tokens.targets));
  PEFT_TRY(tokens.readColumn(header, bytes, "position_ids", tokens.positions));
  PEFT_TRY(tokens.readColumn(header, bytes, "segment_ids", tokens.segments));
  return tokens;
}

Status TokenFile::readColumn(const SafetensorsHeader &header, ByteSpan bytes,
                             const std::string &column, Column &result) {
  const TensorHeader *tensor = header.find(column);
  if (!tensor)
    return Status();
  if (tensor->shape != std::vector<int64_t>{rowCount, rowLength})
    return badInput(name + ": " + column + " is " + tensor->describe() +
                    ", but input_ids has [" + std::to_string(rowCount) + ", " +
                    std::to_string(rowLength) + "]");
  if (tensor->dtype != DType::i32 && tensor->dtype != DType::i64)
    return badInput(name + ": " + column + " is " + tensor->describe() +
                    "; the type must be int32, or int64");

  const auto count = static_cast<size_t>(tensor->elementCount());
  const ByteSpan data =
      bytes.subspan(static_cast<size_t>(header.dataOffset + tensor->begin),
                    static_cast<size_t>(tensor->byteCount()));
  const bool aligned =
      reinterpret_cast<uintptr_t>(data.data()) % alignof(int32_t) == 0;
  if (tensor->dtype == DType::i32 && aligned) {
    result.values = {reinterpret_cast<const int32_t *>(data.data()), count};
    return Status();
  }
  result.converted.resize(count);
  if (tensor->dtype == DType::i32) {
    std::memcpy(result.converted.data(), data.data(), data.size());
  } else {
    for (size_t i = 0; i < count; ++i) {
      const int64_t value = loadI64(data, i);
      if (value < std::numeric_limits<int32_t>::min() ||
          value > std::numeric_limits<int32_t>::max())
        return badInput(name + ": " + column + ": " + place(i, rowLength) +
                        ": " + std::to_string(value) +
                        " does not fit into 32 bits");
      result.converted[i] = static_cast<int32_t>(value);
    }
  }
  result.values = result.converted;
  return Status();
}

int64_t TokenFile::trainedTokens(int64_t row) const {
  const std::span<const int32_t> rowLabels = labels(row);
  std::span<const int32_t> rowSegments;
  if (hasSegmentIds())
    rowSegments = segmentIds(row);
  int64_t count = 0;
  for (size_t i = 1; i < rowLabels.size(); ++i)
    count += rowLabels[i] != ignoredLabel &&
             (rowSegments.empty() || rowSegments[i] == rowSegments[i - 1]);
  return count;
}

Status TokenFile::check(int64_t vocab) const {
  const std::string range = "[0, " + std::to_string(vocab) + ")";
  for (size_t i = 0; i < ids.values.size(); ++i)
    if (ids.values[i] < 0 || ids.values[i] >= vocab)
      return badInput(name + ": input_ids: " + place(i, rowLength) + ": " +
                      std::to_string(ids.values[i]) +
                      " is outside the model's vocabulary " + range +
                      "; was it made with another tokenizer?");
  for (size_t i = 0; i < targets.values.size(); ++i)
    if (const int32_t label = targets.values[i];
        label != ignoredLabel && (label < 0 || label >= vocab))
      return badInput(name + ": labels: " + place(i, rowLength) + ": " +
                      std::to_string(label) +
                      " is neither -100 (not trained) nor in the model's "
                      "vocabulary " +
                      range);
  for (size_t i = 0; i < positions.values.size(); ++i)
    if (positions.values[i] < 0)
      return badInput(name + ": position_ids: " + place(i, rowLength) + ": " +
                      std::to_string(positions.values[i]) + " is negative");
  for (int64_t row = 0; row < rowCount; ++row)
    if (trainedTokens(row) > 0)
      return Status();
  return badInput(name +
                  ": no token is trained: every label is -100, or stands "
                  "where no token precedes it (position 0 of a row, or of a "
                  "segment)");
}
