//===- WrittenWeight.h - a weight on its way to a file ----------*- C++ -*-===//
#ifndef PEFT_MERGE_WRITTENWEIGHT_H
#define PEFT_MERGE_WRITTENWEIGHT_H

#include "AdapterChanges.h"
#include "BaseWeights.h"

#include <functional>
#include <vector>

namespace peft {

/// The exact values of some rows of a weight: `base` as it was, `values` as it
/// becomes. Both hold whole rows; `values` starts as a copy of `base`.
using ChangeRows =
    std::function<void(uint64_t firstRow, std::span<const float> base,
                       std::span<double> values)>;

/// W + s B A, and with a magnitude each row brought to that length. Values are
/// sums in f64 in the order of the ranks.
class LowRankRows {
public:
  static Expected<LowRankRows> read(const SafetensorsFile &file,
                                    const LowRankChange &change);

  void operator()(uint64_t firstRow, std::span<const float> base,
                  std::span<double> values) const;

private:
  uint64_t rank = 0, columns = 0;
  double scale = 0;
  std::vector<float> left;      ///< [rows, rank]
  std::vector<float> right;     ///< [rank, columns]
  std::vector<float> magnitude; ///< [rows], or empty
};

/// A base that is not written, only compared with; null: none.
struct OtherBase {
  const BaseWeight *weight = nullptr;
  RoundingLoss *loss = nullptr; ///< of what it would have given
};

/// Writes `base`, changed by `change` if there is one, rounded once to `dtype`,
/// some rows at a time on all cores. What the rounding loses is added to
/// `loss`. An error where a value is not finite in that type.
Status writeWeight(const BaseWeight &base, DType dtype,
                   const ChangeRows &change, FileSink &sink,
                   RoundingLoss &loss, const OtherBase &other = {});

} // namespace peft

#endif // PEFT_MERGE_WRITTENWEIGHT_H
