//===- PlanBuilder.h - buffers and launches of a plan -----------*- C++ -*-===//
//
// What the conversion to a plan is made of. Knows kernels.def (through
// KernelSpec) and the plan dialect, but no other dialect. Private to
// lib/Conversion.
//
//===----------------------------------------------------------------------===//
#ifndef PEFTC_CONVERSION_PLANBUILDER_H
#define PEFTC_CONVERSION_PLANBUILDER_H

#include "peftc/Dialect/Plan/Plan.h"

#include "peft/KernelSpec.h"

#include "llvm/ADT/DenseMap.h"
#include "llvm/ADT/StringMap.h"

#include <deque>

namespace peftc {

/// `type` as a buffer holds it: with `dimensions` 1 all elements in a row, with
/// 2 the last dimension as columns.
mlir::RankedTensorType flatten(mlir::RankedTensorType type, int dimensions);

/// FNV-1a over the bytes of `text`, mixed by the finalizer of splitmix64:
/// selects random numbers by name. Part of the plan format.
uint64_t hashName(llvm::StringRef text);

/// One launch that is being put together: operands and attributes by their
/// enumerators (`peft::kernels::cast::x`) or, where several kernels share
/// them, by name.
class KernelCall {
public:
  KernelCall(llvm::StringRef kernel, std::string module, int64_t stream = 0);

  const peft::KernelSpec &kernel() const { return spec; }
  KernelCall &operand(int index, mlir::Value buffer);
  KernelCall &operand(llvm::StringRef name, mlir::Value buffer);
  KernelCall &set(int attribute, int64_t value);
  KernelCall &set(int attribute, double value);
  KernelCall &set(int attribute, llvm::ArrayRef<float> values);
  KernelCall &set(llvm::StringRef attribute, int64_t value);
  KernelCall &set(llvm::StringRef attribute, double value);
  /// Runs only if the i32 in `buffer` is greater than `above`.
  KernelCall &onlyIf(mlir::Value buffer, int64_t above);
  /// Says that the launch repeats one of the forward pass.
  KernelCall &again();

private:
  friend class PlanBuilder;
  const peft::KernelSpec &spec;
  std::string module;
  int64_t stream;
  llvm::SmallVector<mlir::Value> operands;
  llvm::SmallVector<peft::AttributeValue> attributes; ///< defaults filled in
  mlir::Value predicate;
  int64_t above = 0;
  bool recomputed = false;
};

/// Appends to a program; inside an entry, buffers go before all items.
class PlanBuilder {
public:
  PlanBuilder(mlir::OpBuilder &builder, int64_t maxThreads,
              peft::DeviceKind device)
      : builder(builder), maxThreads(maxThreads), device(device) {}

  bool forCard() const { return device != peft::DeviceKind::cpu; }

  /// The arenas: 0 on the device and, in a plan for a card, 1 in pageable host
  /// memory, for the scratch that only the CPU device uses.
  void addArenas(mlir::Location loc);
  mlir::Value addBuffer(mlir::Location loc, const llvm::Twine &name,
                        mlir::RankedTensorType type, llvm::StringRef kind,
                        int64_t arena = 0);
  /// A buffer that is the mapping of weight number `weight`.
  mlir::Value addMapped(mlir::Location loc, llvm::StringRef name,
                        mlir::RankedTensorType type, int64_t weight);

  /// Appends `plan.entry` and puts what follows into it.
  void startEntry(mlir::Location loc, llvm::StringRef name);
  void endEntry();

  /// Checks `call` against its entry in kernels.def, adds its workspaces and
  /// appends the launch. Fails with an error at `loc`.
  mlir::LogicalResult launch(mlir::Location loc, const KernelCall &call);

private:
  struct Shape {
    peft::DType type;
    std::vector<uint64_t> extents;
  };
  mlir::Value remember(mlir::Value buffer, mlir::RankedTensorType type);
  /// Scratch of one launch on stream 0. The other streams keep one buffer per
  /// entry, as large as their largest launch needs: bytes that two streams
  /// share only as scratch would make them wait for each other.
  mlir::Value addWorkspace(mlir::Location loc, const KernelCall &call,
                           llvm::StringRef which, uint64_t bytes,
                           int64_t arena);
  mlir::FailureOr<peft::LaunchShape> bind(mlir::Location loc,
                                          const KernelCall &call,
                                          std::vector<peft::DType> &types);

  mlir::OpBuilder &builder;
  int64_t maxThreads;
  peft::DeviceKind device;
  std::deque<Shape> shapes;
  llvm::DenseMap<mlir::Value, const Shape *> shapeOf;
  mlir::Operation *firstItem = nullptr; ///< of the current entry
  /// Workspaces of the streams above 0 in the current entry, by buffer name.
  llvm::StringMap<mlir::Value> streamWorkspaces;
};

} // namespace peftc

#endif // PEFTC_CONVERSION_PLANBUILDER_H
