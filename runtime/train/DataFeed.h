//===- DataFeed.h - rows of a token file into a plan's batch ----*- C++ -*-===//
//
// Row g of an optimizer step goes to micro-batch g / B, slot g % B. The data
// repeats, epoch after epoch; when it ends in the middle of a step, the next
// epoch goes on there. Only `--epochs` ends: the last step's missing rows are
// padding, which trains nothing.
//
// Padding is token 0, label -100, segment -1: a segment of its own, so that no
// token attends to it and it attends to none.
//
//===----------------------------------------------------------------------===//
#ifndef PEFT_TRAIN_DATAFEED_H
#define PEFT_TRAIN_DATAFEED_H

#include "RowOrder.h"
#include "peft/RunOptions.h"
#include "peft/TokenFile.h"

#include <cstdint>
#include <vector>

namespace peft {

constexpr int32_t paddingSegment = -1;

/// The input ports of a plan: four i32 [rows * seq] buffers.
struct BatchView {
  int32_t *inputIds = nullptr, *labels = nullptr;
  int32_t *positionIds = nullptr, *segmentIds = nullptr;
  uint32_t rows = 0;
  uint64_t seq = 0;
};

/// Copies a row of `file` (not longer than seq) to `slot` and pads it. Returns
/// how many of its tokens are not padding.
uint64_t writeRow(const BatchView &batch, uint32_t slot, const TokenFile &file,
                  int64_t row);
/// A slot without a row: all padding.
void writePaddingRow(const BatchView &batch, uint32_t slot);
/// The trained tokens of a filled batch, as the step counts them: those whose
/// next token is of the same row and segment and has a label.
uint64_t countTrained(const BatchView &batch);
/// Whether some trained token attends to more than itself. If none does, no
/// query or key has a gradient: the softmax over one key is 1.
bool attendsToOthers(const BatchView &batch);
/// Token ids instead of a row; nothing is trained.
void writePrompt(const BatchView &batch, uint32_t slot,
                 std::span<const int32_t> tokens);

/// Opens a token file and checks it against the plan: ids below `vocab`, rows
/// not longer than `seq`, a trained token somewhere.
Expected<TokenFile> openTokens(const std::string &path, uint64_t vocab,
                               uint64_t seq);

/// The rows of a training run, micro-batch after micro-batch.
class DataFeed {
public:
  /// `file` must outlive the feed.
  DataFeed(const TokenFile &file, const TrainOptions &options, uint64_t seed,
           uint32_t batch);

  /// Optimizer steps of the whole run.
  uint64_t steps() const { return stepCount; }
  uint64_t rowsPerStep() const { return stepRows; }

  /// Fills the batch for one micro-batch; allocates nothing. Returns the
  /// tokens that are not padding.
  uint64_t fill(const BatchView &batch, uint64_t step, uint32_t micro);

  /// File rows of a micro-batch, for messages; `none` rows are left out.
  std::vector<uint64_t> rowsOf(uint64_t step, uint32_t micro);

private:
  const TokenFile &file;
  RowOrder order;
  uint32_t batch;
  uint64_t stepRows, rowLimit, stepCount;
};

} // namespace peft

#endif // PEFT_TRAIN_DATAFEED_H
