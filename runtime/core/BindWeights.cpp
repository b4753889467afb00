//===- BindWeights.cpp - a plan's weights in a model directory ------------===//
#include "QuantizedBase.h"
#include "peft/Executor.h"
#include "peft/Json.h"
#include "peft/ModelDirectory.h"
#include "peft/QuantizedTensor.h"

#include <list>
#include <map>

using namespace peft;

namespace {

constexpr const char *hint =
    "; the plan was made for another model: compile it for this one";

/// Of a model that is quantized on load, tensors of up to so many bytes are read,
/// not mapped: they lie among weights that no plan has, and what is around a
/// mapped tensor may become resident with it, since Linux 6.18 up to 2 MiB.
constexpr uint64_t smallTensor = 64 << 10;

/// What keeps the bytes of bound weights in place.
struct Owner {
  MappedModel files, made;
  std::list<std::vector<std::byte>> small;
  std::optional<QuantizedBase> base;
  std::list<std::vector<float>> tables;
};

std::string describeShape(const Weight &weight) {
  std::string text = "[";
  for (const uint64_t extent : weight.shape)
    text += (text.back() == '[' ? "" : ", ") + std::to_string(extent);
  return text + "]";
}

std::string describe(const Weight &weight) {
  return std::string(name(weight.dtype)) + describeShape(weight);
}

QuantFormat formatOf(const Weight &weight) {
  return {.type = weight.dtype, .block = weight.block, .nested = weight.nested};
}

bool sameShape(const Weight &weight, const std::vector<int64_t> &shape) {
  bool same = shape.size() == weight.shape.size();
  for (size_t i = 0; same && i < shape.size(); ++i)
    same = static_cast<uint64_t>(shape[i]) == weight.shape[i];
  return same;
}

Status compare(const Weight &weight, const ModelDirectory::Tensor &tensor) {
  if (!tensor)
    return badInput("there is no tensor of this name, the plan needs " +
                    describe(weight) + hint);
  if (!sameShape(weight, tensor.header->shape) ||
      tensor.header->dtype != weight.dtype)
    return badInput("it is " + tensor.header->describe() + ", the plan needs " +
                    describe(weight) + hint);
  return {};
}

/// What quantized codes the plan needs, in words.
std::string wanted(const Weight &weight) {
  QuantizedTensor tensor;
  tensor.format = formatOf(weight);
  tensor.shape.assign(weight.shape.begin(), weight.shape.end());
  return tensor.describe();
}

/// Whether `tensor` can be quantized to the codes `weight`.
Status compareSource(const Weight &weight,
                     const ModelDirectory::Tensor &tensor) {
  if (!tensor)
    return badInput("there is no tensor of this name, the plan needs " +
                    wanted(weight) + hint);
  const bool isFloating = tensor.header->dtype == DType::f32 ||
                          tensor.header->dtype == DType::bf16 ||
                          tensor.header->dtype == DType::f16;
  if (!isFloating || !sameShape(weight, tensor.header->shape))
    return badInput("it is " + tensor.header->describe() + ", the plan needs " +
                    wanted(weight) +
                    ", or the same in f32, bf16 or f16 to quantize it" + hint);
  return {};
}

std::string where(const ModelDirectory &model, const Weight &weight) {
  return model.requested + ": tensor '" + weight.name + "'";
}

/// The quantized tensor behind codes of a plan; nothing when the model holds
/// it as it was before.
Expected<std::optional<QuantizedTensor>>
findCodes(const Weight &weight, const ModelDirectory &model) {
  PEFT_ASSIGN(std::optional<QuantizedTensor> found,
              findQuantized(model, weight.name));
  if (found && (found->format != formatOf(weight) ||
                !sameShape(weight, found->shape)))
    return badInput(where(model, weight) + ": it is " + found->describe() +
                    ", the plan needs " + wanted(weight) +
                    "; compile the plan for this model, or name the weights "
                    "before quantization");
  if (!found)
    PEFT_TRY(compareSource(weight, model.find(weight.name))
                 .in(where(model, weight)));
  return found;
}

class Binder {
public:
  Binder(const Plan &plan, const ModelDirectory &model,
         const BindOptions &options)
      : plan(plan), model(model), options(options) {
    bound.bytes.resize(plan.weights.size());
  }

  Expected<BoundWeights> run() {
    for (uint32_t i = 0; i < plan.weights.size(); ++i)
      PEFT_TRY(bind(i));
    PEFT_TRY(quantize());
    if (!pending.empty())
      PEFT_TRY(readSmall());
    PEFT_TRY(checkSizes());
    bound.owner = std::move(owner);
    return std::move(bound);
  }

private:
  Status bind(uint32_t index) {
    const Weight &weight = plan.weights[index];
    if (weight.part == WeightPart::codes) {
      PEFT_ASSIGN(const auto found, findCodes(weight, model));
      if (found)
        return bindParts(index, *found, owner->files);
      pending.push_back(index);
    }
    if (weight.part != WeightPart::whole)
      return {};
    const ModelDirectory::Tensor tensor = model.find(weight.name);
    PEFT_TRY(compare(weight, tensor).in(where(model, weight)));
    PEFT_ASSIGN(bound.bytes[index], owner->files.bytes(tensor));
    return {};
  }

  Status readSmall() {
    std::map<std::string, InputFile> files;
    for (uint32_t i = 0; i < plan.weights.size(); ++i) {
      if (plan.weights[i].part != WeightPart::whole ||
          bound.bytes[i].size() > smallTensor)
        continue;
      const ModelDirectory::Tensor tensor = model.find(plan.weights[i].name);
      const std::string &path = tensor.shard->path;
      auto file = files.find(path);
      if (file == files.end()) {
        PEFT_ASSIGN(InputFile opened, InputFile::open(path));
        file = files.emplace(path, std::move(opened)).first;
      }
      std::vector<std::byte> &bytes =
          owner->small.emplace_back(bound.bytes[i].size());
      bound.bytes[i] = bytes;
      PEFT_TRY(file->second.read(
          tensor.shard->header.dataOffset + tensor.header->begin, bytes));
    }
    return {};
  }

  Status bindParts(uint32_t codes, const QuantizedTensor &tensor,
                   MappedModel &files) {
    PEFT_ASSIGN(QuantizedParts parts, files.parts(tensor));
    owner->tables.push_back(std::move(parts.tables));
    bound.bytes[codes] = parts.codes;
    for (uint32_t i = 0; i < plan.weights.size(); ++i) {
      const Weight &part = plan.weights[i];
      if (part.part == WeightPart::whole || part.part == WeightPart::codes ||
          part.of != codes)
        continue;
      bound.bytes[i] = part.part == WeightPart::absmax ? parts.absmax
                       : part.part == WeightPart::nestedAbsmax
                           ? parts.nestedAbsmax
                           : std::as_bytes(std::span(owner->tables.back()));
    }
    return {};
  }

  /// What the model does not hold quantized.
  Status quantize() {
    if (pending.empty())
      return {};
    std::vector<QuantizedOutput> outputs;
    for (const uint32_t index : pending)
      outputs.push_back({model.find(plan.weights[index].name),
                         formatOf(plan.weights[index])});
    PEFT_ASSIGN(owner->base, openQuantizedBase(outputs, options));
    for (const uint32_t index : pending) {
      const Weight &weight = plan.weights[index];
      PEFT_ASSIGN(const std::optional<QuantizedTensor> tensor,
                  findCodes(weight, owner->base->model));
      if (!tensor)
        return internalError("the quantized weights lack " + weight.name);
      PEFT_TRY(bindParts(index, *tensor, owner->made));
    }
    return {};
  }

  Status checkSizes() const {
    for (size_t i = 0; i < plan.weights.size(); ++i) {
      const Weight &weight = plan.weights[i];
      uint64_t elements = 1;
      for (const uint64_t extent : weight.shape)
        elements *= extent;
      if (bound.bytes[i].size() != byteCount(weight.dtype, elements))
        return badInput(where(model, weight) + " has " +
                        std::to_string(bound.bytes[i].size()) +
                        " bytes, the plan needs " + describe(weight) + hint);
    }
    return {};
  }

  const Plan &plan;
  const ModelDirectory &model;
  const BindOptions &options;
  BoundWeights bound;
  std::shared_ptr<Owner> owner = std::make_shared<Owner>();
  std::vector<uint32_t> pending;
};

} // namespace

Expected<std::vector<QuantizedOutput>>
peft::weightsToQuantize(const Plan &plan, const ModelDirectory &model) {
  std::vector<QuantizedOutput> outputs;
  for (const Weight &weight : plan.weights) {
    if (weight.part != WeightPart::codes)
      continue;
    PEFT_ASSIGN(const auto found, findCodes(weight, model));
    if (!found)
      outputs.push_back({model.find(weight.name), formatOf(weight)});
  }
  return outputs;
}

Expected<BoundWeights> peft::bindWeights(const Plan &plan,
                                         const std::string &modelDirectory,
                                         const BindOptions &options) {
  PEFT_ASSIGN(ModelDirectory model, openModel(modelDirectory));
  if (plan.weights.empty())
    return BoundWeights();
  if (!model.hasWeights())
    return badInput(modelDirectory + ": it has no weights (safetensors)");
  return Binder(plan, model, options).run();
}
