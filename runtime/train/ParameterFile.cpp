//===- ParameterFile.cpp - a trained tensor on its way to a file ----------===//
#include "ParameterFile.h"

#include "peft/FloatTypes.h"

#include <algorithm>
#include <cmath>

using namespace peft;

std::string peft::describeShape(const std::vector<uint64_t> &shape) {
  std::string text = "[";
  for (uint64_t extent : shape)
    text += (text.size() > 1 ? ", " : "") + std::to_string(extent);
  return text + "]";
}

Status peft::checkHeld(const std::string &tensor, DType type,
                       std::span<const float> values) {
  if (type != DType::f16)
    return {};
  for (float value : values)
    if (std::isfinite(value) &&
        !std::isfinite(halfToFloat(floatToHalf(value))))
      return Status::error(Code::nonFinite,
                           tensor + " holds " + std::to_string(value) +
                               ", more than f16 can hold; take --save-dtype "
                               "bf16 or f32");
  return {};
}

TensorToWrite peft::parameterToWrite(const Executor &executor, size_t index,
                                     DType type) {
  const Plan &plan = executor.plan();
  const Parameter &parameter = plan.parameters[index];
  TensorToWrite tensor;
  tensor.name = parameter.name;
  tensor.dtype = type;
  for (uint64_t extent : plan.buffers[parameter.buffer].shape)
    tensor.shape.push_back(static_cast<int64_t>(extent));
  tensor.produce = [&executor, index, type](FileSink &sink) -> Status {
    constexpr uint64_t piece = 1 << 16;
    uint64_t count = executor.parameterElements(index);
    std::vector<float> values(std::min(count, piece));
    std::vector<std::byte> stored(values.size() * byteSize(type));
    for (uint64_t offset = 0; offset < count; offset += piece) {
      std::span<float> part(values.data(), std::min(piece, count - offset));
      PEFT_TRY(executor.readParameter(index, offset, part));
      PEFT_TRY(checkHeld(executor.plan().parameters[index].name, type, part));
      for (uint64_t i = 0; i < part.size(); ++i)
        storeFloat(stored.data(), type, i, part[i]);
      PEFT_TRY(
          sink.write(std::span(stored).first(part.size() * byteSize(type))));
    }
    return {};
  };
  return tensor;
}
