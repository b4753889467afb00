//===- Explain.cpp - peftc explain and assemble ---------------------------===//
#include "Commands.h"
#include "Explanations.h"
#include "ModelInput.h"

#include "peftc/Target/PlanFile.h"

#include "peft/File.h"

#include "llvm/Support/FormatVariadic.h"
#include "llvm/Support/raw_ostream.h"

using namespace mlir;
using namespace peft;

Status run(const ExplainOptions &options) {
  PEFT_ASSIGN(Plan plan, loadPlan(options.plan));
  if (options.text) {
    auto context = createContext();
    auto module = peftc::importPlan(context.get(), plan);
    module->print(llvm::outs());
    llvm::outs() << "\n";
    return {};
  }
  std::vector<Explanation> parts;
  if (options.peak)
    parts.push_back(explainPeak(plan));
  if (options.dtypes)
    parts.push_back(explainTypes(plan));
  if (!options.why.empty()) {
    PEFT_ASSIGN(Explanation why, explainName(plan, options.why));
    parts.push_back(std::move(why));
  }
  if (parts.empty())
    parts.push_back(explainTotals(plan));
  if (!options.json) {
    for (const Explanation &part : parts)
      llvm::outs() << part.text;
    return {};
  }
  llvm::json::Object object;
  for (Explanation &part : parts)
    object[part.key] = std::move(part.json);
  llvm::outs() << llvm::formatv("{0:2}", llvm::json::Value(std::move(object)))
               << "\n";
  return {};
}

Status run(const AssembleOptions &options) {
  PEFT_TRY(checkOutput(options.output, {options.text}));
  auto context = createContext();
  PEFT_ASSIGN(auto module, parseModule(*context, options.text));
  auto plan = peftc::exportPlan(*module);
  if (!plan.ok()) // what is wrong came from the text, not from us
    return badInput(options.text + ": " + plan.status().message());
  PEFT_TRY(writeFileAtomically(options.output, serializePlan(*plan)));
  if (!options.quiet)
    llvm::outs() << "wrote " << options.output << "\n";
  return {};
}
