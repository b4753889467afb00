//===- Linear.h - the linear family as matrix products ----------*- C++ -*-===//
//
// Every kernel of the linear family becomes a short list of steps over matrices
// in device memory: weights are rounded to the compute type, rows past a count
// are cleared, a start is written, and one or two products are added to it.
// `describeLinear` is pure host code: it makes the list and touches no matrix.
// `runLinear` enqueues it. A test executes the lists with plain loops.
//
//===----------------------------------------------------------------------===//
#ifndef PEFT_CUDA_LIBRARY_LINEAR_H
#define PEFT_CUDA_LIBRARY_LINEAR_H

#include "cuda/Call.h"
#include "cuda/QuantizedWeight.h"

#include <compare>
#include <vector>

namespace peft::cuda {

/// out [rows, columns] = alpha (left right + addend) + bias, row-major and dense.
/// A transposed matrix is stored the other way round.
struct Product {
  Operand left{}, right{}, out{};
  bool leftTransposed = false, rightTransposed = false;
  float alpha = 1;
  Operand addend{}; ///< of out's type and shape, may be `out`; absent: zero
  Operand bias{};   ///< one per column, of out's type; absent: none

  uint64_t rows() const { return out.rows; }
  uint64_t columns() const { return out.columns; }
  uint64_t depth() const { return leftTransposed ? left.rows : left.columns; }
};

/// All that decides which algorithm a product gets.
struct ProductShape {
  uint64_t rows = 0, columns = 0, depth = 0;
  DType in = DType::f32, out = DType::f32;
  bool leftTransposed = false, rightTransposed = false;
  bool addend = false, bias = false;
  uint64_t workspaceBytes = 0;
  auto operator<=>(const ProductShape &) const = default;
};
ProductShape shapeOf(const Product &product, uint64_t workspaceBytes);

/// One step; the operands that a kind does not name are absent.
struct LinearStep {
  enum class Kind : uint8_t {
    convert, ///< to = from in to's type
    dequantize, ///< to = the values of `weight` in to's type
    rows,    ///< to = from below the count, zero from there on
    start,   ///< to = from + bias rounded to `compute`; `from` is optional
    product, ///< `product`
    // Of lora_down_group_fwd, whose call they read themselves:
    stackDown, ///< to = the adapters one below the other, in to's type
    splitDown, ///< every output = its scale times its columns of `from`
    // The kernels with dropout (Lora.h) read the call themselves:
    maskedDown, ///< all of lora_down_fwd
    maskedDownGroup, ///< all of lora_down_group_fwd
    maskedSums, ///< all of lora_down_dw
    maskedDx,   ///< to = init + mask(dt a), of linear_lora_dx
  };
  Kind kind = Kind::product;
  Operand from, to, bias;
  DType compute = DType::f32;
  Operand count; ///< i32, device memory
  int64_t rowStart = 0;
  Product product;
  QuantizedWeight weight;
};

struct LinearWork {
  std::vector<LinearStep> steps;
  uint64_t areaBytes = 0; ///< the head of the workspace that the steps use
};

/// Bytes by which areas of a workspace are aligned.
constexpr uint64_t areaAlignment = 256;

/// Whether kernel number `kernel` is of the family.
bool isLinear(size_t kernel);

/// The steps of a call of kernel `kernel`. With a null workspace only
/// `areaBytes` means something. Errors: internal (no such kernel).
Expected<LinearWork> describeLinear(size_t kernel, const Call &call);

/// What the libraries may use: the workspace behind the areas.
struct LibraryArea {
  std::byte *data = nullptr;
  uint64_t bytes = 0;
};
/// Error internal: the areas do not fit, with both figures.
Expected<LibraryArea> libraryArea(const Call &call, const LinearWork &work);

} // namespace peft::cuda

#endif // PEFT_CUDA_LIBRARY_LINEAR_H
