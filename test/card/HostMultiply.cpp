//===- HostMultiply.cpp - a product by plain loops ------------------------===//
//
// What a library does on a card: f32 sums over matrices in host memory, at its
// turn when launches have turns.
//
//===----------------------------------------------------------------------===//
#include "HostMultiply.h"

#include "cuda/Grid.h"
#include "cuda/Numbers.h"
#include "cuda/library/Multiply.h"

#include <cmath>

namespace peft::cuda {

static float load(const Operand &operand, uint64_t element) {
  return withFloat(operand.type, [&](auto kind) {
    return toFloat(operand.as<const decltype(kind)>()[element]);
  });
}

static void store(const Operand &operand, uint64_t element, float value) {
  withFloat(operand.type, [&](auto kind) {
    using T = decltype(kind);
    operand.as<T>()[element] = fromFloat<T>(value);
  });
}

static float dot(const Product &product, uint64_t row, uint64_t column) {
  const Operand &left = product.left, &right = product.right;
  float sum = 0;
  for (uint64_t k = 0; k < product.depth(); ++k) {
    float x = load(left, product.leftTransposed ? k * left.columns + row
                                                : row * left.columns + k);
    float y = load(right, product.rightTransposed
                              ? column * right.columns + k
                              : k * right.columns + column);
    sum = std::fma(x, y, sum);
  }
  return sum;
}

static void multiplyNow(const Product &product) {
  const uint64_t columns = product.columns();
  for (uint64_t row = 0; row < product.rows(); ++row)
    for (uint64_t column = 0; column < columns; ++column) {
      const uint64_t at = row * columns + column;
      float value = dot(product, row, column);
      if (product.addend)
        value += load(product.addend, at);
      value *= product.alpha;
      if (product.bias)
        value += load(product.bias, column);
      store(product.out, at, value);
    }
}

// As on a card, the gate of the call is not looked at.
Status multiply(const Call &call, const Product &product,
                const LibraryArea &area) {
  // An algorithm belongs to a shape.
  const ProductShape shape = shapeOf(product, area.bytes);
  std::string code = "product";
  for (uint64_t part :
       {shape.rows, shape.columns, shape.depth, uint64_t(shape.in),
        uint64_t(shape.out), uint64_t(shape.leftTransposed),
        uint64_t(shape.rightTransposed), uint64_t(shape.addend),
        uint64_t(shape.bias), shape.workspaceBytes})
    code += " " + std::to_string(part);
  PEFT_TRY(card::loadFor(call.stream, code));
  // A card counts a microsecond for every piece of work: a slow candidate does
  // some that changes nothing.
  PEFT_ASSIGN(uint32_t candidate,
              card::candidateOf(*call.libraries, shapeOf(product, area.bytes)));
  for (uint32_t i = candidate; i != 1 && i < 3; ++i)
    if (Status status = emulation::runOrDefer(call, [] { return Status(); });
        !status.ok())
      return status;
  return emulation::runOrDefer(call, [product]() -> Status {
    multiplyNow(product);
    return {};
  });
}

} // namespace peft::cuda
