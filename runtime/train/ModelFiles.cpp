//===- ModelFiles.cpp - a trained model directory -------------------------===//
#include "ModelFiles.h"

#include "ParameterFile.h"
#include "peft/FloatTypes.h"
#include "peft/ModelConfig.h"
#include "peft/NestedNames.h"

#include <map>

using namespace peft;

namespace {
/// A tensor of the source that is not trained, in `type`.
TensorToWrite copyOf(const SafetensorsFile &file, const TensorHeader &tensor,
                     DType type) {
  TensorToWrite copy;
  copy.name = tensor.name;
  copy.dtype = type;
  copy.shape = tensor.shape;
  if (type == *tensor.dtype) {
    copy.bytes = file.bytes(tensor);
    return copy;
  }
  copy.produce = [&file, &tensor, type](FileSink &sink) -> Status {
    ByteSpan source = file.bytes(tensor);
    std::vector<std::byte> stored(tensor.elementCount() * byteSize(type));
    for (uint64_t i = 0; i < tensor.elementCount(); ++i) {
      float value = loadFloat(source.data(), *tensor.dtype, i);
      PEFT_TRY(checkHeld(tensor.name, type, {&value, 1}));
      storeFloat(stored.data(), type, i, value);
    }
    return sink.write(stored);
  };
  return copy;
}

} // namespace

Status peft::writeModel(const Executor &executor, const ModelDirectory &source,
                        const std::string &directory,
                        const SaveOptions &options) {
  const Plan &plan = executor.plan();
  PEFT_ASSIGN(ModelConfig config,
              parseModelConfig(plan.modelConfig, "the plan's config.json"));
  std::map<std::string, TensorToWrite> tensors;
  for (size_t i = 0; i < plan.parameters.size(); ++i)
    tensors.emplace(plan.parameters[i].name,
                    parameterToWrite(
                        executor, i,
                        options.dtype.value_or(plan.parameters[i].sourceType)));
  std::map<std::string, SafetensorsFile> files;
  for (const ModelDirectory::Tensor &tensor : source.tensors()) {
    const std::string &name = tensor.header->name;
    if (tensors.count(name) ||
        (config.tied && (name == "lm_head.weight" ||
                         otherNestedName(name) == "lm_head.weight")))
      continue;
    auto [entry, isNew] = files.try_emplace(tensor.shard->path);
    if (isNew) {
      PEFT_ASSIGN(entry->second, SafetensorsFile::open(tensor.shard->path));
    }
    if (!tensor.header->dtype)
      return badInput(tensor.shard->path + ": " + name + " is stored as " +
                      tensor.header->type + ", which cannot be copied");
    bool change = options.dtype && isFloat(*tensor.header->dtype);
    tensors.emplace(name,
                    copyOf(entry->second, *tensor.header,
                           change ? *options.dtype : *tensor.header->dtype));
  }
  PEFT_TRY(createDirectory(directory));
  PEFT_TRY(
      writeModelTensors(std::move(tensors), directory, options.shardBytes));
  PEFT_TRY(copyCompanions(source, directory));
  ConfigChanges changes;
  changes.dtype = options.dtype;
  PEFT_ASSIGN(std::string text, changeConfig(plan.modelConfig,
                                             "the plan's config.json",
                                             changes));
  return writeFileAtomically(joinPath(directory, "config.json"), text);
}
