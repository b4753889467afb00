//===- BaseWeights.cpp - the weights of a base, as f32 values -------------===//
#include "BaseWeights.h"

#include "peft/FloatTypes.h"
#include "peft/NestedNames.h"

using namespace peft;

namespace {

/// A tensor of a type that holds f32 values.
class PlainReader final : public WeightReader {
public:
  PlainReader(const SafetensorsFile &file, const TensorHeader &tensor)
      : file(file), tensor(tensor) {}

  Status read(uint64_t first, std::span<float> values) const override {
    const std::byte *data = file.bytes(tensor).data();
    for (uint64_t i = 0; i < values.size(); ++i)
      values[i] = loadFloat(data, *tensor.dtype, first + i);
    return {};
  }
  void forget() const override { file.forget(tensor); }

private:
  const SafetensorsFile &file;
  const TensorHeader &tensor;
};

} // namespace

uint64_t BaseWeight::elementCount() const {
  uint64_t count = 1;
  for (int64_t extent : shape)
    count *= static_cast<uint64_t>(extent);
  return count;
}

uint64_t BaseWeight::rowSize() const {
  return shape.empty() ? 1 : static_cast<uint64_t>(shape.back());
}

BaseWeight peft::tensorAsWeight(const SafetensorsFile &file,
                                const TensorHeader &tensor) {
  BaseWeight weight;
  weight.name = tensor.name;
  weight.path = file.path();
  weight.shape = tensor.shape;
  weight.dtype = *tensor.dtype;
  weight.isFloat = peft::isFloat(*tensor.dtype);
  weight.bytes = file.bytes(tensor);
  weight.reader = std::make_shared<PlainReader>(file, tensor);
  return weight;
}

/// Each stands for several tensors, which are no weights by themselves.
Status BaseWeights::addQuantized(const ModelDirectory &model, DType dtype) {
  for (const std::string &name : quantizedWeights(model)) {
    PEFT_ASSIGN(std::optional<QuantizedTensor> tensor,
                findQuantized(model, name));
    if (!tensor)
      continue;
    const std::string module = name.substr(0, name.rfind(".weight"));
    std::erase_if(weights, [&](const auto &entry) {
      return entry.first.starts_with(name + ".") ||
             entry.first == module + ".SCB" ||
             entry.first == module + ".weight_format";
    });
    PEFT_ASSIGN(weights[name], quantizedAsWeight(mapped, *tensor, dtype));
  }
  return {};
}

Expected<std::unique_ptr<BaseWeights>>
BaseWeights::open(const ModelDirectory &model, DType dtype) {
  auto result = std::make_unique<BaseWeights>();
  for (const WeightShard &shard : model.shards) {
    PEFT_ASSIGN(SafetensorsFile file, SafetensorsFile::open(shard.path));
    result->files.emplace(shard.path, std::move(file));
  }
  for (const auto &[path, file] : result->files)
    for (const TensorHeader &tensor : file.header().tensors) {
      if (!tensor.dtype)
        return badInput(path + ": " + tensor.name + " is stored as " +
                        tensor.type + ", which cannot be copied");
      result->weights[tensor.name] = tensorAsWeight(file, tensor);
    }
  PEFT_TRY(result->addQuantized(model, dtype));
  return result;
}

const BaseWeight *BaseWeights::find(const std::string &name) const {
  auto at = weights.find(name);
  if (at == weights.end())
    if (const auto other = otherNestedName(name))
      at = weights.find(*other);
  return at == weights.end() ? nullptr : &at->second;
}
