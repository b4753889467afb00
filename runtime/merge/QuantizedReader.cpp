//===- QuantizedReader.cpp - quantized weights as f32 values --------------===//
#include "BaseWeights.h"

#include "peft/FloatTypes.h"
#include "peft/QuantizedTensor.h"

#include <algorithm>

using namespace peft;

namespace {

/// Codes and scales of a weight, and the values they stand for.
class QuantizedReader final : public WeightReader {
public:
  QuantizedReader(const QuantizedTensor &tensor, QuantizedParts parts)
      : format(tensor.format),
        columns(static_cast<uint64_t>(tensor.shape.back())),
        parts(std::move(parts)) {}

  Status read(uint64_t first, std::span<float> values) const override;
  void forget() const override {}

private:
  float scale(uint64_t index) const;

  QuantFormat format;
  uint64_t columns;
  QuantizedParts parts;
};

float floatAt(ByteSpan bytes, uint64_t index) {
  return loadFloat(bytes.data(), DType::f32, index);
}

} // namespace

/// Of a block, or of a row of int8.
float QuantizedReader::scale(uint64_t index) const {
  if (!format.nested)
    return floatAt(parts.absmax, index);
  const float *tables = parts.tables.data();
  return nestedScale(std::span<const float, 256>(tables + 16, 256),
                     static_cast<uint8_t>(parts.absmax[index]),
                     floatAt(parts.nestedAbsmax, index / format.nested),
                     tables[16 + 256]);
}

/// Whole blocks, or rows, are computed and what was asked for is taken of them.
Status QuantizedReader::read(uint64_t first, std::span<float> values) const {
  const uint64_t block = format.block ? format.block : columns;
  const uint64_t start = first / block * block;
  const uint64_t count = first + values.size() - start;
  std::vector<float> scales(blockCount(count, block));
  for (uint64_t i = 0; i < scales.size(); ++i)
    scales[i] = scale(start / block + i);
  std::vector<float> whole(format.block ? count : scales.size() * columns);
  if (format.block)
    dequantizeBlocks(parts.codes.data() + start / 2, count,
                     std::span<const float, 16>(parts.tables.data(), 16),
                     format.block, scales.data(), whole.data());
  else
    dequantizeRows(parts.codes.data() + start, scales.size(), columns,
                   scales.data(), whole.data());
  std::copy_n(whole.data() + (first - start), values.size(), values.data());
  return {};
}

Expected<BaseWeight> peft::quantizedAsWeight(MappedModel &files,
                                             const QuantizedTensor &tensor,
                                             DType dtype) {
  PEFT_ASSIGN(QuantizedParts parts, files.parts(tensor));
  BaseWeight weight;
  weight.name = tensor.name;
  weight.shape = tensor.shape;
  weight.dtype = tensor.sourceType.value_or(dtype);
  weight.quantized = true;
  weight.reader = std::make_shared<QuantizedReader>(tensor, std::move(parts));
  return weight;
}
