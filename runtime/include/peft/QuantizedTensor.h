//===- QuantizedTensor.h - quantized weights in a model ---------*- C++ -*-===//
//
// bitsandbytes stores a weight P.weight of 4 bits as several tensors:
//   P.weight                                 codes: uint8, or the bytes as another
//                                            type (quant_storage); any shape
//   P.weight.absmax                          f32 [blocks]; nested: u8 [blocks]
//   P.weight.quant_map                       f32 [16]
//   P.weight.nested_absmax                   f32 [ceil(blocks / nested)]
//   P.weight.nested_quant_map                f32 [256]
//   P.weight.quant_state.bitsandbytes__nf4   u8: a JSON text (or __fp4)
// and one of 8 bits as P.weight (i8 [n, k]), P.SCB (f32 [n]) and, mostly,
// P.weight_format (u8: 0). All of it is checked here: every error is badInput
// and names the file, the tensor and what was expected.
//
//===----------------------------------------------------------------------===//
#ifndef PEFT_QUANTIZEDTENSOR_H
#define PEFT_QUANTIZEDTENSOR_H

#include "peft/ModelDirectory.h"
#include "peft/Quantize.h"
#include "peft/Status.h"

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace peft {

struct QuantizedTensor {
  std::string name; ///< "P.weight"
  QuantFormat format;
  std::vector<int64_t> shape; ///< [n, k]
  /// The type the weight had before; absent with int8, which does not say.
  std::optional<DType> sourceType;
  float nestedOffset = 0;
  /// Where the parts lie; of nested scales and int8 those that there are.
  ModelDirectory::Tensor codes, absmax, nestedAbsmax, quantMap, nestedQuantMap;

  uint64_t elementCount() const;
  uint64_t scaleCount() const; ///< blocks, or rows of int8
  /// "nf4[2048, 5632] in blocks of 64, nested 256"
  std::string describe() const;
};

/// The text of a quant_state, as bitsandbytes packs it.
struct QuantState {
  QuantFormat format;
  std::vector<int64_t> shape;
  DType sourceType = DType::bf16;
  float nestedOffset = 0;
};
/// `what` names the text in errors; `type` is what its tensor's name ends with.
Expected<QuantState> parseQuantState(std::string_view text, DType type,
                                     const std::string &what);
/// The text that bitsandbytes would write.
std::string writeQuantState(const QuantState &state);

/// "nf4" -> the suffix of P.weight under which the quant_state is stored.
std::string quantStateSuffix(DType type);
/// The name of a part: P.weight -> P.weight.absmax, or P.SCB with int8.
std::string scalesName(std::string_view weight, DType type);

/// The quantized tensor behind a weight's name; nothing when the weight is
/// stored as it is, or not at all. Reads headers and the quant_state, no
/// weights: for the compiler.
Expected<std::optional<QuantizedTensor>>
findQuantized(const ModelDirectory &model, std::string_view weight);

/// Names of all quantized weights of a model, sorted.
std::vector<std::string> quantizedWeights(const ModelDirectory &model);

/// The parts' bytes, in the model's mapped files.
struct QuantizedParts {
  ByteSpan codes, absmax, nestedAbsmax; ///< the last only with nested scales
  /// f32: quant_map [16]; with nested scales then nested_quant_map [256] and
  /// the offset [1]. Empty with int8.
  std::vector<float> tables;
};

/// Maps the files of a model, each at its first use.
class MappedModel {
public:
  /// The bytes of a tensor of the model. Error io: the file became shorter.
  Expected<ByteSpan> bytes(const ModelDirectory::Tensor &tensor);
  /// The parts of a quantized tensor. Every scale and table is read: one that
  /// is NaN, infinite or (an absmax) negative is an error that says where.
  Expected<QuantizedParts> parts(const QuantizedTensor &tensor);

private:
  std::vector<MappedFile> files;
};

} // namespace peft

#endif // PEFT_QUANTIZEDTENSOR_H
