//===- StartFactors.cpp - adapters that start from the weights ------------===//
#include "StartFactors.h"

#include "PeftData.h"
#include "peft/File.h"
#include "peft/Json.h"
#include "peft/KernelSpec.h"

#include <algorithm>
#include <nlohmann/json.hpp>

using namespace peft;

namespace {

constexpr std::string_view startSuffix = ".start";
constexpr std::string_view factorA = ".lora_A.weight", factorB = ".lora_B.weight";

const std::vector<uint64_t> &shapeOf(const Plan &plan, size_t index) {
  return plan.buffers[plan.parameters[index].buffer].shape;
}

bool isB(const Plan &plan, size_t index) {
  return plan.parameters[index].name.ends_with(factorB);
}

/// What the plan multiplies a module's projection with. The gradient of the
/// projection has the same factor and, unlike the projection, which may be one
/// of a group, a launch of its own.
Expected<double> scaleOf(const Plan &plan, const std::string &module) {
  const KernelSpec *spec = findKernel("linear_dx");
  for (const Entry &entry : plan.entries)
    for (const Item &item : entry.items) {
      const auto *launch = std::get_if<Launch>(&item.action);
      if (!launch || launch->kernel != spec->name || launch->module != module)
        continue;
      PEFT_ASSIGN(const std::vector<AttributeValue> values,
                  bindAttributes(*spec, *launch));
      return values[kernels::linear_dx::scale].real;
    }
  return internalError("the plan has no linear_dx of " + module +
                       ", which says how its adapter is scaled");
}

/// What keeps whoever started the run waiting, and how to wait less.
void announce(Console &console, const AdapterConfig &config, size_t count) {
  const bool exact = config.init == LoraInit::pissa && !config.pissaIterations;
  console.print("start", "decomposing " + std::to_string(count) +
                             " weights on the CPU, which takes a while" +
                             (exact ? "; plans of --lora-init pissa_niter_4 "
                                      "start much faster"
                                    : ""));
}

} // namespace

bool peft::isStartFactor(const Parameter &parameter) {
  return parameter.name.ends_with(startSuffix);
}

std::optional<size_t> peft::startFactorOf(const Plan &plan, size_t index) {
  std::string name = plan.parameters[index].name;
  size_t dot = name.rfind('.');
  if (!name.ends_with(factorA) && !name.ends_with(factorB))
    return {};
  name.replace(dot, name.npos, startSuffix);
  for (size_t i = 0; i < plan.parameters.size(); ++i)
    if (plan.parameters[i].name == name && shapeOf(plan, i) == shapeOf(plan, index))
      return i;
  return {};
}

Expected<bool> peft::holdsStart(const AdapterDirectory &adapter) {
  if (!startsFromWeights(adapter.config.init))
    return false;
  const auto &metadata = adapter.tensors.header().metadata;
  if (metadata.count(startMark))
    return true;
  return badInput(adapter.directory +
                  ": was trained from a start that is not with it, and is "
                  "nothing without; save it from PEFT with "
                  "path_initial_model_for_weight_conversion");
}

Status peft::writeFactors(Executor &executor, size_t index, size_t start,
                          std::span<const float> values, bool converted) {
  const Plan &plan = executor.plan();
  const std::vector<uint64_t> &shape = shapeOf(plan, index);
  std::vector<float> second(executor.parameterElements(index));
  if (!converted) {
    float sign = isB(plan, index) ? -1 : 1;
    std::ranges::transform(values, second.begin(),
                           [=](float value) { return sign * value; });
    PEFT_TRY(executor.writeParameter(index, 0, values));
    return executor.writeParameter(start, 0, second);
  }
  if (!isB(plan, index)) {
    PEFT_TRY(executor.writeParameter(index, 0, values.first(second.size())));
    return executor.writeParameter(start, 0, values.subspan(second.size()));
  }
  std::vector<float> first(second.size());
  for (uint64_t row = 0; row < shape[0]; ++row)
    for (uint64_t i = 0; i < shape[1]; ++i) {
      first[row * shape[1] + i] = values[2 * row * shape[1] + i];
      second[row * shape[1] + i] = values[(2 * row + 1) * shape[1] + i];
    }
  PEFT_TRY(executor.writeParameter(index, 0, first));
  return executor.writeParameter(start, 0, second);
}

std::vector<uint64_t> peft::joinedShape(const Plan &plan, size_t index) {
  std::vector<uint64_t> shape = shapeOf(plan, index);
  shape[isB(plan, index) ? 1 : 0] *= 2;
  return shape;
}

TensorToWrite peft::joinedToWrite(const Executor &executor, size_t index,
                                  size_t start) {
  const Plan &plan = executor.plan();
  TensorToWrite tensor;
  tensor.name = plan.parameters[index].name;
  tensor.dtype = DType::f32;
  for (uint64_t extent : joinedShape(plan, index))
    tensor.shape.push_back(static_cast<int64_t>(extent));
  uint64_t rows = isB(plan, index) ? shapeOf(plan, index)[0] : 1;
  tensor.produce = [&executor, index, start, rows](FileSink &sink) -> Status {
    std::vector<float> halves[2];
    for (size_t i : {0, 1}) {
      halves[i].resize(executor.parameterElements(index));
      PEFT_TRY(executor.readParameter(i ? start : index, 0, halves[i]));
    }
    uint64_t columns = halves[0].size() / rows;
    for (uint64_t row = 0; row < rows; ++row)
      for (const std::vector<float> &half : halves)
        PEFT_TRY(sink.write(std::as_bytes(
            std::span(half).subspan(row * columns, columns))));
    return {};
  };
  return tensor;
}

Status peft::makeStart(const Plan &plan, const AdapterConfig &config,
                       const ModelDirectory &model,
                       const std::string &directory, Console &console) {
  nlohmann::json request;
  request["method"] = config.init == LoraInit::olora ? "olora" : "pissa";
  request["iterations"] = config.pissaIterations;
  request["config"] = writeAdapterConfig(config);
  request["modules"] = nlohmann::json::array();
  for (size_t i = 0; i < plan.parameters.size(); ++i) {
    const Parameter &parameter = plan.parameters[i];
    if (!parameter.name.ends_with(factorA) || !startFactorOf(plan, i))
      continue;
    PEFT_ASSIGN(const double scale, scaleOf(plan, parameter.module));
    request["modules"].push_back({{"module", parameter.module},
                                  {"rank", shapeOf(plan, i)[0]},
                                  {"scale", scale}});
  }
  const size_t count = request["modules"].size();
  announce(console, config, count);
  Progress progress(console, "start", "decomposing");
  // It prints a point for each weight that is done.
  return runPeftData(
             {"init-adapter", "--model", model.directory, "-o", directory},
             request.dump(), false,
             [&](uint64_t done) { progress(done, count); })
      .status();
}
