//===- Call.h - what a CUDA kernel is called with ---------------*- C++ -*-===//
//
// Host side. The same launch runs on a card (compiled by nvcc) and in the
// emulation (compiled by the host's compiler), where pointers are host memory.
// The rules for device code stand in Grid.h.
//
//===----------------------------------------------------------------------===//
#ifndef PEFT_CUDA_CALL_H
#define PEFT_CUDA_CALL_H

#include "peft/KernelSpec.h"
#include "peft/Status.h"

#include <cstddef>
#include <cstdint>
#include <span>

namespace peft::cuda {

/// One operand: dense row-major [rows, columns]; a vector has one column per
/// element and one row. Absent operands have no data. Every operand starts at a
/// multiple of 64 bytes.
struct Operand {
  std::byte *data = nullptr; ///< device memory
  DType type = DType::f32;
  uint64_t rows = 0, columns = 0;

  explicit operator bool() const { return data != nullptr; }
  uint64_t elements() const { return rows * columns; }
  template <typename T> T *as() const { return reinterpret_cast<T *>(data); }
};

/// The predicate of a launch as device code sees it: every kernel returns at
/// once unless it is open.
struct Gate {
  const int32_t *value = nullptr; ///< device memory; null: always open
  int32_t above = 0;
};

/// What a launch found wrong with data that indexes (a token id outside its
/// table). One slot per launch, in device memory, zero when loaded; written by
/// one thread of the launch and read by the host together with the metrics.
struct FaultSlot {
  int32_t kind = 0; ///< a FaultKind
  int32_t unused = 0;
  int64_t found = 0, limit = 0;
};

enum class FaultKind : int32_t {
  none = 0,
  id,     ///< a token id outside its table
  label,  ///< a label outside the vocabulary
  row,    ///< a row index outside its operand
  target, ///< a target outside the vocabulary
  count,  ///< more rows than the index has
};

/// Library handles of one device (cuBLASLt, cuDNN); no emulated kernel has any.
struct Libraries;

/// A launch with its addresses: built once at load. Shapes, types and attribute
/// ranges have been checked against kernels.def; values that index by data have
/// not.
struct Call {
  std::span<const Operand> operands;          ///< kernels::<name>::<operand>
  std::span<const AttributeValue> attributes; ///< kernels::<name>::<attribute>
  std::byte *workspace = nullptr; ///< as kernels.def's CUDA_WORKSPACE asks
  uint64_t workspaceBytes = 0;
  Gate gate;
  FaultSlot *fault = nullptr;
  void *stream = nullptr; ///< cudaStream_t
  Libraries *libraries = nullptr;

  const Operand &operator[](int operand) const { return operands[operand]; }
  int64_t integer(int attribute) const { return attributes[attribute].integer; }
  double real(int attribute) const { return attributes[attribute].real; }
};

/// Enqueues the work of one launch on the call's stream. Errors: internal (what
/// the driver or a library answered).
using KernelFunction = Status (*)(const Call &call);

/// The implementation of kernel number `kernel` (order of kernels.def).
KernelFunction findFunction(size_t kernel);

} // namespace peft::cuda

#endif // PEFT_CUDA_CALL_H
