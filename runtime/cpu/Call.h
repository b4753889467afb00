//===- Call.h - what a CPU kernel is called with ----------------*- C++ -*-===//
#ifndef PEFT_CPU_CALL_H
#define PEFT_CPU_CALL_H

#include "peft/KernelSpec.h"
#include "peft/Status.h"

#include <cstddef>
#include <span>

namespace peft::cpu {

class ThreadPool;

/// One operand: dense row-major [rows, columns]; a vector has one column per
/// element and one row. Absent operands have no data. Mapped weights may lie at
/// any byte address, so elements are loaded without assuming alignment.
struct Operand {
  std::byte *data = nullptr;
  DType type = DType::f32;
  uint64_t rows = 0, columns = 0;

  explicit operator bool() const { return data != nullptr; }
  uint64_t elements() const { return rows * columns; }
  template <typename T> T *as() const { return reinterpret_cast<T *>(data); }
};

/// A launch with its addresses: built once at load, so a step allocates
/// nothing. Shapes, types and attribute ranges have been checked against
/// kernels.def; values that index by data (token ids, compacted rows) have not.
struct Call {
  std::span<const Operand> operands;          ///< kernels::<name>::<operand>
  std::span<const AttributeValue> attributes; ///< kernels::<name>::<attribute>
  std::byte *sharedWorkspace = nullptr;
  std::byte *threadWorkspace =
      nullptr; ///< thread i: + i x threadWorkspaceBytes
  uint64_t threadWorkspaceBytes = 0;
  ThreadPool *pool = nullptr;

  const Operand &operator[](int operand) const { return operands[operand]; }
  int64_t integer(int attribute) const { return attributes[attribute].integer; }
  double real(int attribute) const { return attributes[attribute].real; }
  std::byte *workspaceOf(unsigned thread) const {
    return threadWorkspace + thread * threadWorkspaceBytes;
  }
};

/// A data-dependent fault (an id outside its table) as a static text; null is
/// success. No allocation: kernels run inside a step.
struct Fault {
  const char *text = nullptr;
  int64_t found = 0, limit = 0;
  explicit operator bool() const { return text != nullptr; }
};

using KernelFunction = Fault (*)(const Call &call);

/// Instruction sets; every one gives the same bits.
enum class Path : uint8_t { plain = 0, avx2, avx512, avx512bf16 };

/// The best path this processor has, or the one PEFT_CPU names (error
/// `unsuitable` when the processor lacks it).
Expected<Path> choosePath();

/// The implementation of kernel number `kernel` (order of kernels.def).
KernelFunction findFunction(Path path, size_t kernel);

} // namespace peft::cpu

#endif // PEFT_CPU_CALL_H
