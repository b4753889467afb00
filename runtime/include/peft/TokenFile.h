//===- TokenFile.h - rows of token ids --------------------------*- C++ -*-===//
//
// A data set is a safetensors file with `input_ids` and `labels`, [rows, seq],
// int32 (int64 is accepted and converted), optionally `position_ids` and
// `segment_ids` of the same shape. Labels are not shifted; -100 means "not
// trained", and labels[row, 0] never counts because nothing precedes it.
//
//===----------------------------------------------------------------------===//
#ifndef PEFT_TOKENFILE_H
#define PEFT_TOKENFILE_H

#include "peft/Safetensors.h"
#include "peft/Status.h"

#include <cstdint>
#include <span>
#include <string>
#include <vector>

namespace peft {

inline constexpr int32_t ignoredLabel = -100;

class TokenFile {
public:
  /// Maps the file; int32 tensors are read in place.
  static Expected<TokenFile> open(const std::string &path);
  /// The same on bytes in memory, which must outlive the result.
  static Expected<TokenFile> parse(ByteSpan bytes, const std::string &what);

  const std::string &path() const { return name; }
  int64_t rows() const { return rowCount; }
  int64_t seq() const { return rowLength; }
  bool hasPositionIds() const { return !positions.values.empty(); }
  bool hasSegmentIds() const { return !segments.values.empty(); }

  /// The names of tensors that mean nothing here ("attention_mask"), or "".
  const std::string &ignored() const { return others; }

  /// Row accessors: [seq], no allocation, valid as long as this object.
  std::span<const int32_t> inputIds(int64_t row) const { return at(ids, row); }
  std::span<const int32_t> labels(int64_t row) const {
    return at(targets, row);
  }
  std::span<const int32_t> positionIds(int64_t row) const {
    return at(positions, row); ///< only if hasPositionIds()
  }
  std::span<const int32_t> segmentIds(int64_t row) const {
    return at(segments, row); ///< only if hasSegmentIds()
  }

  /// Tokens of the row that are trained: their label is not -100, they are
  /// not at position 0 and not the first of a segment.
  int64_t trainedTokens(int64_t row) const;

  /// Reads everything once: ids in [0, vocab), labels -100 or in [0, vocab),
  /// positions not negative, and at least one trained token in the file.
  Status check(int64_t vocab) const;

private:
  struct Column {
    std::span<const int32_t> values; ///< [rows * seq], or empty
    std::vector<int32_t> converted;  ///< where they had to be copied
  };
  std::span<const int32_t> at(const Column &column, int64_t row) const {
    return column.values.subspan(static_cast<size_t>(row * rowLength),
                                 static_cast<size_t>(rowLength));
  }
  Status readColumn(const SafetensorsHeader &header, ByteSpan bytes,
                    const std::string &column, Column &result);

  std::string name, others;
  MappedFile file;
  int64_t rowCount = 0, rowLength = 0;
  Column ids, targets, positions, segments;
};

} // namespace peft

#endif // PEFT_TOKENFILE_H
