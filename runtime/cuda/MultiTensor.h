//===- MultiTensor.h - one launch over many tensors -------------*- C++ -*-===//
//
// A plan has one launch of adamw or adamw8bit, of norm_square and of fill_zero
// per trained tensor, most of them small. The device merges a run of them: at
// load it cuts every tensor into parts, puts the parts of all in a table in
// device memory, and launches one block per part. A table is plain data:
//
//   std::vector<AdamwPart> parts;
//   for (const Call &call : run) appendParts(call, parts);
//   // copy to the device once; then, per step
//   adamwTable(call, deviceParts, parts.size(), adam);
//
// Of the call only the gate, the stream and the workspace are used. Merged
// launches need the same gate, and norm_square ones the same sum; the caller
// sees to that. AdamW's and zero's results are the same bits as one by one; a
// merged norm adds its parts in another order.
//
//===----------------------------------------------------------------------===//
#ifndef PEFT_CUDA_MULTITENSOR_H
#define PEFT_CUDA_MULTITENSOR_H

#include "cuda/Call.h"

#include <vector>

namespace peft::cuda {

/// Part of the tensors of one adamw launch; pointers to its first elements.
struct AdamwPart {
  float *parameter = nullptr;
  const float *gradient = nullptr;
  float *firstMoment = nullptr, *secondMoment = nullptr;
  double rateFactor = 1;
  int32_t decay = 0;
  uint32_t elements = 0; ///< at most cudaTensorPart
};

/// Codes, and their magnitudes by blocks of momentBlock elements.
struct CodedMoment {
  uint8_t *codes = nullptr;
  float *scales = nullptr;
};

/// Part of the tensors of one adamw8bit launch. It begins at a block of
/// moments.
struct CodedAdamwPart {
  float *parameter = nullptr;
  const float *gradient = nullptr;
  CodedMoment first, second;
  double rateFactor = 1;
  int32_t decay = 0;
  uint32_t elements = 0; ///< at most cudaTensorPart
};

struct NormPart {
  const float *x = nullptr;
  uint64_t elements = 0;
};

struct ZeroPart {
  std::byte *y = nullptr;
  uint64_t bytes = 0; ///< a multiple of 2
};

/// Cuts the tensors of a call (of adamw, adamw8bit, norm_square, fill_zero)
/// into parts.
void appendParts(const Call &adamw, std::vector<AdamwPart> &parts);
void appendParts(const Call &adamw8bit, std::vector<CodedAdamwPart> &parts);
void appendParts(const Call &normSquare, std::vector<NormPart> &parts);
void appendParts(const Call &fillZero, std::vector<ZeroPart> &parts);

/// `parts` and `adam` (the 8 scalars of finish_step) are device memory.
Status adamwTable(const Call &call, const AdamwPart *parts, size_t count,
                  const double *adam);
Status adamw8bitTable(const Call &call, const CodedAdamwPart *parts,
                      size_t count, const double *adam);
/// sum += the squares of all parts. The workspace holds 8 bytes a part.
Status normSquareTable(const Call &call, const NormPart *parts, size_t count,
                       double *sum);
Status fillZeroTable(const Call &call, const ZeroPart *parts, size_t count);

} // namespace peft::cuda

#endif // PEFT_CUDA_MULTITENSOR_H
