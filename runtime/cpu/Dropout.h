//===- Dropout.h - the mask of a LoRA module's input ------------*- C++ -*-===//
//
// A mask is never stored: forward and backward draw the same bits again from
// Philox, keyed by module, seed and step and counted by position, so they do
// not depend on threads, on the split into micro-batches or on compaction.
//
//===----------------------------------------------------------------------===//
#ifndef PEFT_CPU_DROPOUT_H
#define PEFT_CPU_DROPOUT_H

#include "Numbers.h"
#include "peft/Philox.h"

namespace peft::cpu {

struct Dropout {
  bool active = false;
  uint32_t threshold = 0; ///< a feature is kept iff its word is not below
  float scale = 1;        ///< of a kept value: 1 / (1 - p)
  PhiloxKey key;
  uint32_t firstRow = 0, seq = 1;
  uint64_t rowStart = 0;
  Operand index;

  /// Counter words 1 and 2 (token, global row) of row `row` of the launch.
  std::array<uint32_t, 2> position(uint64_t row) const {
    uint64_t flat = rowStart + row;
    uint32_t place = index ? loadAt<uint32_t>(index.data, flat)
                           : static_cast<uint32_t>(flat);
    return {place % seq, firstRow + place / seq};
  }

  bool keeps(uint64_t row, uint64_t feature) const {
    auto [token, globalRow] = position(row);
    auto words =
        philox({static_cast<uint32_t>(feature / 4), token, globalRow, 0}, key);
    return words[feature % 4] >= threshold;
  }
};

/// Dropout as the operands and attributes of a kernel say; `names` are its
/// enumerators.
struct DropoutNames {
  int index, seed, step, firstRow;       ///< operands
  int rowStart, dropout, moduleKey, seq; ///< attributes
};

inline Dropout readDropout(const Call &call, const DropoutNames &names) {
  Dropout result;
  double probability = call.real(names.dropout);
  result.active = probability > 0;
  if (!result.active)
    return result;
  result.threshold = dropoutThreshold(probability);
  result.scale = static_cast<float>(1.0 / (1.0 - probability));
  result.key = dropoutKey(static_cast<uint64_t>(call.integer(names.moduleKey)),
                          loadAt<int64_t>(call[names.seed].data, 0),
                          loadAt<int32_t>(call[names.step].data, 0));
  result.firstRow = loadAt<uint32_t>(call[names.firstRow].data, 0);
  result.seq = static_cast<uint32_t>(call.integer(names.seq));
  result.rowStart = static_cast<uint64_t>(call.integer(names.rowStart));
  result.index = call[names.index];
  return result;
}

} // namespace peft::cpu

#endif // PEFT_CPU_DROPOUT_H
