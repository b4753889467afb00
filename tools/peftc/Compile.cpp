//===- Compile.cpp - peftc compile and estimate ---------------------------===//
#include "Commands.h"
#include "ModelInput.h"
#include "Summary.h"

#include "peftc/Analysis/AdapterReport.h"
#include "peftc/Dialect/NN/NN.h"
#include "peftc/Pipelines.h"
#include "peftc/Target/PlanFile.h"

#include "peft/File.h"

#include "llvm/Support/raw_ostream.h"

using namespace mlir;
using namespace peft;

/// FILE.plan for a file or directory FILE, in the working directory.
static std::string defaultOutput(const std::string &model) {
  StringRef name(model);
  name = name.rtrim('/');
  name = name.substr(name.rfind('/') + 1);
  for (StringRef suffix : {".mlir", ".json"})
    name.consume_back(suffix);
  return name.str() + ".plan";
}

static Expected<peftc::CompileOptions>
pipelineOptions(const CompileOptions &options) {
  peftc::CompileOptions pipeline;
  pipeline.batch = options.batch;
  pipeline.seq = options.seq;
  pipeline.compute = options.compute;
  pipeline.trainAll = options.trainAll;
  pipeline.maxThreads = options.maxThreads;
  if (options.trainAll) {
    if (!options.adapterFile.empty())
      return usageError("--train all excludes --adapter: every parameter "
                        "trains, there is no adapter");
    return pipeline;
  }
  if (options.adapterFile.empty()) {
    PEFT_ASSIGN(AdapterConfig config,
                adapterConfigFromFlags(options.adapter));
    config.taskType = "CAUSAL_LM";
    pipeline.adapterConfig = writeAdapterConfig(config);
  } else {
    PEFT_ASSIGN(pipeline.adapterConfig, readFile(options.adapterFile));
  }
  return pipeline;
}

/// `--base TYPE` names the type the weights have already; changing it comes
/// with quantization.
static Status checkBase(ModuleOp module, const std::string &base) {
  if (base == "stored")
    return {};
  for (auto parameter : module.getOps<peftc::nn::ParamOp>()) {
    std::string found;
    llvm::raw_string_ostream(found)
        << parameter.getTensorType().getElementType();
    if (found != base)
      return usageError("--base " + base + ": not in this version; '" +
                        parameter.getSymName().str() + "' is stored as " +
                        found + ", use --base stored");
  }
  return {};
}

Status run(const CompileOptions &options) {
  PEFT_ASSIGN(peftc::CompileOptions pipeline, pipelineOptions(options));
  auto context = createContext();
  PEFT_ASSIGN(auto module, readModel(*context, options.model));
  PEFT_TRY(checkBase(*module, options.base));

  CompileSummary summary;
  summary.batch = options.batch;
  summary.seq = options.seq;
  pipeline.afterStage = [&](StringRef stage, ModuleOp stageModule) {
    if (stage == "adapted")
      summary.adapters = peftc::reportAdapters(stageModule);
  };
  pipeline.onRemark = [&](StringRef where, StringRef text) {
    summary.remarks.push_back((where.empty() ? "" : where + ": ").str() +
                              text.str());
  };
  PEFT_TRY(peftc::compileModel(*module, pipeline));
  PEFT_ASSIGN(Plan plan, peftc::exportPlan(*module));
  if (!options.estimateOnly) {
    summary.output =
        options.output.empty() ? defaultOutput(options.model) : options.output;
    PEFT_TRY(writeFileAtomically(summary.output, serializePlan(plan)));
  }
  if (!options.quiet)
    llvm::outs() << (options.json ? summary.json(plan) : summary.text(plan));
  return {};
}
