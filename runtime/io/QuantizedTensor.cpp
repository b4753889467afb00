//===- QuantizedTensor.cpp - quantized weights in a model -----------------===//
#include "peft/QuantizedTensor.h"
#include "peft/FloatTypes.h"
#include "peft/Json.h"

#include <algorithm>

using namespace peft;

namespace {

constexpr uint64_t maximumStateBytes = 64 << 10;
constexpr const char *stateInfix = ".quant_state.bitsandbytes__";
constexpr const char *damaged =
    "; the file is damaged, or was not written by bitsandbytes";

std::string where(const ModelDirectory::Tensor &tensor) {
  return tensor.shard->path + ": tensor " + quoteJson(tensor.header->name);
}

/// P of P.weight.
std::string moduleOf(std::string_view weight) {
  constexpr std::string_view suffix = ".weight";
  if (weight.ends_with(suffix))
    weight.remove_suffix(suffix.size());
  return std::string(weight);
}

/// The tensor called `name`, which must be `count` elements of `type`.
Expected<ModelDirectory::Tensor> part(const ModelDirectory &model,
                                      const QuantizedTensor &tensor,
                                      const std::string &name, DType type,
                                      uint64_t count, const char *why) {
  const ModelDirectory::Tensor found = model.find(name);
  if (!found)
    return badInput(model.directory + ": has no tensor " + quoteJson(name) +
                    ", which " + quoteJson(tensor.name) + ", " +
                    tensor.describe() + ", needs" + damaged);
  if (found.header->dtype != type || found.header->elementCount() != count)
    return badInput(where(found) + ": is " + found.header->describe() +
                    ", but must be " + std::string(peft::name(type)) + " with " +
                    std::to_string(count) + " elements: " + why + damaged);
  return found;
}

Expected<QuantState> readState(const ModelDirectory::Tensor &tensor,
                               DType type) {
  const TensorHeader &header = *tensor.header;
  if (header.dtype != DType::u8)
    return badInput(where(tensor) + ": is " + header.describe() +
                    ", but must be u8, the bytes of a JSON text" + damaged);
  if (header.byteCount() > maximumStateBytes)
    return badInput(where(tensor) + ": has " +
                    std::to_string(header.byteCount()) +
                    " bytes; such a text may have at most " +
                    std::to_string(maximumStateBytes) + damaged);
  PEFT_ASSIGN(const std::string text,
              readFileRange(tensor.shard->path,
                            tensor.shard->header.dataOffset + header.begin,
                            header.byteCount()));
  return parseQuantState(text, type, where(tensor));
}

Expected<QuantizedTensor> findFourBits(const ModelDirectory &model,
                                       std::string_view weight, DType type,
                                       const ModelDirectory::Tensor &stateTensor) {
  PEFT_ASSIGN(const QuantState state, readState(stateTensor, type));
  QuantizedTensor tensor;
  tensor.name = weight;
  tensor.format = state.format;
  tensor.shape = state.shape;
  tensor.sourceType = state.sourceType;
  tensor.nestedOffset = state.nestedOffset;

  tensor.codes = model.find(weight);
  if (!tensor.codes)
    return badInput(where(stateTensor) + ": describes a weight that is not "
                                         "in the model" +
                    damaged);
  const uint64_t bytes = blockCount(tensor.elementCount(), 2);
  if (tensor.codes.header->byteCount() != bytes)
    return badInput(where(tensor.codes) + ": has " +
                    std::to_string(tensor.codes.header->byteCount()) +
                    " bytes, but " + tensor.describe() +
                    ", as its quant_state says, has " + std::to_string(bytes) +
                    damaged);

  const std::string name(weight);
  const uint64_t scales = tensor.scaleCount();
  const std::string perBlock = "one for " +
                               std::to_string(tensor.format.block) +
                               " of " + std::to_string(tensor.elementCount()) +
                               " weights";
  PEFT_ASSIGN(tensor.absmax,
              part(model, tensor, name + ".absmax",
                   tensor.format.nested ? DType::u8 : DType::f32, scales,
                   perBlock.c_str()));
  PEFT_ASSIGN(tensor.quantMap, part(model, tensor, name + ".quant_map",
                                    DType::f32, 16, "what a code stands for"));
  if (!tensor.format.nested)
    return tensor;
  const std::string perNested =
      "one for " + std::to_string(tensor.format.nested) + " of " +
      std::to_string(scales) + " scales";
  PEFT_ASSIGN(tensor.nestedAbsmax,
              part(model, tensor, name + ".nested_absmax", DType::f32,
                   blockCount(scales, tensor.format.nested),
                   perNested.c_str()));
  PEFT_ASSIGN(tensor.nestedQuantMap,
              part(model, tensor, name + ".nested_quant_map", DType::f32, 256,
                   "what the code of a scale stands for"));
  return tensor;
}

/// bitsandbytes once had other orders of the bytes, which it reads no more.
Status checkFormat(const ModelDirectory &model, std::string_view weight) {
  const ModelDirectory::Tensor format =
      model.find(moduleOf(weight) + ".weight_format");
  if (!format)
    return Status();
  if (format.header->dtype != DType::u8 || format.header->elementCount() != 1)
    return badInput(where(format) + ": is " + format.header->describe() +
                    ", but must be one u8" + damaged);
  PEFT_ASSIGN(const std::string byte,
              readFileRange(format.shard->path,
                            format.shard->header.dataOffset +
                                format.header->begin,
                            1));
  if (byte.empty() || byte[0] != 0)
    return badInput(where(format) + ": only 0 (rows) is supported; load and "
                                    "save the model with a new bitsandbytes");
  return Status();
}

Expected<QuantizedTensor> findEightBits(const ModelDirectory &model,
                                        const ModelDirectory::Tensor &codes) {
  QuantizedTensor tensor;
  tensor.name = codes.header->name;
  tensor.format = {.type = DType::i8, .block = 0, .nested = 0};
  tensor.shape = codes.header->shape;
  tensor.codes = codes;
  if (tensor.shape.size() != 2 || tensor.elementCount() == 0)
    return badInput(where(codes) + ": is " + codes.header->describe() +
                    "; a weight has two dimensions" + damaged);
  PEFT_ASSIGN(tensor.absmax,
              part(model, tensor, scalesName(tensor.name, DType::i8),
                   DType::f32, static_cast<uint64_t>(tensor.shape[0]),
                   "one for each row"));
  PEFT_TRY(checkFormat(model, tensor.name));
  return tensor;
}

Status checkScales(const ModelDirectory::Tensor &tensor, ByteSpan bytes,
                   bool positive) {
  const std::optional<uint64_t> bad = findBadScale(bytes, positive);
  if (!bad)
    return Status();
  const float value = loadFloat(bytes.data(), DType::f32, *bad);
  return badInput(where(tensor) + ": element " + std::to_string(*bad) + " is " +
                  std::to_string(value) + ", but must be finite" +
                  (positive ? " and not negative" : "") + damaged);
}

void append(ByteSpan bytes, std::vector<float> &values) {
  for (uint64_t i = 0; i < bytes.size() / sizeof(float); ++i)
    values.push_back(loadFloat(bytes.data(), DType::f32, i));
}

} // namespace

uint64_t QuantizedTensor::elementCount() const {
  uint64_t count = 1;
  for (const int64_t extent : shape)
    count *= static_cast<uint64_t>(extent);
  return count;
}

uint64_t QuantizedTensor::scaleCount() const {
  return format.block ? blockCount(elementCount(), format.block)
                      : static_cast<uint64_t>(shape[0]);
}

std::string QuantizedTensor::describe() const {
  std::string extents = "[";
  for (const int64_t extent : shape)
    extents += (extents.back() == '[' ? "" : ", ") + std::to_string(extent);
  std::string text = format.describe();
  return text.insert(std::min(text.find(' '), text.size()), extents + "]");
}

std::string peft::quantStateSuffix(DType type) {
  return stateInfix + std::string(name(type));
}

std::string peft::scalesName(std::string_view weight, DType type) {
  return type == DType::i8 ? moduleOf(weight) + ".SCB"
                           : std::string(weight) + ".absmax";
}

Expected<std::optional<QuantizedTensor>>
peft::findQuantized(const ModelDirectory &model, std::string_view weight) {
  const std::string name(weight);
  const auto nf4 = model.find(name + quantStateSuffix(DType::nf4));
  const auto fp4 = model.find(name + quantStateSuffix(DType::fp4));
  if (nf4 && fp4)
    return badInput(where(nf4) + ": there is also one of fp4" + damaged);
  if (nf4 || fp4) {
    PEFT_ASSIGN(QuantizedTensor tensor,
                findFourBits(model, weight, nf4 ? DType::nf4 : DType::fp4,
                             nf4 ? nf4 : fp4));
    return std::optional(std::move(tensor));
  }
  const ModelDirectory::Tensor codes = model.find(weight);
  if (codes && codes.header->dtype == DType::i8) {
    PEFT_ASSIGN(QuantizedTensor tensor, findEightBits(model, codes));
    return std::optional(std::move(tensor));
  }
  const bool orphaned = model.find(name + ".absmax") ||
                        (codes && codes.header->dtype == DType::u8);
  if (orphaned)
    return badInput(model.directory + ": tensor " + quoteJson(name) +
                    " looks like codes of 4 bits, but there is no " +
                    quoteJson(name + quantStateSuffix(DType::nf4)) +
                    " (or __fp4) that describes them" + damaged);
  return std::optional<QuantizedTensor>();
}

std::vector<std::string> peft::quantizedWeights(const ModelDirectory &model) {
  std::vector<std::string> names;
  for (const ModelDirectory::Tensor &tensor : model.tensors()) {
    const std::string &name = tensor.header->name;
    if (tensor.header->dtype == DType::i8)
      names.push_back(name);
    if (const size_t at = name.find(stateInfix); at != std::string::npos)
      names.push_back(name.substr(0, at));
  }
  std::sort(names.begin(), names.end());
  names.erase(std::unique(names.begin(), names.end()), names.end());
  return names;
}

Expected<ByteSpan> MappedModel::bytes(const ModelDirectory::Tensor &tensor) {
  const std::string &path = tensor.shard->path;
  auto file = std::find_if(files.begin(), files.end(), [&](const auto &other) {
    return other.path() == path;
  });
  if (file == files.end()) {
    PEFT_ASSIGN(MappedFile opened, MappedFile::open(path));
    file = files.insert(files.end(), std::move(opened));
  }
  const ByteSpan all = file->bytes();
  const uint64_t begin = tensor.shard->header.dataOffset + tensor.header->begin;
  const uint64_t size = tensor.header->byteCount();
  if (begin > all.size() || size > all.size() - begin)
    return ioError(path + ": it became shorter after its header was read");
  return all.subspan(begin, size);
}

Expected<QuantizedParts> MappedModel::parts(const QuantizedTensor &tensor) {
  QuantizedParts parts;
  PEFT_ASSIGN(parts.codes, bytes(tensor.codes));
  PEFT_ASSIGN(parts.absmax, bytes(tensor.absmax));
  if (!tensor.format.nested)
    PEFT_TRY(checkScales(tensor.absmax, parts.absmax, true));
  if (tensor.quantMap) {
    PEFT_ASSIGN(const ByteSpan map, bytes(tensor.quantMap));
    PEFT_TRY(checkScales(tensor.quantMap, map, false));
    append(map, parts.tables);
  }
  if (!tensor.format.nested)
    return parts;
  PEFT_ASSIGN(parts.nestedAbsmax, bytes(tensor.nestedAbsmax));
  PEFT_TRY(checkScales(tensor.nestedAbsmax, parts.nestedAbsmax, true));
  PEFT_ASSIGN(const ByteSpan map, bytes(tensor.nestedQuantMap));
  PEFT_TRY(checkScales(tensor.nestedQuantMap, map, false));
  append(map, parts.tables);
  parts.tables.push_back(tensor.nestedOffset);
  return parts;
}
