//===- SaveQuantized.cpp - a quantized model directory --------------------===//
#include "SaveQuantized.h"

#include "ModelFiles.h"
#include "peft/Executor.h"
#include "peft/FloatTypes.h"
#include "peft/Json.h"
#include "peft/ModelWriter.h"

#include <chrono>
#include <map>
#include <nlohmann/json.hpp>

using namespace peft;
using Json = nlohmann::ordered_json;

namespace {

constexpr std::string_view weightSuffix = ".weight";

/// By tensor name.
using Formats = std::map<std::string, QuantFormat>;

Expected<Formats> chooseFormats(const Plan &plan, const ModelDirectory &model) {
  PEFT_ASSIGN(const std::vector<QuantizedOutput> outputs,
              weightsToQuantize(plan, model));
  if (outputs.empty())
    return usageError("--save-quantized: nothing of " + model.requested +
                      " is quantized on load by this plan; compile one with "
                      "--base nf4 for a model that is not quantized");
  Formats formats;
  for (const QuantizedOutput &output : outputs) {
    const std::string &name = output.source.header->name;
    if (name.ends_with("embed_tokens.weight"))
      return usageError("--save-quantized: the plan quantizes " + name +
                        ", and transformers cannot load a quantized "
                        "embedding; compile a plan that does not");
    if (*output.format != *outputs.front().format)
      return usageError("--save-quantized: the plan quantizes some weights to " +
                        output.format->describe() + " and others to " +
                        outputs.front().format->describe() +
                        "; transformers loads only one kind");
    formats.emplace(name, *output.format);
  }
  return formats;
}

const char *torchName(DType type) {
  return type == DType::bf16  ? "bfloat16"
         : type == DType::f16 ? "float16"
                              : "float32";
}

/// The linear modules that stay as they are: transformers would otherwise
/// expect them quantized, too.
std::vector<std::string> skippedModules(const ModelDirectory &model,
                                        const Formats &formats) {
  std::vector<std::string> modules;
  if (!formats.count("lm_head.weight"))
    modules.push_back("lm_head"); // also where it is the embedding
  for (const ModelDirectory::Tensor &tensor : model.tensors()) {
    const TensorHeader &header = *tensor.header;
    std::string name = header.name;
    if (formats.count(name) || header.shape.size() != 2 || !header.dtype ||
        !isFloat(*header.dtype) || !name.ends_with(weightSuffix) ||
        name.ends_with("embed_tokens.weight") || name == "lm_head.weight")
      continue;
    name.resize(name.size() - weightSuffix.size());
    modules.push_back(std::move(name));
  }
  return modules;
}

/// As transformers writes it; the keys of 4 bits stand there for 8 bits, too.
Json quantizationConfig(const Plan &plan, const QuantFormat &format,
                        const std::vector<std::string> &skipped) {
  const bool eight = format.type == DType::i8;
  Json config;
  config["_load_in_4bit"] = !eight;
  config["_load_in_8bit"] = eight;
  config["bnb_4bit_compute_dtype"] =
      eight ? "float32" : torchName(plan.compute);
  config["bnb_4bit_quant_storage"] = "uint8";
  config["bnb_4bit_quant_type"] = eight ? "fp4" : std::string(name(format.type));
  config["bnb_4bit_use_double_quant"] = format.nested != 0;
  config["llm_int8_enable_fp32_cpu_offload"] = false;
  config["llm_int8_has_fp16_weight"] = false;
  config["llm_int8_skip_modules"] = skipped;
  config["llm_int8_threshold"] = 6.0;
  config["load_in_4bit"] = !eight;
  config["load_in_8bit"] = eight;
  config["quant_method"] = "bitsandbytes";
  return config;
}

class Saver {
public:
  Saver(const Plan &plan, const ModelDirectory &model,
        const RunOptions &options, Console &console)
      : plan(plan), model(model), options(options), console(console),
        directory(options.saveQuantized) {}

  Status run() {
    PEFT_ASSIGN(formats, chooseFormats(plan, model));
    PEFT_TRY(fillNewDirectory(directory, [this] { return write(); }));
    console.print("wrote", directory + ": " + std::to_string(formats.size()) +
                               " weights as " +
                               formats.begin()->second.describe());
    return {};
  }

private:
  Status write();
  Status writeShard(const WeightShard &shard);
  Status writeIndex();
  Status writeConfig();

  const Plan &plan;
  const ModelDirectory &model;
  const RunOptions &options;
  Console &console;
  std::string directory;
  Formats formats;
  Json weightMap = Json::object();
  uint64_t totalBytes = 0;
};

/// config.json comes last: without it the directory is no model.
Status Saver::write() {
  for (const WeightShard &shard : model.shards)
    PEFT_TRY(writeShard(shard));
  PEFT_TRY(writeIndex());
  PEFT_TRY(copyCompanions(model, directory));
  return writeConfig();
}

Status Saver::writeShard(const WeightShard &shard) {
  std::vector<QuantizedOutput> outputs;
  for (const TensorHeader &header : shard.header.tensors) {
    const auto format = formats.find(header.name);
    outputs.push_back({{&shard, &header},
                       format == formats.end()
                           ? std::nullopt
                           : std::optional(format->second)});
  }
  const std::string name = fileName(shard.path);
  const std::string path = joinPath(directory, name);
  PEFT_ASSIGN(NewFile file, NewFile::beside(path));
  QuantizeProgress progress(console, "saving " + name);
  PEFT_TRY(writeQuantized(
      outputs, {{"format", "pt"}}, file,
      {.threads = options.threads,
       .progress = [&](uint64_t done, uint64_t all) { progress(done, all); }}));
  PEFT_TRY(file.publish(true));
  PEFT_ASSIGN(const SafetensorsHeader written, readSafetensorsHeader(path));
  for (const TensorHeader &tensor : written.tensors) {
    weightMap[tensor.name] = name;
    totalBytes += tensor.byteCount();
  }
  return {};
}

Status Saver::writeIndex() {
  // The one name that is found without an index.
  if (fileName(model.shards.front().path) == "model.safetensors")
    return {};
  Json index;
  index["metadata"]["total_size"] = totalBytes;
  index["weight_map"] = weightMap;
  return writeFileAtomically(
      joinPath(directory, "model.safetensors.index.json"),
      index.dump(2) + "\n");
}

Status Saver::writeConfig() {
  PEFT_ASSIGN(const std::string text, readFile(model.configPath));
  PEFT_ASSIGN(Json config, parseOrderedJson(text, model.configPath));
  config["quantization_config"] = quantizationConfig(
      plan, formats.begin()->second, skippedModules(model, formats));
  return writeFileAtomically(joinPath(directory, "config.json"),
                             config.dump(2) + "\n");
}

} // namespace

Status peft::saveQuantized(const Plan &plan, const ModelDirectory &model,
                           const RunOptions &options, Console &console) {
  return Saver(plan, model, options, console).run();
}
