//===- Pipelines.h - the stages from a model to a plan ----------*- C++ -*-===//
//
// model -> adapted -> step -> converted -> planned. Each stage is one populate
// function and ends with a VerifyStage.
//
//===----------------------------------------------------------------------===//
#ifndef PEFTC_PIPELINES_H
#define PEFTC_PIPELINES_H

#include "peft/Status.h"

#include "mlir/IR/BuiltinOps.h"

#include <cstdint>
#include <functional>
#include <string>

namespace mlir {
class OpPassManager;
} // namespace mlir

namespace peftc {

struct CompileOptions {
  int64_t batch = 1;            ///< rows of one micro-batch
  int64_t seq = 2048;           ///< tokens of a row
  std::string compute = "bf16"; ///< bf16, f16 or f32
  /// Storage of frozen weights: f32, bf16, f16, or stored: as their file has
  /// them. Empty: stored, but on a card those that matrix products read are
  /// kept in the compute type.
  /// nf4, fp4 and int8 quantize the linears of the layers.
  std::string base;
  int64_t quantizeBlock = 64; ///< elements that share a scale
  bool doubleQuant = false;   ///< the scales are quantized, too
  bool quantizeHead = false;  ///< the head and the embedding are, too
  /// Python expressions over a module's path: only these, all but these.
  std::string quantizeInclude, quantizeExclude;
  std::string target = "cpu"; ///< name of the target, as the plan says it
  std::string device = "cpu"; ///< its kind: cpu or cuda
  int64_t capability = 0;     ///< of a card: 90 for 9.0
  /// The text of an adapter_config.json; ignored with trainAll.
  std::string adapterConfig;
  double loraPlusRatio = 1; ///< rate of B over that of A
  bool loraFA = false;      ///< A is frozen
  bool trainAll = false;
  bool groupDownProjections = true; ///< adapters of one input in one launch
  std::string optimizer = "adamw"; ///< or adamw8bit
  std::string recompute = "none"; ///< policy of peft-choose-recompute
  int64_t headChunkBytes = 64 << 20; ///< largest logits buffer of a chunk
  int64_t maxThreads = 8;      ///< that per-thread workspaces are made for
  int64_t arenaAlignment = 64; ///< bytes

  /// Called after each stage with its name, if set; for tools that print IR.
  std::function<void(llvm::StringRef stage, mlir::ModuleOp module)> afterStage;
  /// Gets the passes' remarks and warnings: the module's Hugging Face path (or
  /// nothing) and the text. If not set they are dropped.
  std::function<void(llvm::StringRef where, llvm::StringRef text)> onRemark;
};

/// Shapes and types are fixed and something trains.
void populateModelToAdapted(mlir::OpPassManager &pm,
                            const CompileOptions &options);
/// The four entry points exist.
void populateAdaptedToStep(mlir::OpPassManager &pm,
                           const CompileOptions &options);
/// One plan.program, without offsets.
void populateStepToConverted(mlir::OpPassManager &pm,
                             const CompileOptions &options);
/// Every buffer has its offset, every conflict its wait.
void populateConvertedToPlanned(mlir::OpPassManager &pm,
                                const CompileOptions &options);

/// Runs all stages on an imported module, which becomes the plan in place.
/// Errors of the first stage are the user's (Code::badInput); later ones are
/// bugs (Code::internal). The message is the first error with its place.
peft::Status compileModel(mlir::ModuleOp module, const CompileOptions &options);

/// `--peft-compile{until=step config=...}` for peft-opt.
void registerPipelines();

} // namespace peftc

#endif // PEFTC_PIPELINES_H
