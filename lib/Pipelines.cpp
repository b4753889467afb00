//===- Pipelines.cpp - the stages from a model to a plan ------------------===//
#include "peftc/Pipelines.h"

#include "peftc/Dialect/QW/QW.h"
#include "peftc/Transforms/Passes.h"

#include "mlir/IR/Diagnostics.h"
#include "mlir/IR/Verifier.h"
#include "mlir/Pass/PassManager.h"
#include "mlir/Pass/PassOptions.h"
#include "mlir/Pass/PassRegistry.h"

using namespace mlir;
using namespace peftc;

static void closeStage(OpPassManager &pm, StringRef stage) {
  pm.addPass(createVerifyStage(VerifyStageOptions{stage.str()}));
}

void peftc::populateModelToAdapted(OpPassManager &pm,
                                   const CompileOptions &options) {
  closeStage(pm, "model");
  // First what is wrong with the request, then the work on every op.
  if (options.trainAll)
    pm.addPass(createTrainAllParameters());
  else
    pm.addPass(
        createAttachAdapters(AttachAdaptersOptions{
            options.adapterConfig, options.loraPlusRatio, options.loraFA}));
  if (qw::parseKind(options.base)) {
    QuantizeBaseOptions quantize;
    quantize.type = options.base;
    quantize.block = options.quantizeBlock;
    quantize.nested = options.doubleQuant;
    quantize.head = options.quantizeHead;
    quantize.include = options.quantizeInclude;
    quantize.exclude = options.quantizeExclude;
    pm.addPass(createQuantizeBase(quantize));
  } else if (!options.base.empty() && options.base != "stored") {
    pm.addPass(createConvertBase(ConvertBaseOptions{options.base}));
  }
  SpecializeModelOptions shapes;
  shapes.batch = options.batch;
  shapes.seq = options.seq;
  shapes.compute = options.compute;
  pm.addPass(createSpecializeModel(shapes));
  closeStage(pm, "adapted");
}

void peftc::populateAdaptedToStep(OpPassManager &pm,
                                  const CompileOptions &options) {
  DifferentiateOptions head;
  head.headChunkBytes = options.headChunkBytes;
  head.optimizer = options.optimizer;
  pm.addPass(createDifferentiate(head));
  pm.addPass(
      createChooseRecompute(ChooseRecomputeOptions{options.recompute}));
  pm.addPass(createRematerialize());
  closeStage(pm, "step");
}

void peftc::populateStepToConverted(OpPassManager &pm,
                                    const CompileOptions &options) {
  ConvertToPlanOptions plan;
  plan.maxThreads = options.maxThreads;
  plan.target = options.target;
  plan.device = options.device;
  // A quantized base says nothing of the weights that are none.
  plan.convertWeights =
      options.base.empty() || qw::parseKind(options.base).has_value();
  plan.groupDownProjections = options.groupDownProjections;
  plan.capability = options.capability;
  pm.addPass(createConvertToPlan(plan));
  closeStage(pm, "converted");
}

void peftc::populateConvertedToPlanned(OpPassManager &pm,
                                       const CompileOptions &options) {
  PlanMemoryOptions memory;
  memory.alignment = options.arenaAlignment;
  if (options.device == "cuda") // as a card's allocations, and its libraries
    memory.alignment = std::max<int64_t>(memory.alignment, 256);
  pm.addPass(createPlanMemory(memory));
  // Sharing bytes makes conflicts, so the waits come last.
  pm.addPass(createInsertWaits());
  closeStage(pm, "planned");
}

namespace {
struct Stage {
  StringRef name; ///< of the stage it reaches
  void (*populate)(OpPassManager &pm, const CompileOptions &options);
  peft::Code failure;
};

constexpr Stage stages[] = {
    {"adapted", populateModelToAdapted, peft::Code::badInput},
    {"step", populateAdaptedToStep, peft::Code::internal},
    {"converted", populateStepToConverted, peft::Code::internal},
    {"planned", populateConvertedToPlanned, peft::Code::internal},
};

struct PipelineOptions : public PassPipelineOptions<PipelineOptions> {
  Option<std::string> until{*this, "until",
                            llvm::cl::desc("last stage to reach"),
                            llvm::cl::init("planned")};
  Option<std::string> config{*this, "config",
                             llvm::cl::desc("adapter_config.json as text")};
  Option<double> loraPlusRatio{
      *this, "lora-plus-ratio",
      llvm::cl::desc("rate of B over the rate of A (LoRA+)"),
      llvm::cl::init(1.0)};
  Option<bool> loraFA{*this, "lora-fa", llvm::cl::desc("freeze A (LoRA-FA)"),
                      llvm::cl::init(false)};
  Option<bool> trainAll{*this, "train-all",
                        llvm::cl::desc("train every parameter"),
                        llvm::cl::init(false)};
  Option<std::string> optimizer{*this, "optimizer",
                                llvm::cl::desc("adamw or adamw8bit"),
                                llvm::cl::init("adamw")};
  Option<int64_t> batch{*this, "batch",
                        llvm::cl::desc("rows of one micro-batch"),
                        llvm::cl::init(1)};
  Option<int64_t> seq{*this, "seq", llvm::cl::desc("tokens of a row"),
                      llvm::cl::init(2048)};
  Option<std::string> compute{*this, "compute",
                              llvm::cl::desc("compute type: bf16, f16 or f32"),
                              llvm::cl::init("bf16")};
  Option<std::string> base{*this, "base",
                           llvm::cl::desc("storage of frozen weights"),
                           llvm::cl::init("")};
  Option<bool> doubleQuant{*this, "double-quant",
                           llvm::cl::desc("quantize the scales, too"),
                           llvm::cl::init(false)};
  Option<bool> quantizeHead{*this, "quantize-head",
                            llvm::cl::desc("quantize head and embedding, too"),
                            llvm::cl::init(false)};
  Option<std::string> target{*this, "target",
                             llvm::cl::desc("name of the target"),
                             llvm::cl::init("cpu")};
  Option<std::string> device{*this, "device",
                             llvm::cl::desc("kind of the target: cpu or cuda"),
                             llvm::cl::init("cpu")};
  Option<bool> groupDownProjections{
      *this, "group-down-projections",
      llvm::cl::desc("project the adapters of one input down by one launch"),
      llvm::cl::init(true)};
  Option<std::string> recompute{
      *this, "recompute",
      llvm::cl::desc("activations to recompute: none or layers"),
      llvm::cl::init("none")};
  Option<int64_t> capability{*this, "capability",
                             llvm::cl::desc("of a card: 90 for 9.0"),
                             llvm::cl::init(0)};
  Option<int64_t> headChunkBytes{
      *this, "head-chunk-bytes",
      llvm::cl::desc("largest f32 logits buffer of one chunk, bytes"),
      llvm::cl::init(64 << 20)};
  Option<int64_t> maxThreads{
      *this, "max-threads",
      llvm::cl::desc("threads that per-thread workspaces are made for"),
      llvm::cl::init(8)};
};
} // namespace

/// The Hugging Face path that a location carries, if it carries one.
static std::string placeOf(Location location) {
  if (auto name = dyn_cast<NameLoc>(location))
    return name.getName().str();
  std::string text;
  if (auto file = dyn_cast<FileLineColLoc>(location))
    text = file.getFilename().str() + ":" + std::to_string(file.getLine());
  return text;
}

peft::Status peftc::compileModel(ModuleOp module,
                                 const CompileOptions &options) {
  std::string error;
  ScopedDiagnosticHandler handler(
      module.getContext(), [&](Diagnostic &diagnostic) {
        std::string place = placeOf(diagnostic.getLocation());
        if (diagnostic.getSeverity() == DiagnosticSeverity::Error) {
          if (error.empty())
            error = (place.empty() ? "" : place + ": ") + diagnostic.str();
        } else if (options.onRemark) {
          options.onRemark(place, diagnostic.str());
        }
        return success();
      });
  for (const Stage &stage : stages) {
    PassManager pm(module->getName());
    // Once per stage instead of once per pass.
    pm.enableVerifier(false);
    stage.populate(pm, options);
    bool failedStage = failed(pm.run(module)) || failed(verify(module));
    if (failedStage)
      return peft::Status::error(stage.failure,
                                 error.empty() ? "stage '" + stage.name.str() +
                                                     "' failed without a reason"
                                               : error);
    if (options.afterStage)
      options.afterStage(stage.name, module);
  }
  return {};
}

static CompileOptions compileOptions(const PipelineOptions &flags) {
  CompileOptions options;
  options.adapterConfig = flags.config;
  options.loraPlusRatio = flags.loraPlusRatio;
  options.loraFA = flags.loraFA;
  options.trainAll = flags.trainAll;
  options.optimizer = flags.optimizer;
  options.batch = flags.batch;
  options.seq = flags.seq;
  options.compute = flags.compute;
  options.base = flags.base;
  options.doubleQuant = flags.doubleQuant;
  options.quantizeHead = flags.quantizeHead;
  options.target = flags.target;
  options.device = flags.device;
  options.groupDownProjections = flags.groupDownProjections;
  options.recompute = flags.recompute;
  options.capability = flags.capability;
  options.headChunkBytes = flags.headChunkBytes;
  options.maxThreads = flags.maxThreads;
  return options;
}

void peftc::registerPipelines() {
  registerPassPipeline(
      "peft-compile", "all stages from an imported model to a plan",
      [](OpPassManager &pm, StringRef text,
         function_ref<LogicalResult(const Twine &)> errorHandler) {
        PipelineOptions flags;
        if (failed(flags.parseFromString(text)))
          return failure();
        for (const Stage &stage : stages) {
          stage.populate(pm, compileOptions(flags));
          if (stage.name == flags.until)
            return success();
        }
        return errorHandler("'" + flags.until +
                            "' is no stage: take adapted, "
                            "step, converted or planned");
      },
      [](function_ref<void(const detail::PassOptions &)> optionHandler) {
        optionHandler(PipelineOptions());
      });
}
