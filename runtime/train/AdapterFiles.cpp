//===- AdapterFiles.cpp - PEFT adapters in and out ------------------------===//
#include "AdapterFiles.h"

#include "ParameterFile.h"
#include "StartFactors.h"
#include "peft/AdapterConfig.h"
#include "peft/File.h"
#include "peft/FloatTypes.h"
#include "peft/NestedNames.h"

#include <algorithm>
#include <set>

using namespace peft;

namespace {
template <typename T>
Status requireEqual(const char *field, const T &found, const T &needed,
                    const std::string &where) {
  if (found == needed)
    return {};
  std::string both;
  if constexpr (std::is_same_v<T, int64_t>)
    both = " (" + std::to_string(found) + ", not " + std::to_string(needed) +
           ")";
  return badInput(where + ": " + field +
                  " is not what the plan was compiled with" + both +
                  "; compile a plan with --adapter " + where);
}

/// Saving sorts the keys of patterns, so their order says nothing here.
template <typename Pattern> Pattern sorted(Pattern pattern) {
  std::ranges::sort(pattern);
  return pattern;
}

/// The settings that decide what the tensors mean.
Status checkConfig(const AdapterConfig &found, const AdapterConfig &needed,
                   const std::string &directory) {
  std::string where = joinPath(directory, "adapter_config.json");
  PEFT_TRY(requireEqual("r", found.rank, needed.rank, where));
  PEFT_TRY(requireEqual("lora_alpha", found.alpha, needed.alpha, where));
  PEFT_TRY(requireEqual("use_rslora", found.rsLora, needed.rsLora, where));
  PEFT_TRY(requireEqual("use_dora", found.dora, needed.dora, where));
  PEFT_TRY(requireEqual("lora_bias", found.loraBias, needed.loraBias, where));
  PEFT_TRY(requireEqual("rank_pattern", sorted(found.rankPattern),
                        sorted(needed.rankPattern), where));
  return requireEqual("alpha_pattern", sorted(found.alphaPattern),
                      sorted(needed.alphaPattern), where);
}

/// A start is right only beside the pair that takes it off again.
Status refuseStart(const AdapterDirectory &adapter) {
  const char *method =
      adapter.config.init == LoraInit::olora ? "olora" : "pissa";
  return badInput(adapter.directory + ": is what a " + method +
                  " run starts from, and the plan has no pair that takes it "
                  "off again; compile a plan with --adapter " +
                  joinPath(adapter.directory, "adapter_config.json") +
                  ", or take the adapter that the run saved");
}

/// Where PEFT hangs the model's modules.
const std::string savedRoot = "base_model.model.";

/// The key that PEFT gave a module of a text model inside another before
/// transformers 4.52 moved it; the same key for all others.
std::string olderKey(const std::string &key) {
  if (!key.starts_with(savedRoot))
    return key;
  auto other = otherNestedName(std::string_view(key).substr(savedRoot.size()));
  return other ? savedRoot + *other : key;
}

/// The tensor of a parameter, under its newer or its older key.
const TensorHeader *findTensor(const SafetensorsFile &file,
                               const std::string &key) {
  const TensorHeader *tensor = file.find(key);
  return tensor ? tensor : file.find(olderKey(key));
}

void append(std::string &list, const std::string &name, size_t count) {
  if (count < 5)
    list += (count ? ", " : "") + name;
  else if (count == 5)
    list += ", ...";
}

/// What PEFT adapts of a text model's neighbour, too, if it is given the ends
/// of names; no text goes through it.
Status refuseImages(const SafetensorsFile &file) {
  std::string names;
  size_t count = 0;
  for (const TensorHeader &tensor : file.header().tensors)
    if (tensor.name.find(".vision_tower.") != std::string::npos ||
        tensor.name.find(".multi_modal_projector.") != std::string::npos)
      append(names, tensor.name, count++);
  if (!count)
    return {};
  return badInput(
      file.path() + ": " + std::to_string(count) + " of its keys (" + names +
      ") are of the vision tower, which is no part of the text model that the "
      "plan is for; train with target_modules that mean the text model only "
      "(\".*language_model.*[.](q_proj|v_proj)\"), or take these tensors out "
      "of the file if it was trained on text, which does not change them");
}

/// What a file calls by their names: not the frozen halves of pairs.
Status checkKeys(const Plan &plan, const SafetensorsFile &file) {
  std::string missing, unexpected;
  size_t missingCount = 0, unexpectedCount = 0;
  std::set<std::string> known;
  for (const Parameter &parameter : plan.parameters) {
    if (isStartFactor(parameter))
      continue;
    known.insert(parameter.name);
    known.insert(olderKey(parameter.name));
    // PEFT saves the frozen weight of an adapted head with the adapter.
    known.insert(savedRoot + parameter.module + ".base_layer.weight");
    if (!findTensor(file, parameter.name))
      append(missing, parameter.name, missingCount++);
  }
  for (const TensorHeader &tensor : file.header().tensors)
    if (!known.count(tensor.name))
      append(unexpected, tensor.name, unexpectedCount++);
  std::string text;
  if (missingCount)
    text += std::to_string(missingCount) + " missing keys: " + missing;
  if (unexpectedCount)
    text += (text.empty() ? "" : "; ") + std::to_string(unexpectedCount) +
            " unexpected keys: " + unexpected;
  if (text.empty())
    return {};
  return badInput(file.path() + ": " + text +
                  "; the plan trains other modules than this adapter has");
}

Status checkTensor(const Parameter &parameter,
                   const std::vector<uint64_t> &needed,
                   const TensorHeader &tensor, const std::string &path) {
  bool same = std::ranges::equal(
      tensor.shape, needed, [](int64_t found, uint64_t wanted) {
        return static_cast<uint64_t>(found) == wanted;
      });
  if (!same)
    return badInput(path + ": " + parameter.name + " is " + tensor.describe() +
                    ", but the plan needs " + describeShape(needed));
  if (!tensor.dtype || !isFloat(*tensor.dtype))
    return badInput(path + ": " + parameter.name + " is stored as " +
                    tensor.type + "; F32, BF16 or F16 is needed");
  return {};
}
} // namespace

Status peft::loadAdapter(Executor &executor, const std::string &directory) {
  const Plan &plan = executor.plan();
  if (plan.adapterConfig.empty())
    return usageError("the plan trains every parameter and has no adapter; "
                      "give the trained model with --model instead of " +
                      directory);
  PEFT_ASSIGN(AdapterDirectory adapter, openAdapter(directory));
  PEFT_ASSIGN(AdapterConfig needed,
              parseAdapterConfig(plan.adapterConfig, "the plan's adapter"));
  // An adapter that starts from the weights is loaded as its start, or as what
  // was saved after training.
  PEFT_ASSIGN(bool start, holdsStart(adapter));
  if (start && !startsFromWeights(needed.init))
    return refuseStart(adapter);
  bool converted = startsFromWeights(needed.init) && !start;
  PEFT_TRY(checkConfig(adapter.config,
                       converted ? convertedConfig(needed) : needed,
                       adapter.directory));
  PEFT_TRY(refuseImages(adapter.tensors));
  PEFT_TRY(checkKeys(plan, adapter.tensors));
  for (size_t i = 0; i < plan.parameters.size(); ++i) {
    const Parameter &parameter = plan.parameters[i];
    if (isStartFactor(parameter))
      continue;
    std::optional<size_t> half = startFactorOf(plan, i);
    const TensorHeader *tensor = findTensor(adapter.tensors, parameter.name);
    PEFT_TRY(checkTensor(parameter,
                         half && converted
                             ? joinedShape(plan, i)
                             : plan.buffers[parameter.buffer].shape,
                         *tensor, adapter.tensors.path()));
    std::span<const std::byte> bytes = adapter.tensors.bytes(*tensor);
    std::vector<float> values(tensor->elementCount());
    for (uint64_t j = 0; j < values.size(); ++j)
      values[j] = loadFloat(bytes.data(), *tensor->dtype, j);
    if (half)
      PEFT_TRY(writeFactors(executor, i, *half, values, converted));
    else
      PEFT_TRY(executor.writeParameter(i, 0, values));
  }
  return {};
}

Status peft::clearAdapter(Executor &executor) {
  const Plan &plan = executor.plan();
  for (size_t i = 0; i < plan.parameters.size(); ++i) {
    if (plan.parameters[i].name.find(".lora_B.") == std::string::npos)
      continue;
    std::vector<float> zeros(executor.parameterElements(i));
    PEFT_TRY(executor.writeParameter(i, 0, zeros));
  }
  // Magnitudes become the norms of the base.
  return executor.startParameters();
}

Status peft::writeAdapter(const Executor &executor,
                          const std::string &directory,
                          const std::string &baseModel) {
  const Plan &plan = executor.plan();
  PEFT_ASSIGN(AdapterConfig config,
              parseAdapterConfig(plan.adapterConfig, "the plan's adapter"));
  config.baseModelName = baseModel;
  // As PEFT saves it: who loads it to train says so.
  config.inferenceMode = true;
  config = convertedConfig(std::move(config));
  std::vector<TensorToWrite> tensors;
  for (size_t i = 0; i < plan.parameters.size(); ++i) {
    if (isStartFactor(plan.parameters[i]))
      continue;
    std::optional<size_t> half = startFactorOf(plan, i);
    tensors.push_back(half ? joinedToWrite(executor, i, *half)
                           : parameterToWrite(executor, i, DType::f32));
  }
  PEFT_TRY(createDirectory(directory));
  PEFT_TRY(writeSafetensors(joinPath(directory, "adapter_model.safetensors"),
                            std::move(tensors)));
  return writeFileAtomically(joinPath(directory, "adapter_config.json"),
                             writeAdapterConfig(config));
}
