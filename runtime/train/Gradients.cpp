//===- Gradients.cpp - looking at the gradients of a step -----------------===//
#include "Gradients.h"

#include "Line.h"
#include "peft/FloatTypes.h"
#include "peft/Safetensors.h"

#include <algorithm>
#include <cmath>

using namespace peft;

namespace {
constexpr uint64_t chunkElements = 1 << 14;

bool isZero(std::span<const float> values) {
  return std::ranges::all_of(values, [](float x) { return x == 0; });
}

bool isFinite(std::span<const float> values) {
  return std::ranges::all_of(values, [](float x) { return std::isfinite(x); });
}

/// "[3, 17]" of element `index` in row-major order.
std::string position(const std::vector<uint64_t> &shape, uint64_t index) {
  std::string text;
  for (size_t i = shape.size(); i-- > 0;) {
    text = std::to_string(index % shape[i]) + (text.empty() ? "" : ", ") + text;
    index /= shape[i];
  }
  return "[" + text + "]";
}

std::string describeValue(const std::string &what,
                          const std::vector<uint64_t> &shape, uint64_t index,
                          float value) {
  std::string place = what + " " + position(shape, index) + " is ";
  if (std::isfinite(value)) {
    Line number;
    number << static_cast<double>(value);
    return place + std::string(number.view()) + ", more than f16 can hold";
  }
  return place + (std::isnan(value) ? "NaN"
                  : value > 0       ? "infinite"
                                    : "minus infinite");
}

/// The first element of a mapped weight that is not finite, or would not be
/// once rounded to f16 (`asHalf`); or its element count.
uint64_t firstNonFinite(std::span<const std::byte> bytes, DType type,
                        bool asHalf, float &value) {
  uint64_t count = bytes.size() / byteSize(type);
  for (uint64_t i = 0; i < count; ++i) {
    value = loadFloat(bytes.data(), type, i);
    bool held = !asHalf || std::isfinite(halfToFloat(floatToHalf(value)));
    if (!held || !std::isfinite(value))
      return i;
  }
  return count;
}

/// By weight, whether a matrix product reads it, which rounds it to the compute
/// type; norms and embeddings use theirs as stored.
std::vector<bool> weightsOfProducts(const Plan &plan) {
  std::vector<uint32_t> weightOf(plan.buffers.size(), none);
  for (size_t i = 0; i < plan.buffers.size(); ++i)
    weightOf[i] = plan.buffers[i].weight;
  for (const Initializer &start : plan.initializers)
    if (start.kind == Initializer::Kind::weight)
      weightOf[start.buffer] = start.weight;
  std::vector<bool> result(plan.weights.size());
  for (const Entry &entry : plan.entries)
    for (const Item &item : entry.items)
      if (auto *launch = std::get_if<Launch>(&item.action);
          launch && (launch->kernel.starts_with("linear_") ||
                     launch->kernel.starts_with("lora_")))
        for (uint32_t operand : launch->operands)
          if (operand != none && weightOf[operand] != none)
            result[weightOf[operand]] = true;
  return result;
}

/// Walks a tensor in chunks through `read(offset, span)`.
template <typename Read>
Expected<std::string> scan(const std::string &what,
                           const std::vector<uint64_t> &shape, uint64_t count,
                           const Read &read) {
  std::vector<float> values(std::min(count, chunkElements));
  for (uint64_t offset = 0; offset < count; offset += values.size()) {
    values.resize(std::min<uint64_t>(values.size(), count - offset));
    PEFT_TRY(read(offset, std::span<float>(values)));
    for (uint64_t i = 0; i < values.size(); ++i)
      if (!std::isfinite(values[i]))
        return describeValue(what, shape, offset + i, values[i]);
  }
  return std::string();
}
} // namespace

GradientReader::GradientReader(Executor &executor)
    : executor(executor), chunk(chunkElements), part(chunkElements),
      partners(executor.plan().parameters.size(), SIZE_MAX) {
  const std::vector<Parameter> &parameters = executor.plan().parameters;
  for (size_t i = 0; i < parameters.size(); ++i) {
    std::string name = parameters[i].name;
    size_t at = name.find("lora_A");
    if (at == std::string::npos)
      continue;
    name.replace(at, 6, "lora_B");
    for (size_t j = 0; j < parameters.size(); ++j)
      if (parameters[j].name == name) {
        partners[i] = j;
        partners[j] = i;
      }
  }
}

Status GradientReader::readTotal(size_t parameter, uint64_t offset,
                                 uint64_t count) {
  std::span<float> total(chunk.data(), count), more(part.data(), count);
  size_t uses = executor.plan().parameters[parameter].gradients.size();
  for (size_t use = 0; use < uses; ++use) {
    PEFT_TRY(
        executor.readGradient(parameter, use, offset, use == 0 ? total : more));
    for (uint64_t i = 0; use > 0 && i < count; ++i)
      total[i] += more[i];
  }
  return {};
}

template <typename Test>
Expected<bool> GradientReader::everyGradient(size_t parameter, Test test) {
  uint64_t count = executor.parameterElements(parameter);
  size_t uses = executor.plan().parameters[parameter].gradients.size();
  for (uint64_t offset = 0; offset < count; offset += chunkElements) {
    std::span<float> values(chunk.data(),
                            std::min(chunkElements, count - offset));
    for (size_t use = 0; use < uses; ++use) {
      PEFT_TRY(executor.readGradient(parameter, use, offset, values));
      if (!test(std::span<const float>(values)))
        return false;
    }
  }
  return true;
}

Expected<bool> GradientReader::allFinite() {
  for (size_t i = 0; i < executor.plan().parameters.size(); ++i) {
    PEFT_ASSIGN(bool finite, everyGradient(i, isFinite));
    if (!finite)
      return false;
  }
  return true;
}

Expected<bool> GradientReader::parameterIsZero(size_t parameter) {
  uint64_t count = executor.parameterElements(parameter);
  for (uint64_t offset = 0; offset < count; offset += chunkElements) {
    std::span<float> values(chunk.data(),
                            std::min(chunkElements, count - offset));
    PEFT_TRY(executor.readParameter(parameter, offset, values));
    if (!isZero(values))
      return false;
  }
  return true;
}

Expected<std::string> GradientReader::requireGradients() {
  const std::vector<Parameter> &parameters = executor.plan().parameters;
  std::string tooSmall;
  for (size_t i = 0; i < parameters.size(); ++i) {
    PEFT_ASSIGN(bool zero, everyGradient(i, isZero));
    if (!zero || !parameters[i].trains())
      continue;
    bool excused = parameters[i].zeroGradientAtStart;
    if (partners[i] != SIZE_MAX) {
      PEFT_ASSIGN(excused, parameterIsZero(partners[i]));
    }
    if (excused)
      continue;
    if (executor.plan().compute != DType::f16)
      return badInput("the gradient of " + parameters[i].name +
                      " is all zero after the first step, so nothing that is "
                      "trained depends on it; take it out of the targets, or "
                      "look at the labels");
    if (tooSmall.empty())
      tooSmall = "the gradient of " + parameters[i].name +
                 " is all zero after the first step: nothing that is trained "
                 "depends on it, or it is too small for f16";
  }
  return tooSmall;
}

Status GradientReader::dump(const std::string &path, double divisor) {
  const Plan &plan = executor.plan();
  std::vector<TensorToWrite> tensors;
  for (size_t i = 0; i < plan.parameters.size(); ++i) {
    if (!plan.parameters[i].trains())
      continue;
    TensorToWrite tensor;
    tensor.name = plan.parameters[i].name;
    for (uint64_t extent : plan.buffers[plan.parameters[i].buffer].shape)
      tensor.shape.push_back(static_cast<int64_t>(extent));
    tensor.produce = [this, i, divisor](FileSink &sink) -> Status {
      uint64_t count = executor.parameterElements(i);
      for (uint64_t offset = 0; offset < count; offset += chunkElements) {
        uint64_t length = std::min(chunkElements, count - offset);
        PEFT_TRY(readTotal(i, offset, length));
        for (uint64_t j = 0; j < length; ++j)
          chunk[j] =
              static_cast<float>(static_cast<double>(chunk[j]) / divisor);
        PEFT_TRY(sink.write(std::as_bytes(std::span(chunk).first(length))));
      }
      return {};
    };
    tensors.push_back(std::move(tensor));
  }
  return writeSafetensors(path, std::move(tensors));
}

Expected<std::string> peft::findNonFinite(const Executor &executor,
                                          const ModelDirectory &model) {
  const Plan &plan = executor.plan();
  std::vector<bool> rounded(plan.weights.size());
  if (plan.compute == DType::f16)
    rounded = weightsOfProducts(plan);
  for (size_t i = 0; i < plan.weights.size(); ++i) {
    const Weight &weight = plan.weights[i];
    std::span<const std::byte> bytes = executor.weights().bytes[i];
    float value = 0;
    uint64_t at = firstNonFinite(bytes, weight.dtype, rounded[i], value);
    if (at == bytes.size() / byteSize(weight.dtype))
      continue;
    ModelDirectory::Tensor source = model.find(weight.name);
    return describeValue("weight " + weight.name, weight.shape, at, value) +
           (source ? " in " + source.shard->path : std::string());
  }
  for (bool gradients : {false, true}) {
    for (size_t i = 0; i < plan.parameters.size(); ++i) {
      const Parameter &parameter = plan.parameters[i];
      for (size_t use = 0; use < (gradients ? parameter.gradients.size() : 1);
           ++use) {
        auto read = [&](uint64_t offset, std::span<float> values) {
          return gradients ? executor.readGradient(i, use, offset, values)
                           : executor.readParameter(i, offset, values);
        };
        PEFT_ASSIGN(std::string found,
                    scan((gradients ? "the gradient of " : "trained tensor ") +
                             parameter.name,
                         plan.buffers[parameter.buffer].shape,
                         executor.parameterElements(i), read));
        if (!found.empty())
          return found;
      }
    }
  }
  return std::string();
}
