//===- StepConverter.h - the ops of an entry point as launches --*- C++ -*-===//
//
// Private to peft-convert-to-plan.
//
//===----------------------------------------------------------------------===//
#ifndef PEFTC_CONVERSION_STEPCONVERTER_H
#define PEFTC_CONVERSION_STEPCONVERTER_H

#include "PlanBuilder.h"

#include "peftc/Analysis/ForwardPass.h"
#include "peftc/Dialect/Lora/Lora.h"
#include "peftc/Dialect/NN/NN.h"

#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "llvm/ADT/DenseSet.h"
#include "llvm/ADT/StringMap.h"

namespace peftc {

/// The buffers that a quantized weight has beside its codes; absent ones are
/// null.
struct QuantizedBuffers {
  mlir::Value absmax, nestedAbsmax, tables;
  int64_t block = 0, nested = 0;
};

/// A parameter that is joined from two wherever it is read.
struct JoinedFactor {
  mlir::Value first, second;
  mlir::RankedTensorType type;
};

/// Where an entry finds what it does not make itself, by name.
struct StepBuffers {
  llvm::StringMap<mlir::Value> symbols; ///< parameters and states
  /// What matrix products read of a frozen parameter that others read too.
  llvm::StringMap<mlir::Value> products;
  llvm::StringMap<QuantizedBuffers> quantized; ///< by parameter
  llvm::StringMap<JoinedFactor> joined;        ///< parameters without buffers
  llvm::StringMap<mlir::Value> ports;          ///< function arguments
};

/// Turns one function of the step into one `plan.entry`.
///
/// In place: `nn.scatter_rows` and the results of `nn.chunk` have the buffer of
/// what they update; a value that `nn.store` writes has the state's buffer.
///
/// In a plan for a card, products read a quantized weight as numbers that a
/// launch before them makes. They stay until other numbers are made: one buffer
/// of this kind is alive at a time, and neighbours that read one weight share it.
class StepConverter {
public:
  /// `seq` is the tokens of a row, `compute` the type of products; with `groups`
  /// adapters of one input are projected down by one launch; `capability` is the
  /// card's (0: none).
  StepConverter(PlanBuilder &plan, const StepBuffers &given, int64_t seq,
                mlir::Type compute, bool groups, int64_t capability)
      : plan(plan), given(given), seq(seq), capability(capability),
        compute(compute), groupsProjections(groups) {}

  mlir::LogicalResult convert(mlir::func::FuncOp function);

  unsigned launches() const { return launchCount; }

private:
  mlir::LogicalResult convertOp(mlir::Operation *op);

  // Forward.
  mlir::LogicalResult lower(nn::EmbedOp op);
  mlir::LogicalResult lower(nn::LinearOp op);
  mlir::LogicalResult lower(nn::RMSNormOp op);
  mlir::LogicalResult lower(nn::RopeTableOp op);
  mlir::LogicalResult lower(nn::RopeOp op);
  mlir::LogicalResult lower(nn::AttentionOp op);
  mlir::LogicalResult lower(nn::SwigluOp op);
  mlir::LogicalResult lower(nn::GegluOp op);
  mlir::LogicalResult lower(nn::SoftcapOp op);
  mlir::LogicalResult lower(nn::SplitOp op);
  mlir::LogicalResult lower(lora::LinearOp op);
  mlir::LogicalResult lower(lora::DoraLinearOp op);
  mlir::LogicalResult lower(lora::DownOp op);
  // Backward.
  mlir::LogicalResult lower(nn::LinearDxOp op);
  mlir::LogicalResult lower(nn::LinearDwOp op);
  mlir::LogicalResult lower(nn::BiasDwOp op);
  mlir::LogicalResult lower(nn::RMSNormDxOp op);
  mlir::LogicalResult lower(nn::RMSNormDwOp op);
  mlir::LogicalResult lower(nn::AttentionGradOp op);
  mlir::LogicalResult lower(nn::SwigluGradOp op);
  mlir::LogicalResult lower(nn::GegluGradOp op);
  mlir::LogicalResult lower(nn::SoftcapGradOp op);
  mlir::LogicalResult lower(nn::ConcatOp op);
  mlir::LogicalResult lower(nn::EmbedDwOp op);
  mlir::LogicalResult lower(nn::AddOp op);
  mlir::LogicalResult lower(nn::CastOp op);
  mlir::LogicalResult lower(lora::LinearDxOp op);
  mlir::LogicalResult lower(lora::DownDwOp op);
  mlir::LogicalResult lower(lora::DoraScaleOp op);
  mlir::LogicalResult lower(lora::DoraDwOp op);
  mlir::LogicalResult lower(lora::DropoutOp op);
  mlir::LogicalResult lower(lora::FirstFeaturesOp op);
  // The head and the loss.
  mlir::LogicalResult lower(nn::CompactRowsOp op);
  mlir::LogicalResult lower(nn::ChunkOp op);
  mlir::LogicalResult lower(nn::YieldOp op);
  mlir::LogicalResult lower(nn::GatherRowsOp op);
  mlir::LogicalResult lower(nn::ScatterRowsOp op);
  mlir::LogicalResult lower(nn::ZerosOp op);
  mlir::LogicalResult lower(nn::CrossEntropyOp op);
  mlir::LogicalResult lower(nn::CountTokensOp op);
  mlir::LogicalResult lower(nn::StoreOp op);
  // The update.
  mlir::LogicalResult lower(nn::AccumulateOp op);
  mlir::LogicalResult lower(nn::NormSquareOp op);
  mlir::LogicalResult lower(nn::FinishStepOp op);
  mlir::LogicalResult lower(nn::AdjustLossScaleOp op);
  mlir::LogicalResult lower(nn::AdamWOp op);
  mlir::LogicalResult lower(nn::ClearOp op);
  // Before the first step.
  mlir::LogicalResult lower(lora::DoraStartOp op);
  mlir::LogicalResult lower(mlir::func::ReturnOp op);

  KernelCall call(mlir::Operation *op, llvm::StringRef kernel,
                  int64_t stream = 0);
  mlir::LogicalResult launch(mlir::Operation *op, KernelCall &call);

  /// The buffer of an operand, which has been converted before; null for null.
  mlir::Value use(mlir::Value value) { return buffers.lookup(value); }
  mlir::Value use(llvm::StringRef symbol) {
    return given.symbols.lookup(symbol);
  }
  /// The buffer of a weight or bias as a matrix product reads it.
  mlir::Value useInProduct(llvm::StringRef symbol) {
    mlir::Value buffer = given.products.lookup(symbol);
    return buffer ? buffer : use(symbol);
  }
  /// Binds what a quantized weight has beside its codes; false if `symbol` is
  /// not quantized.
  bool setParts(KernelCall &call, llvm::StringRef symbol);
  /// Binds the weight of a product, quantized or not, to the operand `w`.
  mlir::LogicalResult setWeight(mlir::Operation *op, KernelCall &call,
                                llvm::StringRef symbol);
  /// The numbers of a quantized weight, made now unless they are there.
  mlir::FailureOr<mlir::Value> dequantized(mlir::Operation *op,
                                           llvm::StringRef symbol);
  /// The same of a factor, which is joined for this op if it has no buffer.
  mlir::FailureOr<mlir::Value> useFactor(mlir::Operation *op,
                                         llvm::StringRef symbol);
  /// The buffer of a result, made in the shape that `operand` of the kernel
  /// wants; bound to that operand.
  mlir::Value define(mlir::Operation *op, mlir::Value result, KernelCall &call,
                     int operand);
  /// A buffer that no value of the IR stands for.
  mlir::Value scratch(mlir::Operation *op, KernelCall &call, int operand,
                      mlir::RankedTensorType type);
  /// swiglu, geglu and their gradients.
  template <typename Op>
  mlir::LogicalResult lowerGate(Op op, llvm::StringRef kernel);
  template <typename Op>
  mlir::LogicalResult lowerGateGrad(Op op, llvm::StringRef kernel);
  /// Sizes and engine of attention or its gradient `op`.
  template <typename Op> void setHeads(KernelCall &call, Op op, bool backward);
  void setDropout(KernelCall &call, double dropout, llvm::StringRef module,
                  llvm::StringRef key = "module_key");

  /// The norms of a DoRA weight, as far as the op says it.
  template <typename Op> mlir::FailureOr<KernelCall> normCall(Op op);
  /// drop(x), or x - drop(x), of a DoRA linear, in a buffer of its own.
  mlir::FailureOr<mlir::Value> dropInput(lora::DoraLinearOp op,
                                         bool complement);

  // GroupDownProjections.cpp: t = scale (drop(x) A^T), of one adapter or of
  // several.
  mlir::LogicalResult projectDown(lora::LinearOp op);
  /// `op` is a lora.linear or a lora.down.
  template <typename Op> mlir::LogicalResult projectOne(Op op);
  mlir::LogicalResult projectGroup(llvm::ArrayRef<lora::LinearOp> group);
  llvm::SmallVector<lora::LinearOp> groupOf(lora::LinearOp first);

  PlanBuilder &plan;
  const StepBuffers &given;
  int64_t seq, capability;
  mlir::Type compute;
  llvm::DenseMap<mlir::Value, mlir::Value> buffers;
  bool groupsProjections;
  llvm::DenseSet<mlir::Value> projected; ///< projections that were launched
  nn::ChunkOp chunk; ///< that the current op is in, or null
  std::string decodedSymbol; ///< whose numbers `decoded` holds
  mlir::Value decoded;
  unsigned launchCount = 0;
};

} // namespace peftc

#endif // PEFTC_CONVERSION_STEPCONVERTER_H
