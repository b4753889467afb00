//===- ParameterTable.cpp - tensors of a model as nn.params ---------------===//
#include "ParameterTable.h"

#include "peft/NestedNames.h"

#include "mlir/IR/Diagnostics.h"

using namespace mlir;
using namespace peftc;

static std::string shapeText(ArrayRef<int64_t> shape) {
  std::string text = "[";
  for (size_t i = 0; i < shape.size(); ++i)
    text += (i ? ", " : "") + std::to_string(shape[i]);
  return text + "]";
}

/// Null for types that no weight may have.
static Type elementType(MLIRContext *context, std::optional<peft::DType> type) {
  switch (type.value_or(peft::DType::u8)) {
  case peft::DType::f32:
    return Float32Type::get(context);
  case peft::DType::bf16:
    return BFloat16Type::get(context);
  case peft::DType::f16:
    return Float16Type::get(context);
  default:
    return {};
  }
}

ParameterTable::ParameterTable(MLIRContext *context,
                               const peft::ModelDirectory &model,
                               const peft::ModelConfig &config)
    : builder(context), model(model), config(config) {
  for (const peft::ModelDirectory::Tensor &tensor : model.tensors())
    olderNames |=
        StringRef(tensor.header->name).starts_with("language_model.model.");
}

/// The tensor of a parameter, which is called by its place in the module tree;
/// files still have the names of earlier trees.
std::string ParameterTable::storedName(const std::string &name) const {
  if (!olderNames)
    return name;
  return peft::otherNestedName(name).value_or(name);
}

void ParameterTable::fail(peft::Status status) {
  if (error.ok())
    error = std::move(status);
}

static qw::Format formatOf(const peft::QuantFormat &format) {
  using Kind = qw::Format::Kind;
  Kind kind = format.type == peft::DType::nf4   ? Kind::nf4
              : format.type == peft::DType::fp4 ? Kind::fp4
                                                : Kind::int8;
  return {kind, format.block, format.nested};
}

/// The element type that a bare config.json promises. bitsandbytes quantizes
/// every linear but the head.
Type ParameterTable::promisedType(const std::string &name,
                                  ArrayRef<int64_t> shape) {
  MLIRContext *context = builder.getContext();
  StringRef module = StringRef(name).rsplit('.').first;
  auto skips = [&](StringRef skipped) {
    return module == skipped || module.ends_with(("." + skipped).str());
  };
  if (config.quantization && shape.size() == 2 && !skips("lm_head") &&
      !skips("embed_tokens") &&
      llvm::none_of(config.quantization->skipModules, skips))
    return qw::typeOf(context, formatOf(config.quantization->format));
  // transformers' default where config.json has no dtype is float32.
  Type type = elementType(context, config.dtype.value_or(peft::DType::f32));
  return type ? type : Float32Type::get(context);
}

Type ParameterTable::quantizedType(const peft::QuantizedTensor &tensor,
                                   ArrayRef<int64_t> shape) {
  for (const peft::ModelDirectory::Tensor &part :
       {tensor.absmax, tensor.nestedAbsmax, tensor.quantMap,
        tensor.nestedQuantMap})
    if (part)
      parts.insert(part.header->name);
  parts.insert(tensor.name + peft::quantStateSuffix(tensor.format.type));
  parts.insert(tensor.name + "_format");
  if (ArrayRef<int64_t>(tensor.shape) != shape)
    fail(peft::badInput(tensor.codes.shard->path + ": tensor '" + tensor.name +
                        "' is " + tensor.describe() + ", config.json needs " +
                        shapeText(shape)));
  return qw::typeOf(builder.getContext(), formatOf(tensor.format));
}

/// The element type of tensor `name`: as its file has it, or as a bare
/// config.json promises. f32 after an error, so that building goes on.
Type ParameterTable::storedType(const std::string &name,
                                ArrayRef<int64_t> shape) {
  MLIRContext *context = builder.getContext();
  Type fallback = Float32Type::get(context);
  if (!model.hasWeights())
    return promisedType(name, shape);
  auto quantized = peft::findQuantized(model, name);
  if (!quantized.ok()) {
    fail(quantized.status());
    return fallback;
  }
  if (*quantized)
    return quantizedType(**quantized, shape);
  peft::ModelDirectory::Tensor tensor = model.find(name);
  constexpr llvm::StringLiteral prefix = "model.";
  llvm::StringRef bare(name);
  if (!tensor && bare.consume_front(prefix) && model.find(bare.str())) {
    fail(peft::badInput(
        model.directory + ": the tensors have no 'model.' in front ('" +
        bare.str() + "' instead of '" + name +
        "'): this is a base model without its head; load it with "
        "transformers' AutoModelForCausalLM, save_pretrained it, and use "
        "that directory"));
    return fallback;
  }
  if (!tensor) {
    fail(peft::badInput(model.directory + ": no tensor '" + name +
                        "', which a " + config.modelType +
                        " model of this config.json needs as " +
                        shapeText(shape) +
                        "; is the download complete, and is config.json of "
                        "the same model?"));
    return fallback;
  }
  if (ArrayRef<int64_t>(tensor.header->shape) != shape) {
    fail(peft::badInput(tensor.shard->path + ": tensor '" + name + "' is " +
                        tensor.header->describe() + ", config.json needs " +
                        shapeText(shape)));
    return fallback;
  }
  if (Type type = elementType(context, tensor.header->dtype))
    return type;
  fail(peft::badInput(tensor.shard->path + ": tensor '" + name + "' is " +
                      tensor.header->describe() +
                      "; supported are weights stored as f32, bf16 or f16"));
  return fallback;
}

nn::ParamOp ParameterTable::get(const std::string &name,
                                ArrayRef<int64_t> shape) {
  nn::ParamOp &param = params[name];
  if (param)
    return param;
  StringAttr symbol = builder.getStringAttr(name);
  StringRef module = StringRef(name).rsplit('.').first;
  std::string stored = storedName(name);
  used.insert(stored);
  auto type = RankedTensorType::get(shape, storedType(stored, shape));
  OperationState state(NameLoc::get(symbol), nn::ParamOp::getOperationName());
  state.addAttribute("sym_name", symbol);
  state.addAttribute("type", TypeAttr::get(type));
  state.addAttribute("module", builder.getStringAttr(module));
  if (stored != name)
    state.addAttribute("storedName", builder.getStringAttr(stored));
  param = cast<nn::ParamOp>(builder.create(state));
  return param;
}

/// What stands beside a text model inside another: no text goes through it.
static bool isOfImages(StringRef name) {
  name.consume_front("model.");
  return name.starts_with("vision_tower.") ||
         name.starts_with("multi_modal_projector.");
}

/// Tensors that old checkpoints carry although nothing reads them.
bool ParameterTable::cannotMatter(StringRef name) const {
  return name.ends_with(".rotary_emb.inv_freq") ||
         (config.tied && name == storedName("lm_head.weight"));
}

peft::Status ParameterTable::finish() {
  PEFT_TRY(error);
  std::string first;
  size_t count = 0, images = 0;
  const peft::WeightShard *shard = nullptr;
  for (const peft::ModelDirectory::Tensor &tensor : model.tensors()) {
    const std::string &name = tensor.header->name;
    if (used.contains(name) || parts.contains(name))
      continue;
    if (config.modelType == "gemma3" && isOfImages(name)) {
      ++images;
      continue;
    }
    if (cannotMatter(name)) {
      emitRemark(NameLoc::get(builder.getStringAttr(name)))
          << "tensor '" << name << "' is ignored: "
          << (StringRef(name).ends_with("lm_head.weight") ? "the head is tied to the embedding"
                                       : "it follows from config.json");
      continue;
    }
    if (!count++) {
      first = name;
      shard = tensor.shard;
    }
  }
  if (images)
    emitRemark(UnknownLoc::get(builder.getContext()))
        << images << " tensors of the vision tower and its projector are "
        << "ignored: this version trains on text";
  if (!count)
    return {};
  std::string others =
      count > 1 ? " (and " + std::to_string(count - 1) + " more)" : "";
  return peft::badInput(
      shard->path + ": tensor '" + first + "'" + others + " is used by no " +
      config.modelType +
      " module of this config.json; leaving it out would change the results, "
      "so check config.json (attention_bias, mlp_bias, num_hidden_layers)");
}
