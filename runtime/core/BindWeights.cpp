//===- BindWeights.cpp - a plan's weights in a model directory ------------===//
#include "peft/Executor.h"
#include "peft/ModelDirectory.h"

#include <map>

namespace peft {

namespace {

/// Maps each file of a model at its first use.
class WeightFiles {
public:
  Expected<ByteSpan> bytes(const ModelDirectory::Tensor &tensor) {
    auto found = files.find(tensor.shard->path);
    if (found == files.end()) {
      PEFT_ASSIGN(MappedFile file, MappedFile::open(tensor.shard->path));
      found = files.emplace(tensor.shard->path, std::move(file)).first;
    }
    ByteSpan all = found->second.bytes();
    uint64_t begin = tensor.shard->header.dataOffset + tensor.header->begin;
    uint64_t size = tensor.header->byteCount();
    if (begin > all.size() || size > all.size() - begin)
      return ioError(tensor.shard->path +
                     ": it became shorter after its header was read");
    return all.subspan(begin, size);
  }

private:
  std::map<std::string, MappedFile> files;
};

} // namespace

static std::string describe(const Weight &weight) {
  std::string text = std::string(name(weight.dtype)) + "[";
  for (size_t i = 0; i < weight.shape.size(); ++i)
    text += (i ? ", " : "") + std::to_string(weight.shape[i]);
  return text + "]";
}

static Status compare(const Weight &weight,
                      const ModelDirectory::Tensor &tensor) {
  constexpr const char *hint =
      "; the plan was made for another model: compile it for this one";
  if (!tensor)
    return badInput("there is no tensor of this name, the plan needs " +
                    describe(weight) + hint);
  const std::vector<int64_t> &shape = tensor.header->shape;
  bool sameShape = shape.size() == weight.shape.size();
  for (size_t i = 0; sameShape && i < shape.size(); ++i)
    sameShape = static_cast<uint64_t>(shape[i]) == weight.shape[i];
  if (!sameShape || tensor.header->dtype != weight.dtype)
    return badInput("it is " + tensor.header->describe() + ", the plan needs " +
                    describe(weight) + hint);
  return {};
}

Expected<BoundWeights> bindWeights(const Plan &plan,
                                   const std::string &modelDirectory) {
  PEFT_ASSIGN(ModelDirectory model, openModel(modelDirectory));
  BoundWeights bound;
  if (plan.weights.empty())
    return bound;
  if (!model.hasWeights())
    return badInput(modelDirectory + ": it has no weights (safetensors)");
  auto files = std::make_shared<WeightFiles>();
  for (const Weight &weight : plan.weights) {
    ModelDirectory::Tensor tensor = model.find(weight.name);
    PEFT_TRY(compare(weight, tensor)
                 .in(modelDirectory + ": tensor '" + weight.name + "'"));
    PEFT_ASSIGN(ByteSpan bytes, files->bytes(tensor));
    bound.bytes.push_back(bytes);
  }
  bound.owner = std::move(files);
  return bound;
}

} // namespace peft
