//===- Dropout.h - masks of LoRA modules, in device code --------*- C++ -*-===//
//
// The same bits as the CPU device's masks (peft/Philox.h): Philox4x32-10 keyed
// by module, seed and step, counted by position. Seed, step, first row, index
// and count are read by the kernel, so a captured launch follows them.
//
//===----------------------------------------------------------------------===//
#ifndef PEFT_CUDA_DROPOUT_H
#define PEFT_CUDA_DROPOUT_H

#include "cuda/RowIndex.h"
#include "peft/Philox.h"

namespace peft::cuda {

/// Dropout as the operands and attributes of a kernel say.
struct Dropout {
  bool active = false;
  uint32_t threshold = 0; ///< a feature is kept iff its word is not below
  float scale = 1;        ///< of a kept value: 1 / (1 - p)
  uint64_t moduleKey = 0;
  const int64_t *seed = nullptr;
  const int32_t *step = nullptr, *firstRow = nullptr;
  const int32_t *index = nullptr; ///< indexSize places, or null
  uint64_t indexSize = 0;
  uint32_t seq = 1;
};

/// The enumerators of a kernel.
struct DropoutNames {
  int index, seed, step, firstRow; ///< operands
  int dropout, moduleKey, seq;     ///< attributes
};

inline Dropout readDropout(const Call &call, const DropoutNames &names) {
  Dropout result;
  const double probability = call.real(names.dropout);
  result.active = probability > 0;
  if (!result.active)
    return result;
  result.threshold = dropoutThreshold(probability);
  result.scale = static_cast<float>(1.0 / (1.0 - probability));
  result.moduleKey = static_cast<uint64_t>(call.integer(names.moduleKey));
  result.seed = call[names.seed].as<int64_t>();
  result.step = call[names.step].as<int32_t>();
  result.firstRow = call[names.firstRow].as<int32_t>();
  result.index = call[names.index].as<int32_t>();
  result.indexSize = call[names.index].columns;
  result.seq = static_cast<uint32_t>(call.integer(names.seq));
  return result;
}

/// How many rows are computed: those that the count leaves; none if the index
/// is too short for them, which one thread of the launch (`reports`) names.
__device__ inline uint64_t usableRows(const RowLimit &limit,
                                      const Dropout &dropout, FaultSlot *fault,
                                      bool reports) {
  const uint64_t wanted = activeRows(limit.count, limit.rowStart, limit.rows);
  if (!dropout.active || !dropout.index || !wanted)
    return wanted;
  const uint64_t start = uint64_t(limit.rowStart);
  if (start + wanted <= dropout.indexSize)
    return wanted;
  if (reports)
    report(fault, FaultKind::count, int64_t(start + wanted),
           int64_t(dropout.indexSize));
  return 0;
}

/// The four words of a counter (x, y, z, 0).
__device__ inline uint4 philoxWords(uint32_t x, uint32_t y, uint32_t z,
                                    PhiloxKey key) {
  uint32_t w = 0;
#pragma unroll
  for (unsigned i = 0; i < 10; ++i) {
    const uint64_t a = uint64_t(0xD2511F53u) * x;
    const uint64_t b = uint64_t(0xCD9E8D57u) * z;
    x = uint32_t(b >> 32) ^ y ^ key.low;
    y = uint32_t(b);
    z = uint32_t(a >> 32) ^ w ^ key.high;
    w = uint32_t(a);
    key.low += 0x9E3779B9u;
    key.high += 0xBB67AE85u;
  }
  return make_uint4(x, y, z, w);
}

/// Counter words 1 and 2 of a row of the launch.
struct DropoutPlace {
  uint32_t token, row;
};

/// A thread's view of the masks of a launch, once the scalars are read.
class DropoutMasks {
public:
  __device__ DropoutMasks(const Dropout &dropout, int64_t rowStart)
      : index(dropout.index), rowStart(uint64_t(rowStart)), seq(dropout.seq),
        threshold(dropout.threshold), scale(dropout.scale) {
    if (!dropout.active)
      return;
    key = dropoutKey(dropout.moduleKey, *dropout.seed, *dropout.step);
    firstRow = uint32_t(*dropout.firstRow);
  }

  /// `row` is one that usableRows() leaves.
  __device__ DropoutPlace place(uint64_t row) const {
    const uint64_t flat = rowStart + row;
    const uint32_t position = index ? uint32_t(index[flat]) : uint32_t(flat);
    return {position % seq, firstRow + position / seq};
  }

  /// What features 4 block .. 4 block + 3 are multiplied with.
  __device__ float4 factors(DropoutPlace at, uint32_t block) const {
    const uint4 words = philoxWords(block, at.token, at.row, key);
    return make_float4(factor(words.x), factor(words.y), factor(words.z),
                       factor(words.w));
  }
  __device__ float factor(DropoutPlace at, uint64_t feature) const {
    const float4 four = factors(at, uint32_t(feature / 4));
    const float values[4] = {four.x, four.y, four.z, four.w};
    return values[feature % 4];
  }

private:
  __device__ float factor(uint32_t word) const {
    return word >= threshold ? scale : 0.0f;
  }

  const int32_t *index;
  uint64_t rowStart;
  PhiloxKey key;
  uint32_t firstRow = 0, seq, threshold;
  float scale;
};

/// A masked value: zero where the factor is, whatever the value.
__device__ inline float masked(float value, float factor) {
  return factor == 0.0f ? 0.0f : value * factor;
}

} // namespace peft::cuda

#endif // PEFT_CUDA_DROPOUT_H
