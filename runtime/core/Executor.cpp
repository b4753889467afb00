//===- Executor.cpp - a plan, ready to run --------------------------------===//
#include "peft/Executor.h"

#include "InitialValues.h"

#include <algorithm>
#include <cmath>
#include <limits>

namespace peft {

static std::string quoted(std::string_view text) {
  return "'" + std::string(text) + "'";
}

Expected<std::unique_ptr<Executor>>
Executor::create(Plan plan, BoundWeights weights,
                 std::unique_ptr<Device> device,
                 const ExecutorOptions &options) {
  if (weights.bytes.size() != plan.weights.size())
    return internalError("the plan has " + std::to_string(plan.weights.size()) +
                         " weights, bound are " +
                         std::to_string(weights.bytes.size()));
  std::unique_ptr<Executor> executor(new Executor);
  executor->planValue = std::move(plan);
  executor->weightsValue = std::move(weights);
  executor->deviceValue = std::move(device);
  PEFT_TRY(executor->deviceValue->load(executor->planValue,
                                       executor->weightsValue.bytes));
  PEFT_TRY(executor->initialize(options.seed));
  PEFT_TRY(executor->startParameters());
  return executor;
}

//===----------------------------------------------------------------------===//
// Initial values
//===----------------------------------------------------------------------===//

namespace {

/// Produces the initial values of one buffer piece by piece.
struct InitialValues {
  const Initializer &start;
  uint64_t columns;
  uint64_t seed;
  DType sourceType = DType::f32;
  std::span<const std::byte> source = {}; ///< of a weight

  void produce(uint64_t first, std::span<float> values) const {
    switch (start.kind) {
    case Initializer::Kind::weight:
      widen(sourceType, source.data() + first * byteSize(sourceType), values);
      return;
    case Initializer::Kind::kaimingUniform:
      drawUniform(seed, start.stream,
                  1 / std::sqrt(static_cast<double>(columns)), first, values);
      return;
    case Initializer::Kind::gaussian:
      drawGaussian(seed, start.stream, start.standardDeviation, first, values);
      return;
    }
  }
};

} // namespace

/// The part of a weight's bytes that this rank (the only one) holds.
static Expected<std::span<const std::byte>>
sliceOf(const Weight &weight, std::span<const std::byte> bytes) {
  if (weight.slices.empty())
    return bytes;
  const Slice &slice = weight.slices.front();
  if (slice.axis != 0)
    return Status::error(
        Code::unsuitable,
        "weight " + quoted(weight.name) + " is cut along axis " +
            std::to_string(slice.axis) + ", which this version does not load");
  uint64_t row = bytes.size() / weight.shape[0];
  return bytes.subspan(slice.start * row, slice.extent * row);
}

Status Executor::initialize(uint64_t seed) {
  constexpr uint64_t pieceElements = 16384;
  std::vector<float> piece(pieceElements);
  std::vector<std::byte> rounded(pieceElements * sizeof(float));
  for (const Initializer &start : planValue.initializers) {
    const Buffer &buffer = planValue.buffers[start.buffer];
    InitialValues values{start, buffer.shape.back(), seed};
    if (start.kind == Initializer::Kind::weight) {
      const Weight &weight = planValue.weights[start.weight];
      PEFT_ASSIGN(values.source,
                  sliceOf(weight, weightsValue.bytes[start.weight]));
      values.sourceType = weight.dtype;
      if (buffer.dtype == weight.dtype) {
        PEFT_TRY(deviceValue->write(start.buffer, 0, values.source));
        continue;
      }
    }
    for (uint64_t first = 0; first < buffer.elements(); first += pieceElements) {
      std::span<float> part(piece.data(),
                            std::min(pieceElements, buffer.elements() - first));
      values.produce(first, part);
      narrow(buffer.dtype, part, rounded.data());
      uint64_t size = byteSize(buffer.dtype);
      PEFT_TRY(deviceValue->write(start.buffer, first * size,
                                  {rounded.data(), part.size() * size}));
    }
  }
  return {};
}

//===----------------------------------------------------------------------===//
// Entries and ports
//===----------------------------------------------------------------------===//

Status Executor::run(std::string_view name) {
  uint32_t entry = planValue.findEntry(name);
  if (entry == none)
    return badInput("the plan has no entry " + quoted(name));
  return deviceValue->run(entry);
}

Status Executor::startParameters() {
  uint32_t entry = planValue.findEntry("initialize");
  return entry == none ? Status() : deviceValue->run(entry);
}

static Status noPort(std::string_view port) {
  return usageError("the plan has no port " + quoted(port));
}

/// The buffer of a port, whose type and size must be those of the host's data.
static Status checkPort(const Plan &plan, uint32_t port, DType type,
                        uint64_t bytes) {
  const Buffer &buffer = plan.buffers[plan.ports[port].buffer];
  if (buffer.dtype == type && buffer.size == bytes)
    return {};
  return usageError("port " + quoted(plan.ports[port].name) + " holds " +
                    std::to_string(buffer.elements()) + " elements of " +
                    std::string(name(buffer.dtype)) + ", given are " +
                    std::to_string(bytes / byteSize(type)) + " of " +
                    std::string(name(type)));
}

Status Executor::writePort(std::string_view name, DType type,
                           std::span<const std::byte> bytes) {
  uint32_t port = planValue.findPort(name);
  if (port == none)
    return noPort(name);
  PEFT_TRY(checkPort(planValue, port, type, bytes.size()));
  return deviceValue->write(planValue.ports[port].buffer, 0, bytes);
}

Status Executor::readPort(std::string_view name, DType type,
                          std::span<std::byte> bytes) const {
  uint32_t port = planValue.findPort(name);
  if (port == none)
    return noPort(name);
  PEFT_TRY(checkPort(planValue, port, type, bytes.size()));
  return deviceValue->read(planValue.ports[port].buffer, 0, bytes);
}

Status Executor::postOutput(std::string_view name, unsigned slot) {
  uint32_t port = planValue.findPort(name);
  if (port == none)
    return noPort(name);
  uint32_t buffer = planValue.ports[port].buffer;
  return deviceValue->post(slot, buffer, planValue.buffers[buffer].size);
}

Status Executor::collectPort(std::string_view name, unsigned slot, DType type,
                             std::span<std::byte> bytes) {
  uint32_t port = planValue.findPort(name);
  if (port == none)
    return noPort(name);
  PEFT_TRY(checkPort(planValue, port, type, bytes.size()));
  return deviceValue->collect(slot, bytes);
}

template <typename T> static std::span<const std::byte> one(const T &value) {
  return std::as_bytes(std::span(&value, 1));
}

Status Executor::writeScalar(std::string_view name, int64_t value) {
  uint32_t port = planValue.findPort(name);
  if (port == none)
    return noPort(name);
  switch (planValue.buffers[planValue.ports[port].buffer].dtype) {
  case DType::i64:
    return writePort(name, DType::i64, one(value));
  case DType::i32: {
    if (value < std::numeric_limits<int32_t>::min() ||
        value > std::numeric_limits<int32_t>::max())
      return usageError("port " + quoted(name) + " is i32, " +
                        std::to_string(value) + " does not fit");
    int32_t narrow = static_cast<int32_t>(value);
    return writePort(name, DType::i32, one(narrow));
  }
  default:
    return writeScalar(name, static_cast<double>(value));
  }
}

Status Executor::writeScalar(std::string_view name, double value) {
  uint32_t port = planValue.findPort(name);
  if (port == none)
    return noPort(name);
  if (planValue.buffers[planValue.ports[port].buffer].dtype == DType::f32) {
    float narrow = static_cast<float>(value);
    return writePort(name, DType::f32, one(narrow));
  }
  return writePort(name, DType::f64, one(value));
}

Status Executor::clear(std::string_view name) {
  uint32_t port = planValue.findPort(name);
  if (port == none)
    return noPort(name);
  uint32_t buffer = planValue.ports[port].buffer;
  constexpr std::byte zeros[4096] = {};
  uint64_t size = planValue.buffers[buffer].size;
  for (uint64_t offset = 0; offset < size; offset += sizeof zeros)
    PEFT_TRY(deviceValue->write(
        buffer, offset,
        std::span(zeros, std::min<uint64_t>(sizeof zeros, size - offset))));
  return {};
}

//===----------------------------------------------------------------------===//
// Parameters
//===----------------------------------------------------------------------===//

uint64_t Executor::parameterElements(size_t index) const {
  return planValue.buffers[planValue.parameters[index].buffer].elements();
}

Status Executor::readParameter(size_t index, uint64_t offset,
                               std::span<float> values) const {
  return deviceValue->read(planValue.parameters[index].buffer,
                           offset * sizeof(float),
                           std::as_writable_bytes(values));
}

Status Executor::writeParameter(size_t index, uint64_t offset,
                                std::span<const float> values) {
  return deviceValue->write(planValue.parameters[index].buffer,
                            offset * sizeof(float), std::as_bytes(values));
}

Status Executor::readGradient(size_t index, size_t use, uint64_t offset,
                              std::span<float> values) const {
  const std::vector<uint32_t> &gradients =
      planValue.parameters[index].gradients;
  if (use >= gradients.size())
    return internalError("parameter " +
                         quoted(planValue.parameters[index].name) + " has " +
                         std::to_string(gradients.size()) + " gradients");
  return deviceValue->read(gradients[use], offset * sizeof(float),
                           std::as_writable_bytes(values));
}

} // namespace peft
