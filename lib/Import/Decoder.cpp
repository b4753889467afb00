//===- Decoder.cpp - the parts decoder families share ---------------------===//
#include "Decoder.h"

using namespace mlir;
using namespace peftc;

static constexpr int64_t unknown = ShapedType::kDynamic;

std::string Decoder::layerName(int64_t layer) const {
  return (family.root + ".layers." + Twine(layer)).str();
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

Value Decoder::norm(Value input, const std::string &module, int64_t group,
                    Value residual) {
  int64_t width = nn::features(input);
  int64_t length = group ? group : width;
  FlatSymbolRefAttr weight = tensor(module + ".weight", {length});
  auto op = nn::RMSNormOp::create(builder, at(module), input.getType(),
                                  activation(width / length), input, weight,
                                  residual,
                                  builder.getF64FloatAttr(config.rmsEpsilon),
                                  builder.getF64FloatAttr(config.normOffset));
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
  if (config.qkNorm) {
    result.query = norm(result.query, module + ".q_norm", config.headDim);
    result.key = norm(result.key, module + ".k_norm", config.headDim);
  }
  return result;
}

Projections Decoder::projectFused(Value input, const std::string &module) {
  int64_t wide = config.heads * config.headDim;
  int64_t narrow = config.kvHeads * config.headDim;
  std::string name = module + ".qkv_proj";
  Value fused = linear(input, name, wide + 2 * narrow, config.qkvBias);
  auto split = nn::SplitOp::create(
      builder, at(name),
      TypeRange{activation(wide), activation(narrow), activation(narrow)},
      fused);
  return {split.getParts()[0], split.getParts()[1], split.getParts()[2]};
}

Value Decoder::rope(Value input, Value table, const std::string &module) {
  return nn::RopeOp::create(builder, at(module), input.getType(), input, table,
                            builder.getI64IntegerAttr(config.headDim),
                            UnitAttr());
}

Value Decoder::attend(Projections projections, const std::string &module,
                      int64_t layer, Value residual) {
  int64_t window = config.slidingWindow[static_cast<size_t>(layer)];
  Value table = window ? localTable : globalTable;
  Value query = rope(projections.query, table, module);
  Value key = rope(projections.key, table, module);
  auto lse =
      RankedTensorType::get({config.heads, unknown}, builder.getF32Type());
  auto op = nn::AttentionOp::create(
      builder, at(module), query.getType(), lse, query, key, projections.value,
      segments, builder.getI64IntegerAttr(config.heads),
      builder.getI64IntegerAttr(config.kvHeads),
      builder.getI64IntegerAttr(config.headDim),
      builder.getF64FloatAttr(config.attentionScale),
      builder.getI64IntegerAttr(window),
      builder.getF64FloatAttr(config.attentionSoftcap));
  return linear(op.getResult(), module + ".o_proj", config.hidden,
                config.outputBias, residual);
}

Value Decoder::letThrough(Value gate, Value up, const std::string &module,
                          const char *activation, Value residual) {
  Location location = at(module + activation);
  Value product;
  if (config.activation == peft::Activation::geluTanh)
    product =
        nn::GegluOp::create(builder, location, gate.getType(), gate, up);
  else
    product =
        nn::SwigluOp::create(builder, location, gate.getType(), gate, up);
  return linear(product, module + ".down_proj", config.hidden, config.mlpBias,
                residual);
}

Value Decoder::gatedMlp(Value input, const std::string &module,
                        Value residual) {
  int64_t wide = config.intermediate;
  Value gate = linear(input, module + ".gate_proj", wide, config.mlpBias);
  Value up = linear(input, module + ".up_proj", wide, config.mlpBias);
  return letThrough(gate, up, module, ".act_fn", residual);
}

Value Decoder::gatedMlpFused(Value input, const std::string &module,
                             Value residual) {
  int64_t wide = config.intermediate;
  std::string name = module + ".gate_up_proj";
  Value fused = linear(input, name, 2 * wide, config.mlpBias);
  auto split = nn::SplitOp::create(
      builder, at(name), TypeRange{activation(wide), activation(wide)}, fused);
  return letThrough(split.getParts()[0], split.getParts()[1], module,
                    ".activation_fn", residual);
}

Value Decoder::ropeTable(const peft::RopeConfig &rope, Value positions) {
  auto type = RankedTensorType::get(
      {unknown, unknown, static_cast<int64_t>(2 * rope.invFreq.size())},
      builder.getF32Type());
  DenseF32ArrayAttr longer;
  IntegerAttr shortPositions;
  if (!rope.longInvFreq.empty()) {
    longer = builder.getDenseF32ArrayAttr(rope.longInvFreq);
    shortPositions = builder.getI64IntegerAttr(
        static_cast<int64_t>(rope.originalMaxPositions));
  }
  return nn::RopeTableOp::create(
      builder, at((family.root + ".rotary_emb").str()), type, positions,
      builder.getDenseF32ArrayAttr(rope.invFreq),
      builder.getF64FloatAttr(rope.attentionFactor), longer, shortPositions);
}

/// @body(ids, positions, segments): everything from the lookup to the final
/// norm.
void Decoder::buildBody() {
  auto integers =
      RankedTensorType::get({unknown, unknown}, builder.getI32Type());
  auto type = builder.getFunctionType({integers, integers, integers},
                                      activation(config.hidden));
  std::string root = family.root.str();
  auto function = func::FuncOp::create(builder, at(root), "body", type);
  parameters.insertBefore(function);
  OpBuilder::InsertionGuard guard(builder);
  Block *block = builder.createBlock(
      &function.getBody(), {}, {integers, integers, integers},
      {at("input_ids"), at("position_ids"), at("segment_ids")});
  segments = block->getArgument(2);
  Value positions = block->getArgument(1);
  globalTable = localTable = ropeTable(config.rope, positions);
  if (config.localRope)
    localTable = ropeTable(*config.localRope, positions);
  Value hidden = nn::EmbedOp::create(
      builder, at(root + ".embed_tokens"), activation(config.hidden),
      block->getArgument(0),
      tensor(root + ".embed_tokens.weight", {config.vocab, config.hidden}),
      builder.getF64FloatAttr(config.embeddingScale));
  for (int64_t layer = 0; layer < config.layers; ++layer)
    hidden = family.buildLayer(*this, hidden, layer);
  hidden = norm(hidden, root + ".norm");
  func::ReturnOp::create(builder, at(root), hidden);
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
  std::string table = config.tied
                          ? (family.root + ".embed_tokens.weight").str()
                          : "lm_head.weight";
  Value result =
      nn::LinearOp::create(builder, location, logits, block->getArgument(0),
                           tensor(table, {config.vocab, config.hidden}),
                           FlatSymbolRefAttr(), Value());
  if (config.logitSoftcap > 0)
    result = nn::SoftcapOp::create(
        builder, location, logits, result,
        builder.getF64FloatAttr(config.logitSoftcap));
  func::ReturnOp::create(builder, location, result);
}

void Decoder::build() {
  buildBody();
  buildHead();
}
