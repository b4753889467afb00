//===- Decoder.cpp - the parts decoder families share ---------------------===//
#include "Decoder.h"

#include <cmath>

using namespace mlir;
using namespace peftc;

static constexpr int64_t unknown = ShapedType::kDynamic;

std::string Decoder::layerName(int64_t layer) {
  return "model.layers." + std::to_string(layer);
}

Location Decoder::at(const std::string &module) {
  return NameLoc::get(builder.getStringAttr(module));
}

RankedTensorType Decoder::activation(int64_t features) {
  return RankedTensorType::get({unknown, unknown, features},
                               builder.getF32Type());
}

FlatSymbolRefAttr Decoder::tensor(const std::string &name,
                                  ArrayRef<int64_t> shape) {
  return FlatSymbolRefAttr::get(parameters.get(name, shape).getSymNameAttr());
}

Value Decoder::norm(Value input, const std::string &module, int64_t group) {
  int64_t width = nn::features(input);
  int64_t length = group ? group : width;
  FlatSymbolRefAttr weight = tensor(module + ".weight", {length});
  auto op = nn::RMSNormOp::create(builder, at(module), input.getType(),
                                  activation(width / length), input, weight,
                                  builder.getF64FloatAttr(config.rmsEpsilon));
  return op.getResult();
}

Value Decoder::linear(Value input, const std::string &module, int64_t out,
                      bool bias, Value residual) {
  FlatSymbolRefAttr weight =
      tensor(module + ".weight", {out, nn::features(input)});
  FlatSymbolRefAttr biasName;
  if (bias)
    biasName = tensor(module + ".bias", {out});
  return nn::LinearOp::create(builder, at(module), activation(out), input,
                              weight, biasName, residual);
}

Projections Decoder::project(Value input, const std::string &module) {
  int64_t wide = config.heads * config.headDim;
  int64_t narrow = config.kvHeads * config.headDim;
  Projections result;
  result.query = linear(input, module + ".q_proj", wide, config.qkvBias);
  result.key = linear(input, module + ".k_proj", narrow, config.qkvBias);
  result.value = linear(input, module + ".v_proj", narrow, config.qkvBias);
  return result;
}

Value Decoder::rope(Value input, const std::string &module) {
  return nn::RopeOp::create(
      builder, at(module), input.getType(), input, ropeTable,
      builder.getI64IntegerAttr(config.headDim), UnitAttr());
}

Value Decoder::attend(Projections projections, const std::string &module,
                      int64_t window, Value residual) {
  Value query = rope(projections.query, module);
  Value key = rope(projections.key, module);
  double scale = 1.0 / std::sqrt(static_cast<double>(config.headDim));
  auto lse =
      RankedTensorType::get({config.heads, unknown}, builder.getF32Type());
  auto op = nn::AttentionOp::create(
      builder, at(module), query.getType(), lse, query, key, projections.value,
      segments, builder.getI64IntegerAttr(config.heads),
      builder.getI64IntegerAttr(config.kvHeads),
      builder.getI64IntegerAttr(config.headDim), builder.getF64FloatAttr(scale),
      builder.getI64IntegerAttr(window));
  return linear(op.getResult(), module + ".o_proj", config.hidden,
                config.outputBias, residual);
}

Value Decoder::swigluMlp(Value input, const std::string &module,
                         Value residual) {
  int64_t wide = config.intermediate;
  Value gate = linear(input, module + ".gate_proj", wide, config.mlpBias);
  Value up = linear(input, module + ".up_proj", wide, config.mlpBias);
  Value product = nn::SwigluOp::create(builder, at(module + ".act_fn"),
                                       gate.getType(), gate, up);
  return linear(product, module + ".down_proj", config.hidden, config.mlpBias,
                residual);
}

/// @body(ids, positions, segments): everything from the lookup to the final
/// norm.
void Decoder::buildBody(const Family &family) {
  auto integers =
      RankedTensorType::get({unknown, unknown}, builder.getI32Type());
  auto type = builder.getFunctionType({integers, integers, integers},
                                      activation(config.hidden));
  auto function = func::FuncOp::create(builder, at("model"), "body", type);
  parameters.insertBefore(function);
  OpBuilder::InsertionGuard guard(builder);
  Block *block = builder.createBlock(
      &function.getBody(), {}, {integers, integers, integers},
      {at("input_ids"), at("position_ids"), at("segment_ids")});
  segments = block->getArgument(2);
  auto table = RankedTensorType::get(
      {unknown, unknown, static_cast<int64_t>(2 * config.rope.invFreq.size())},
      builder.getF32Type());
  ropeTable = nn::RopeTableOp::create(
      builder, at("model.rotary_emb"), table, block->getArgument(1),
      builder.getDenseF32ArrayAttr(config.rope.invFreq),
      builder.getF64FloatAttr(1.0));
  Value hidden = nn::EmbedOp::create(
      builder, at("model.embed_tokens"), activation(config.hidden),
      block->getArgument(0),
      tensor("model.embed_tokens.weight", {config.vocab, config.hidden}));
  for (int64_t layer = 0; layer < config.layers; ++layer)
    hidden = family.buildLayer(*this, hidden, layer);
  hidden = norm(hidden, "model.norm");
  func::ReturnOp::create(builder, at("model"), hidden);
}

/// @head(rows): logits of chosen rows, f32.
void Decoder::buildHead() {
  auto rows =
      RankedTensorType::get({unknown, config.hidden}, builder.getF32Type());
  auto logits =
      RankedTensorType::get({unknown, config.vocab}, builder.getF32Type());
  Location location = at("lm_head");
  auto function = func::FuncOp::create(builder, location, "head",
                                       builder.getFunctionType(rows, logits));
  OpBuilder::InsertionGuard guard(builder);
  Block *block =
      builder.createBlock(&function.getBody(), {}, {rows}, {location});
  std::string table =
      config.tied ? "model.embed_tokens.weight" : "lm_head.weight";
  Value result =
      nn::LinearOp::create(builder, location, logits, block->getArgument(0),
                           tensor(table, {config.vocab, config.hidden}),
                           FlatSymbolRefAttr(), Value());
  func::ReturnOp::create(builder, location, result);
}

void Decoder::build(const Family &family) {
  buildBody(family);
  buildHead();
}
