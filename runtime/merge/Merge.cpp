//===- Merge.cpp - a base and an adapter as one model ---------------------===//
#include "peft/Merge.h"

#include "WrittenWeight.h"
#include "peft/FloatTypes.h"
#include "peft/Json.h"
#include "peft/ModelConfig.h"
#include "peft/NestedNames.h"

#include <algorithm>
#include <nlohmann/json.hpp>

using namespace peft;

namespace {

/// How the tables of token embeddings are called.
constexpr std::string_view embeddingNames[] = {
    "embed_tokens.weight", "wte.weight", "word_embeddings.weight",
    "embed_in.weight"};

class Merger {
public:
  Merger(const MergeOptions &options, const AdapterDirectory &adapter)
      : options(options), adapter(adapter) {}

  Expected<MergeReport> run(const ScaleOfModule &scaleOf);

private:
  Status open(const ScaleOfModule &scaleOf);
  Status openOther();
  void nameAsStored();
  Status checkTensors() const;
  Status checkShapes(const LowRankChange &change,
                     const BaseWeight &weight) const;
  Status resolveTied();
  bool sameOnBothSides(const std::string &embedding) const;
  Status addTensors();
  void addTensor(const BaseWeight &weight, const std::string &name);
  TensorToWrite start(const BaseWeight &weight, const std::string &name);
  Status write();

  const MergeOptions &options;
  const AdapterDirectory &adapter;
  ModelDirectory model;
  std::string config; ///< text of config.json
  bool quantized = false; ///< the base
  std::unique_ptr<BaseWeights> base;
  std::unique_ptr<BaseWeights> other; ///< that is compared with, or null
  AdapterChanges changes;
  std::string headName = "lm_head.weight";
  bool tied = false;           ///< the base's head is its embedding
  const BaseWeight *headTable = nullptr; ///< that a new head starts from
  std::map<std::string, TensorToWrite> tensors;
  size_t made = 0, total = 0; ///< tensors
  MergeReport report;
};

} // namespace

//===----------------------------------------------------------------------===//
// What goes where
//===----------------------------------------------------------------------===//

/// What config.json says the weights are.
static DType dtypeOf(const nlohmann::json &config) {
  for (const char *key : {"dtype", "torch_dtype"})
    if (const auto at = config.find(key);
        at != config.end() && at->is_string()) {
      if (*at == "bfloat16")
        return DType::bf16;
      if (*at == "float16")
        return DType::f16;
    }
  return DType::f32;
}

/// The base that is only compared with.
Status Merger::openOther() {
  PEFT_ASSIGN(ModelDirectory directory, openModel(options.compare));
  PEFT_ASSIGN(other, BaseWeights::open(directory, DType::f32));
  for (const auto &[name, weight] : base->all()) {
    const BaseWeight *found = other->find(name);
    if (!found || found->shape != weight.shape)
      return badInput(directory.directory + ": has no " + name +
                      " of the shape that " + model.directory +
                      " has; --compare takes another form of the same model");
  }
  return {};
}

/// Brings the adapter's names to those of the base's files, which may be of
/// another version of transformers.
void Merger::nameAsStored() {
  constexpr std::string_view older = "language_model.";
  for (const auto &[name, weight] : base->all())
    if (name.starts_with(older)) {
      headName = std::string(older) + "lm_head.weight";
      break;
    }
  changes.rename([&](const std::string &name) {
    if (const BaseWeight *weight = base->find(name))
      return weight->name;
    return otherNestedName(name) == headName ? headName : name;
  });
}

Status Merger::open(const ScaleOfModule &scaleOf) {
  PEFT_ASSIGN(model, openModel(options.model));
  if (!model.hasWeights())
    return badInput(options.model + ": has no weights to merge into; name the "
                                    "model's directory");
  PEFT_ASSIGN(config, readFile(model.configPath));
  PEFT_ASSIGN(const nlohmann::json fields, readJsonObject(model.configPath));
  // What bitsandbytes quantized is dequantized.
  PEFT_ASSIGN(quantized, isQuantized(fields, model.configPath));
  PEFT_ASSIGN(base, BaseWeights::open(model, dtypeOf(fields)));
  if (!options.compare.empty())
    PEFT_TRY(openOther());
  PEFT_ASSIGN(changes, readChanges(adapter, scaleOf));
  nameAsStored();
  // Where the field is left out, the class's default is what the files show.
  const auto tie = fields.find("tie_word_embeddings");
  tied = tie != fields.end() && tie->is_boolean() ? tie->get<bool>()
                                                  : !base->find(headName);
  return {};
}

Status Merger::checkShapes(const LowRankChange &change,
                           const BaseWeight &weight) const {
  const int64_t outer = change.b->shape[0], inner = change.a->shape[1];
  const std::vector<int64_t> needed =
      change.embedding ? std::vector{inner, outer} : std::vector{outer, inner};
  if (weight.shape == needed && weight.isFloat)
    return {};
  return badInput(adapter.tensors.path() + ": " + change.module +
                  ": the factors make a matrix of " +
                  std::to_string(needed[0]) + " x " +
                  std::to_string(needed[1]) + ", which does not fit " +
                  weight.name + " of " + model.directory);
}

/// Every tensor that the adapter changes is there and has its shape.
Status Merger::checkTensors() const {
  auto missing = [&](const std::string &name) {
    return badInput(adapter.tensors.path() + ": changes " + name + ", which " +
                    model.directory +
                    " does not have; the adapter belongs to another model");
  };
  auto stored = [&](const std::string &name) {
    return name == headName && tied ? headTable : base->find(name);
  };
  for (const auto &[name, change] : changes.lowRank) {
    const BaseWeight *weight = stored(name);
    if (!weight)
      return missing(name);
    PEFT_TRY(checkShapes(change, *weight));
    if (change.bias && !base->find(change.module + ".bias"))
      return badInput(adapter.tensors.path() + ": " + change.module +
                      " has a bias of its own (lora_bias), but the model's "
                      "layer has none to add it to; such an adapter cannot be "
                      "merged");
  }
  for (const auto &[name, tensor] : changes.whole) {
    const BaseWeight *weight = stored(name);
    if (!weight)
      return missing(name);
    if (weight->shape != tensor->shape)
      return badInput(adapter.tensors.path() + ": " + tensor->name + " is " +
                      tensor->describe() + ", but " + name + " of " +
                      model.directory + " has another shape" +
                      (weight->shape.size() == 2 &&
                               weight->shape[1] == tensor->shape.back()
                           ? ": a resized vocabulary is not in this version; "
                             "merge it with PEFT"
                           : "; the adapter belongs to another model"));
  }
  return {};
}

/// Whether the adapter holds both sides of a tied table, with the same bytes.
bool Merger::sameOnBothSides(const std::string &embedding) const {
  const auto table = changes.whole.find(embedding);
  const auto head = changes.whole.find(headName);
  if (table == changes.whole.end() || head == changes.whole.end() ||
      changes.lowRank.contains(embedding) || changes.lowRank.contains(headName))
    return false;
  return table->second->type == head->second->type &&
         std::ranges::equal(adapter.tensors.bytes(*table->second),
                            adapter.tensors.bytes(*head->second));
}

/// A tied head is stored once. If the adapter changes only one side, the two
/// become two tensors, which the user has to want.
Status Merger::resolveTied() {
  if (!tied)
    return {};
  const BaseWeight *table = nullptr;
  for (const auto &[name, weight] : base->all())
    for (std::string_view ending : embeddingNames)
      if (name.ends_with(ending) && weight.shape.size() == 2)
        table = &weight;
  headTable = table;
  if (!table) {
    if (changes.touches(headName))
      return badInput(model.directory + ": the head is tied to an embedding "
                                        "that was not found; the adapter "
                                        "changes the head");
    return {};
  }
  if (!changes.touches(headName) && !changes.touches(table->name))
    return {};
  if (sameOnBothSides(table->name)) {
    changes.whole.erase(headName);
    return {};
  }
  const std::string side =
      !changes.touches(headName)      ? "the embedding"
      : !changes.touches(table->name) ? "the head"
                                      : "the embedding and the head differently";
  if (!options.untie)
    return usageError(adapter.directory + ": changes " + side +
                      ", but the model has one table for both "
                      "(tie_word_embeddings); --untie stores two, with " +
                      std::to_string(table->elementCount() *
                                     byteSize(table->dtype) / 1000000) +
                      " MB more");
  report.untied = true;
  return {};
}

//===----------------------------------------------------------------------===//
// Tensors
//===----------------------------------------------------------------------===//

TensorToWrite Merger::start(const BaseWeight &weight, const std::string &name) {
  TensorToWrite tensor;
  tensor.name = name;
  tensor.shape = weight.shape;
  tensor.dtype =
      weight.isFloat ? options.dtype.value_or(weight.dtype) : weight.dtype;
  report.bytes += weight.elementCount() * byteSize(tensor.dtype);
  return tensor;
}

/// Tensor `name` of the merged model, which starts from `weight`.
void Merger::addTensor(const BaseWeight &weight, const std::string &name) {
  TensorToWrite tensor = start(weight, name);
  const DType dtype = tensor.dtype;
  report.dequantized += weight.quantized;
  auto announce = [this, name] {
    if (options.onTensor)
      options.onTensor(name, made, total);
    ++made;
  };
  const auto whole = changes.whole.find(name);
  const auto lowRank = changes.lowRank.find(name);
  const TensorHeader *bias = nullptr;
  double biasScale = 0;
  for (const auto &[changed, change] : changes.lowRank)
    if (change.bias && change.module + ".bias" == name) {
      bias = change.bias;
      biasScale = change.scale;
    }
  // The adapter's own tensor takes the base's place before anything is added.
  std::shared_ptr<const BaseWeight> source;
  if (whole != changes.whole.end()) {
    source = std::make_shared<BaseWeight>(
        tensorAsWeight(adapter.tensors, *whole->second));
    ++report.replaced;
  } else {
    source = std::shared_ptr<const BaseWeight>(&weight, [](auto *) {});
  }
  if (lowRank != changes.lowRank.end()) {
    ++report.merged;
    tensor.produce = [this, announce, source, dtype,
                      &change = lowRank->second](FileSink &sink) -> Status {
      announce();
      PEFT_ASSIGN(LowRankRows rows, LowRankRows::read(adapter.tensors, change));
      OtherBase compared;
      if (other)
        compared = {other->find(source->name), &report.otherLoss};
      return writeWeight(*source, dtype, rows, sink, report.loss, compared);
    };
  } else if (bias) {
    tensor.produce = [this, announce, source, dtype, bias,
                      biasScale](FileSink &sink) -> Status {
      announce();
      PEFT_ASSIGN(std::vector<float> added, readValues(adapter.tensors, *bias));
      auto add = [&](uint64_t, std::span<const float>,
                     std::span<double> values) {
        for (size_t i = 0; i < values.size(); ++i)
          values[i] += biasScale * added[i];
      };
      return writeWeight(*source, dtype, add, sink, report.loss);
    };
  } else {
    report.copied += whole == changes.whole.end();
    tensor.produce = [this, announce, source, dtype](FileSink &sink) -> Status {
      announce();
      if (source->dtype != dtype || source->bytes.empty())
        return writeWeight(*source, dtype, {}, sink, report.copyLoss);
      PEFT_TRY(sink.write(source->bytes));
      source->reader->forget();
      return {};
    };
  }
  tensors.emplace(name, std::move(tensor));
}

Status Merger::addTensors() {
  for (const auto &[name, weight] : base->all())
    // A tied head that is stored, too, goes; if it is the only table, it stays.
    if (!(tied && headTable && name == headName))
      addTensor(weight, name);
  if (report.untied)
    addTensor(*headTable, headName);
  total = tensors.size();
  return {};
}

/// config.json comes last: without it the directory is no model.
Status Merger::write() {
  PEFT_TRY(writeModelTensors(std::move(tensors), options.output,
                             options.shardBytes));
  PEFT_TRY(copyCompanions(model, options.output));
  ConfigChanges change;
  change.dtype = options.dtype;
  change.untied = report.untied;
  change.notQuantized = quantized;
  PEFT_ASSIGN(std::string text, changeConfig(config, model.configPath, change));
  return writeFileAtomically(joinPath(options.output, "config.json"), text);
}

Expected<MergeReport> Merger::run(const ScaleOfModule &scaleOf) {
  PEFT_TRY(checkNewDirectory(options.output));
  PEFT_TRY(open(scaleOf));
  PEFT_TRY(resolveTied());
  PEFT_TRY(checkTensors());
  PEFT_TRY(addTensors());
  PEFT_TRY(fillNewDirectory(options.output, [this] { return write(); }));
  return report;
}

Expected<MergeReport> peft::mergeAdapter(const MergeOptions &options,
                                         const AdapterDirectory &adapter,
                                         const ScaleOfModule &scaleOf) {
  return Merger(options, adapter).run(scaleOf);
}
