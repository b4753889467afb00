//===- ModelImporter.cpp - from a Hugging Face model to IR ----------------===//
#include "peftc/Import.h"

#include "Decoder.h"

#include "peft/File.h"
#include "peft/ModelConfig.h"
#include "peft/ModelDirectory.h"

#include "mlir/IR/Verifier.h"
#include "llvm/ADT/StringExtras.h"
#include "llvm/Support/FileSystem.h"
#include "llvm/Support/Path.h"

using namespace mlir;
using namespace peftc;

static const Family *findFamily(StringRef modelType) {
  static const Family *const families[] = {
      &llamaFamily,  &mistralFamily,    &qwen2Family,  &qwen3Family,
      &gemma2Family, &gemma3TextFamily, &gemma3Family, &phi3Family};
  for (const Family *family : families)
    if (family->modelType == modelType)
      return family;
  return nullptr;
}

/// What people call the model: `org/name` as asked for, else the name of the
/// folder it lies in.
static std::string modelName(const peft::ModelDirectory &model) {
  if (!llvm::sys::fs::exists(model.requested))
    return model.requested;
  SmallString<256> path(model.directory);
  llvm::sys::fs::make_absolute(path);
  llvm::sys::path::remove_dots(path, /*remove_dot_dot=*/true);
  return llvm::sys::path::filename(path).str();
}

/// The attribute nn.model, which later stages copy into the plan.
static DictionaryAttr describeModel(OpBuilder &builder,
                                    const peft::ModelDirectory &model,
                                    const peft::ModelConfig &config,
                                    StringRef configText) {
  std::string hash;
  if (model.hasWeights()) {
    hash = llvm::utohexstr(model.headerHash(), /*LowerCase=*/true);
    hash.insert(0, 16 - hash.size(), '0');
  }
  SmallVector<NamedAttribute> fields;
  auto add = [&](StringRef name, Attribute value) {
    fields.push_back(builder.getNamedAttr(name, value));
  };
  add("model_type", builder.getStringAttr(config.modelType));
  add("name", builder.getStringAttr(modelName(model)));
  add("config", builder.getStringAttr(configText));
  add("header_hash", builder.getStringAttr(hash));
  add("vocab", builder.getI64IntegerAttr(config.vocab));
  add("hidden", builder.getI64IntegerAttr(config.hidden));
  add("layers", builder.getI64IntegerAttr(config.layers));
  add("tied", builder.getBoolAttr(config.tied));
  if (!config.eosTokenIds.empty())
    add("eos", builder.getDenseI64ArrayAttr(config.eosTokenIds));
  return builder.getDictionaryAttr(fields);
}

/// nn.Embedding gives the padding row no lookup gradient. Transformers takes it
/// from config.json alone, whatever generation_config.json says.
static peft::Status markPadding(OpBuilder &builder, ParameterTable &parameters,
                                const Family &family,
                                const std::string &configText,
                                const std::string &path) {
  PEFT_ASSIGN(peft::ModelConfig config,
              peft::parseModelConfig(configText, path));
  if (!config.padTokenId)
    return {};
  parameters
      .get((family.root + ".embed_tokens.weight").str(),
           {config.vocab, config.hidden})
      .setPaddingIdxAttr(builder.getI64IntegerAttr(*config.padTokenId));
  return {};
}

peft::Expected<OwningOpRef<ModuleOp>>
peftc::importModel(MLIRContext &context, const std::string &path) {
  context.loadDialect<func::FuncDialect, nn::NNDialect>();
  PEFT_ASSIGN(peft::ModelDirectory model, peft::openModel(path));
  PEFT_ASSIGN(peft::ModelConfig config, peft::readModelConfig(model));
  PEFT_ASSIGN(std::string text, peft::readFile(model.configPath));
  const Family *family = findFamily(config.modelType);
  if (!family)
    return peft::internalError(model.configPath + ": model_type '" +
                               config.modelType + "' has no importer");

  OpBuilder builder(&context);
  OwningOpRef<ModuleOp> module(
      ModuleOp::create(NameLoc::get(builder.getStringAttr(modelName(model)))));
  (*module)->setAttr("nn.model", describeModel(builder, model, config, text));
  ParameterTable parameters(&context, model, config);
  builder.setInsertionPointToEnd(module->getBody());
  Decoder(builder, parameters, config, *family).build();
  PEFT_TRY(parameters.finish());
  PEFT_TRY(markPadding(builder, parameters, *family, text, model.configPath));
  if (failed(verify(*module)))
    return peft::internalError(path + ": the imported module does not verify");
  return module;
}
