//===- StepConverter.h - the ops of an entry point as launches --*- C++ -*-===//
//
// Private to peft-convert-to-plan.
//
//===----------------------------------------------------------------------===//
#ifndef PEFTC_CONVERSION_STEPCONVERTER_H
#define PEFTC_CONVERSION_STEPCONVERTER_H

#include "PlanBuilder.h"

#include "peftc/Dialect/Lora/Lora.h"
#include "peftc/Dialect/NN/NN.h"

#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "llvm/ADT/StringMap.h"

namespace peftc {

/// The Hugging Face module that `op` belongs to: the name in its location.
std::string moduleOf(mlir::Operation *op);

/// Turns one function of the step into one `plan.entry`.
///
/// In place: `nn.scatter_rows` and the results of `nn.chunk` have the buffer of
/// what they update; a value that `nn.store` writes has the state's buffer.
class StepConverter {
public:
  /// `symbols` are the buffers of parameters and states, `products` those that
  /// matrix products read instead, `ports` those of function arguments, by
  /// name; `seq` is the tokens of a row, `capability` the card's (0: none).
  StepConverter(PlanBuilder &plan, const llvm::StringMap<mlir::Value> &symbols,
                const llvm::StringMap<mlir::Value> &products,
                const llvm::StringMap<mlir::Value> &ports, int64_t seq,
                int64_t capability)
      : plan(plan), symbols(symbols), products(products), ports(ports),
        seq(seq), capability(capability) {}

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
  mlir::LogicalResult lower(lora::LinearOp op);
  // Backward.
  mlir::LogicalResult lower(nn::LinearDxOp op);
  mlir::LogicalResult lower(nn::LinearDwOp op);
  mlir::LogicalResult lower(nn::BiasDwOp op);
  mlir::LogicalResult lower(nn::RMSNormDxOp op);
  mlir::LogicalResult lower(nn::RMSNormDwOp op);
  mlir::LogicalResult lower(nn::AttentionGradOp op);
  mlir::LogicalResult lower(nn::SwigluGradOp op);
  mlir::LogicalResult lower(nn::EmbedDwOp op);
  mlir::LogicalResult lower(nn::AddOp op);
  mlir::LogicalResult lower(nn::CastOp op);
  mlir::LogicalResult lower(lora::LinearDxOp op);
  mlir::LogicalResult lower(lora::DownDwOp op);
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
  mlir::LogicalResult lower(mlir::func::ReturnOp op);

  KernelCall call(mlir::Operation *op, llvm::StringRef kernel,
                  int64_t stream = 0);
  mlir::LogicalResult launch(mlir::Operation *op, KernelCall &call);

  /// The buffer of an operand, which has been converted before; null for null.
  mlir::Value use(mlir::Value value) { return buffers.lookup(value); }
  mlir::Value use(llvm::StringRef symbol) { return symbols.lookup(symbol); }
  /// The buffer of a weight or bias as a matrix product reads it.
  mlir::Value useInProduct(llvm::StringRef symbol) {
    mlir::Value buffer = products.lookup(symbol);
    return buffer ? buffer : use(symbol);
  }
  /// The buffer of a result, made in the shape that `operand` of the kernel
  /// wants; bound to that operand.
  mlir::Value define(mlir::Operation *op, mlir::Value result, KernelCall &call,
                     int operand);
  /// A buffer that no value of the IR stands for.
  mlir::Value scratch(mlir::Operation *op, KernelCall &call, int operand,
                      mlir::RankedTensorType type);
  /// Sizes and engine of attention or its gradient `op`.
  template <typename Op> void setHeads(KernelCall &call, Op op, bool backward);
  void setDropout(KernelCall &call, double dropout, llvm::StringRef module);

  PlanBuilder &plan;
  const llvm::StringMap<mlir::Value> &symbols;
  const llvm::StringMap<mlir::Value> &products;
  const llvm::StringMap<mlir::Value> &ports;
  int64_t seq, capability;
  llvm::DenseMap<mlir::Value, mlir::Value> buffers;
  nn::ChunkOp chunk; ///< that the current op is in, or null
  unsigned launchCount = 0;
};

} // namespace peftc

#endif // PEFTC_CONVERSION_STEPCONVERTER_H
