//===- KernelSpec.h - kernels.def as data -----------------------*- C++ -*-===//
//
// The compiler and the plan verifier read kernels through this table; the names
// of operands and attributes are also enumerators
// (peft::kernels::adamw::decay), so device code never counts positions.
//
//===----------------------------------------------------------------------===//
#ifndef PEFT_KERNELSPEC_H
#define PEFT_KERNELSPEC_H

#include "peft/DType.h"
#include "peft/Plan.h"

#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

namespace peft {

/// An unsigned number that stays at the largest value instead of overflowing.
struct Saturating {
  uint64_t value = 0;
  constexpr Saturating(uint64_t value = 0) : value(value) {}
  friend constexpr Saturating operator+(Saturating a, Saturating b) {
    uint64_t sum = a.value + b.value;
    return sum < a.value ? UINT64_MAX : sum;
  }
  friend constexpr Saturating operator*(Saturating a, Saturating b) {
    uint64_t product = 0;
    return __builtin_mul_overflow(a.value, b.value, &product) ? UINT64_MAX
                                                              : product;
  }
  /// Division and remainder by zero give zero: the caller checks the divisor.
  friend constexpr Saturating operator/(Saturating a, Saturating b) {
    return b.value ? a.value / b.value : 0;
  }
  friend constexpr Saturating operator%(Saturating a, Saturating b) {
    return b.value ? a.value % b.value : 0;
  }
  friend constexpr auto operator<=>(Saturating, Saturating) = default;
};

enum class Access : uint8_t { in, out, inout };

struct OperandSpec {
  std::string_view name;
  std::string_view shape; ///< "m,k" or "#e"
  std::string_view types; ///< "f32|C"
  Access access = Access::in;
  bool optional = false;
};

struct AttributeSpec {
  enum class Kind : uint8_t { integer, real, reals };
  std::string_view name;
  Kind kind = Kind::integer;
  int64_t integerDefault = 0, integerLeast = 0, integerMost = 0;
  double realDefault = 0, realLeast = 0, realMost = 0;
};

/// Attribute values in the order of kernels.def, defaults filled in.
struct AttributeValue {
  int64_t integer = 0;
  double real = 0;
  std::span<const float> reals;
};

/// What a condition or a workspace formula may look at.
struct LaunchShape {
  // The values of the shape symbols.
  Saturating a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p, q, r, s, t, u, v,
      w, x, y, z;
  std::span<const DType> types; ///< by operand
  uint64_t presentMask = 0;     ///< bit i: operand i is given
  std::span<const AttributeValue> attributes;

  bool has(int operand) const { return presentMask >> operand & 1; }
  Saturating bytes(int operand) const { return byteSize(types[operand]); }
  Saturating operator[](int attribute) const {
    return static_cast<uint64_t>(attributes[attribute].integer);
  }
  double real(int attribute) const { return attributes[attribute].real; }
  Saturating length(int attribute) const {
    return attributes[attribute].reals.size();
  }
  Saturating &symbol(char letter) { return (&a)[letter - 'a']; }
  Saturating symbol(char letter) const { return (&a)[letter - 'a']; }
};

struct Requirement {
  std::string_view text;
  bool (*holds)(const LaunchShape &d) = nullptr;
};

struct Workspace {
  Saturating (*shared)(const LaunchShape &d) = nullptr;
  Saturating (*thread)(const LaunchShape &d) = nullptr;
};

struct KernelSpec {
  std::string_view name, summary;
  std::vector<OperandSpec> operands;
  std::vector<AttributeSpec> attributes;
  std::vector<Requirement> requirements;
  Workspace cpuWorkspace; ///< null functions: no workspace
  /// Bytes of one launch on a card; null: none.
  Saturating (*cudaWorkspace)(const LaunchShape &d) = nullptr;

  int findOperand(std::string_view operand) const;     ///< -1: no such operand
  int findAttribute(std::string_view attribute) const; ///< -1: no such one
};

/// All kernels, in the order of kernels.def.
std::span<const KernelSpec> allKernels();
/// The kernel called `name`, or null.
const KernelSpec *findKernel(std::string_view name);

/// Attribute values of `launch` in the order of the spec. Errors: unknown name,
/// wrong kind, value out of range.
Expected<std::vector<AttributeValue>> bindAttributes(const KernelSpec &spec,
                                                     const Launch &launch);

/// Whether every value, in the order of the spec, lies in its range. Errors name
/// attribute, found and allowed.
Status checkAttributes(const KernelSpec &spec,
                       std::span<const AttributeValue> values);

/// A buffer as an operand sees it.
struct OperandShape {
  bool present = false;
  DType type = DType::f32;
  std::span<const uint64_t> shape;
};

/// What is said of a launch with another number of operands than its kernel.
Status wrongOperandCount(const KernelSpec &spec, size_t found);

/// Binds the shape symbols and checks presence, types, shapes and requirements.
/// `types` must outlive the result. Errors name operand, found and needed.
Expected<LaunchShape> bindShapes(const KernelSpec &spec,
                                 std::span<const OperandShape> operands,
                                 std::span<const AttributeValue> attributes,
                                 std::vector<DType> &types);

/// Bytes of the workspace buffers of a launch; 0: none needed.
struct WorkspaceNeed {
  uint64_t shared = 0; ///< of the device that the plan is for
  /// Of the whole buffer: maxThreads equal parts, each a multiple of
  /// bufferAlignment, and behind them `hostShared`.
  uint64_t thread = 0;
  /// In a plan for a card, the shared scratch of the CPU device. 0 in a plan
  /// for the CPU, where it is `shared`.
  uint64_t hostShared = 0;
};
/// `kind` is the plan's: every plan runs on the CPU device too, so a plan for a
/// card needs the scratch of both.
WorkspaceNeed workspaceNeed(const KernelSpec &spec, const LaunchShape &shape,
                            uint32_t maxThreads, DeviceKind kind);

namespace kernels {
#define KERNEL(name, summary)                                                  \
  namespace name {                                                             \
  enum Operand : int {
#define IN(name, shape, types) name,
#define OPTIONAL_IN(name, shape, types) name,
#define OUT(name, shape, types) name,
#define OPTIONAL_OUT(name, shape, types) name,
#define INOUT(name, shape, types) name,
#define ATTRIBUTES                                                             \
  operandCount                                                                 \
  }                                                                            \
  ;                                                                            \
  enum Attribute : int {
#define INTEGER(name, byDefault, least, most) name,
#define FLOAT(name, byDefault, least, most) name,
#define FLOATS(name) name,
#define REQUIRE(text, condition)
#define WORKSPACE(shared, thread)
#define CUDA_WORKSPACE(bytes)
#define END_KERNEL(name)                                                       \
  attributeCount                                                               \
  }                                                                            \
  ;                                                                            \
  }
#include "../../schema/kernels.def"
#include "peft/EndKernels.inc"
} // namespace kernels

} // namespace peft

#endif // PEFT_KERNELSPEC_H
