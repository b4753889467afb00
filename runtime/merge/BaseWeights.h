//===- BaseWeights.h - the weights of a base, as f32 values -----*- C++ -*-===//
#ifndef PEFT_MERGE_BASEWEIGHTS_H
#define PEFT_MERGE_BASEWEIGHTS_H

#include "peft/ModelDirectory.h"
#include "peft/QuantizedTensor.h"

#include <map>
#include <memory>
#include <span>
#include <string>
#include <vector>

namespace peft {

/// Reads one weight, however it is stored.
class WeightReader {
public:
  virtual ~WeightReader() = default;
  /// Elements [first, first + values.size()) of the row-major weight.
  virtual Status read(uint64_t first, std::span<float> values) const = 0;
  /// The weight is not read again soon: its memory can go.
  virtual void forget() const = 0;
};

struct BaseWeight {
  std::string name; ///< of the tensor, as an unquantized model would have it
  std::string path; ///< of its file; empty where it is of several tensors
  std::vector<int64_t> shape;
  DType dtype = DType::f32; ///< what an unquantized model would store it as
  bool isFloat = true;      ///< else it can only be copied
  bool quantized = false;
  /// Its bytes, where it is stored as `dtype`; else empty.
  ByteSpan bytes;
  std::shared_ptr<const WeightReader> reader;

  uint64_t elementCount() const;
  /// Elements of a row: of the last dimension.
  uint64_t rowSize() const;
};

/// A tensor of `file`, whose type must be one that plans can hold. Both must
/// outlive the result.
BaseWeight tensorAsWeight(const SafetensorsFile &file,
                          const TensorHeader &tensor);

/// A quantized weight, whose scales are checked. It has `dtype` where its file
/// does not say what it had before. `files` must outlive the result.
Expected<BaseWeight> quantizedAsWeight(MappedModel &files,
                                       const QuantizedTensor &tensor,
                                       DType dtype);

/// The weights of a model directory by name, quantized or not. Files stay
/// mapped as long as this object lives; it must not move while weights are in
/// use.
class BaseWeights {
public:
  /// `dtype` is what a weight has whose file does not say.
  static Expected<std::unique_ptr<BaseWeights>>
  open(const ModelDirectory &model, DType dtype);

  const std::map<std::string, BaseWeight> &all() const { return weights; }
  /// By this name, or by the other one of a text model inside another.
  const BaseWeight *find(const std::string &name) const;

private:
  Status addQuantized(const ModelDirectory &model, DType dtype);

  std::map<std::string, SafetensorsFile> files; ///< by path
  MappedModel mapped;                           ///< of quantized weights
  std::map<std::string, BaseWeight> weights;
};

} // namespace peft

#endif // PEFT_MERGE_BASEWEIGHTS_H
