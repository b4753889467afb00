//===- ModelInput.cpp - the model a command was given ---------------------===//
#include "ModelInput.h"

#include "Commands.h"

#include "peftc/Import.h"
#include "peftc/RegisterAll.h"

#include "peft/File.h"

#include "mlir/IR/Diagnostics.h"
#include "mlir/IR/DialectRegistry.h"
#include "mlir/Parser/Parser.h"
#include "llvm/Support/raw_ostream.h"

#include <filesystem>

using namespace mlir;
using namespace peft;

std::unique_ptr<MLIRContext> createContext() {
  DialectRegistry registry;
  peftc::registerAllDialects(registry);
  auto context =
      std::make_unique<MLIRContext>(registry, MLIRContext::Threading::DISABLED);
  context->loadAllAvailableDialects();
  return context;
}

Expected<OwningOpRef<ModuleOp>> parseModule(MLIRContext &context,
                                            const std::string &path) {
  PEFT_ASSIGN(std::string text, readFile(path));
  std::string error;
  ScopedDiagnosticHandler handler(&context, [&](Diagnostic &diagnostic) {
    if (!error.empty() || diagnostic.getSeverity() != DiagnosticSeverity::Error)
      return success();
    error = path;
    if (auto place = dyn_cast<FileLineColLoc>(diagnostic.getLocation()))
      error += ":" + std::to_string(place.getLine()) + ":" +
               std::to_string(place.getColumn());
    error += ": " + diagnostic.str();
    return success();
  });
  auto module = parseSourceString<ModuleOp>(text, ParserConfig(&context), path);
  if (!module)
    return badInput(error.empty() ? path + ": is not MLIR" : error);
  return module;
}

/// Imports and says on standard error what was left alone, and why.
static Expected<OwningOpRef<ModuleOp>> importModel(MLIRContext &context,
                                                   const std::string &model) {
  ScopedDiagnosticHandler handler(&context, [](Diagnostic &diagnostic) {
    if (diagnostic.getSeverity() == DiagnosticSeverity::Remark)
      llvm::errs() << "peftc: " << diagnostic.str() << "\n";
    return success(diagnostic.getSeverity() == DiagnosticSeverity::Remark);
  });
  return peftc::importModel(context, model);
}

Expected<OwningOpRef<ModuleOp>> readModel(MLIRContext &context,
                                          const std::string &model) {
  if (!StringRef(model).ends_with(".mlir"))
    return importModel(context, model);
  PEFT_ASSIGN(auto module, parseModule(context, model));
  if (!(*module)->hasAttr("nn.model"))
    return badInput(model + ": has no attribute nn.model; it is not what "
                            "peftc import writes");
  return module;
}

Status checkOutput(const std::string &output,
                   std::initializer_list<std::string> inputs) {
  std::error_code ignored;
  for (const std::string &input : inputs)
    if (!input.empty() && std::filesystem::equivalent(output, input, ignored))
      return usageError("-o " + output + " is an input of this command (" +
                        input + "); name another file");
  StringRef name(output);
  bool belongs = name.ends_with(".json") || name.ends_with(".safetensors");
  std::string folder = parentPath(output);
  if (belongs && isFile(output) &&
      (isFile(joinPath(folder, "config.json")) ||
       isFile(joinPath(folder, "adapter_config.json"))))
    return usageError("-o " + output + " is a file of the model or adapter in " +
                      folder + "; name another file");
  return {};
}

Status run(const ImportOptions &options) {
  if (!options.output.empty())
    PEFT_TRY(checkOutput(options.output, {options.model}));
  auto context = createContext();
  PEFT_ASSIGN(auto module, importModel(*context, options.model));
  std::string text;
  llvm::raw_string_ostream stream(text);
  // Locations carry the Hugging Face names.
  module->print(stream, OpPrintingFlags().enableDebugInfo());
  if (options.output.empty()) {
    llvm::outs() << text << "\n";
    return {};
  }
  PEFT_TRY(writeFileAtomically(options.output, text + "\n"));
  if (!options.quiet)
    llvm::outs() << "wrote " << options.output << "\n";
  return {};
}
