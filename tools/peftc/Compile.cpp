//===- Compile.cpp - peftc compile and estimate ---------------------------===//
#include "Commands.h"
#include "ModelInput.h"
#include "Summary.h"
#include "TargetFit.h"
#include "Units.h"

#include "peftc/Analysis/AdapterReport.h"
#include "peftc/Dialect/Plan/Plan.h"
#include "peftc/Pipelines.h"
#include "peftc/Target/PlanFile.h"

#include "peft/File.h"

#include "llvm/Support/FormatVariadic.h"
#include "llvm/Support/raw_ostream.h"

#include <chrono>

using namespace mlir;
using namespace peft;

namespace {
/// Says on standard error how long each stage took, if asked to.
class Stopwatch {
public:
  explicit Stopwatch(bool on) : on(on) {}
  void lap(StringRef reached) {
    auto now = std::chrono::steady_clock::now();
    if (on)
      llvm::errs() << llvm::formatv(
          "{0,-10} {1:f1} ms\n", reached,
          std::chrono::duration<double, std::milli>(now - begin).count());
    begin = now;
  }

private:
  bool on;
  std::chrono::steady_clock::time_point begin =
      std::chrono::steady_clock::now();
};
} // namespace

/// FILE.plan for a file or directory FILE, in the working directory.
static std::string defaultOutput(const std::string &model) {
  StringRef name(model);
  name = name.rtrim('/');
  name = name.substr(name.rfind('/') + 1);
  for (StringRef suffix : {".mlir", ".json"})
    name.consume_back(suffix);
  return name.str() + ".plan";
}

/// The flags of a quantized base, which mean nothing without one.
static Status setQuantization(const CompileOptions &options,
                              peftc::CompileOptions &pipeline) {
  const QuantizeFlags &flags = options.quantize;
  const std::string &base = options.base;
  bool packed = base == "nf4" || base == "fp4";
  const std::pair<const char *, bool> given[] = {
      {"--double-quant", flags.doubleQuant},
      {"--quantize-block", flags.block.has_value()},
      {"--quantize-head", flags.head},
      {"--quantize-include", !flags.include.empty()},
      {"--quantize-exclude", !flags.exclude.empty()}};
  for (auto [flag, set] : given) {
    bool onlyPacked = flag == given[0].first || flag == given[1].first;
    if (set && !packed && (onlyPacked || base != "int8"))
      return usageError(std::string(flag) + " needs --base nf4 or fp4" +
                        (onlyPacked ? "" : " or int8"));
  }
  if (flags.head && !flags.include.empty())
    return usageError("--quantize-include excludes --quantize-head: it names "
                      "all that is quantized; add lm_head or embed_tokens to "
                      "it");
  if (options.trainAll && (packed || base == "int8"))
    return usageError("--base " + base +
                      " excludes --train all: codes cannot train; leave one of "
                      "them out");
  pipeline.quantizeBlock = flags.block.value_or(64);
  pipeline.doubleQuant = flags.doubleQuant;
  pipeline.quantizeHead = flags.head;
  PEFT_ASSIGN(pipeline.quantizeInclude,
              moduleExpression("--quantize-include", flags.include));
  PEFT_ASSIGN(pipeline.quantizeExclude,
              moduleExpression("--quantize-exclude", flags.exclude));
  return {};
}

/// An adapter's directory stands for the config in it.
static std::string adapterPath(const std::string &path) {
  return isDirectory(path) ? joinPath(path, "adapter_config.json") : path;
}

static Expected<peftc::CompileOptions>
pipelineOptions(const CompileOptions &options,
                const peftc::TargetDescription &target) {
  peftc::CompileOptions pipeline;
  pipeline.target = target.name;
  pipeline.device = target.kind == DeviceKind::cuda ? "cuda" : "cpu";
  pipeline.capability = target.capability();
  pipeline.batch = options.batch;
  pipeline.seq = options.seq;
  PEFT_ASSIGN(pipeline.compute, chooseCompute(options.compute, target));
  pipeline.trainAll = options.trainAll;
  pipeline.groupDownProjections = options.groupDownProjections;
  pipeline.maxThreads = options.maxThreads;
  pipeline.base = options.base;
  PEFT_TRY(setQuantization(options, pipeline));
  pipeline.optimizer = options.optimizer;
  pipeline.loraPlusRatio = options.loraPlusRatio.value_or(1);
  pipeline.loraFA = options.loraFA;
  pipeline.recompute = options.recompute;
  if (options.trainAll)
    return pipeline;
  AdapterConfig config;
  if (options.adapterFile.empty()) {
    PEFT_ASSIGN(config, adapterConfigFromFlags(options.adapter));
    config.taskType = "CAUSAL_LM";
    pipeline.adapterConfig = writeAdapterConfig(config);
  } else {
    const std::string path = adapterPath(options.adapterFile);
    PEFT_ASSIGN(pipeline.adapterConfig, readFile(path));
    // The pass reads it again, but does not know where it stands.
    PEFT_ASSIGN(config, parseAdapterConfig(pipeline.adapterConfig, path));
  }
  if (options.loraFA && startsFromWeights(config.init))
    return usageError("--lora-fa with an adapter that starts from the weights "
                      "(pissa, olora) is not in this version; take kaiming or "
                      "gaussian");
  return pipeline;
}

/// No address space holds more; the plan's own verifier has the same limit.
static Status checkArenas(ModuleOp module) {
  constexpr int64_t most = int64_t(1) << 48;
  Status status;
  module.walk([&](peftc::plan::ArenaOp arena) {
    if (static_cast<int64_t>(arena.getSize()) > most)
      status = Status::error(Code::doesNotFit,
                             "the step needs " + formatBytes(arena.getSize()) +
                                 " of memory, which no machine has; take a "
                                 "smaller --batch or --seq");
  });
  return status;
}

Status run(const CompileOptions &options) {
  PEFT_ASSIGN(
      peftc::TargetDescription target,
      peftc::loadTarget(options.target.empty() ? "cpu" : options.target));
  PEFT_ASSIGN(peftc::CompileOptions pipeline, pipelineOptions(options, target));
  std::string output =
      options.output.empty() ? defaultOutput(options.model) : options.output;
  if (!options.estimateOnly)
    PEFT_TRY(checkOutput(output, {options.model, options.adapterFile,
                                  options.target}));
  Stopwatch watch(options.timing);
  auto context = createContext();
  PEFT_ASSIGN(auto module, readModel(*context, options.model));
  watch.lap("model");
  CompileSummary summary;
  summary.batch = options.batch;
  summary.seq = options.seq;
  if (!options.target.empty())
    summary.target = target;
  pipeline.afterStage = [&](StringRef stage, ModuleOp stageModule) {
    watch.lap(stage);
    if (stage == "adapted")
      summary.adapters = peftc::reportAdapters(stageModule);
  };
  pipeline.onRemark = [&](StringRef where, StringRef text) {
    summary.remarks.push_back({where.str(), text.str()});
  };
  PEFT_TRY(peftc::compileModel(*module, pipeline));
  PEFT_TRY(checkArenas(*module));
  PEFT_ASSIGN(Plan plan, peftc::exportPlan(*module));
  Status fit = checkFit(plan, target);
  if (!options.estimateOnly) {
    PEFT_TRY(fit);
    summary.output = output;
    PEFT_TRY(writeFileAtomically(summary.output, serializePlan(plan)));
  }
  watch.lap("written");
  if (options.json)
    llvm::outs() << summary.json(plan);
  else if (!options.quiet)
    llvm::outs() << summary.text(plan);
  return fit;
}
