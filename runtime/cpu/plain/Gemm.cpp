//===- plain/Gemm.cpp - the linear family, one element at a time ----------===//
//
// The reference that every other path equals bit by bit.
//
//===----------------------------------------------------------------------===//
#include "../Gemm.h"
#include "../Kernels.h"
#include "../ThreadPool.h"

#include <cmath>

namespace peft::cpu::plain {

namespace {

/// `value` as dropout leaves it: zero, or scaled and rounded to `compute`.
float dropped(const Dropout &dropout, uint64_t row, uint64_t feature,
              float value, DType compute) {
  if (!dropout.keeps(row, feature))
    return 0;
  return roundTo(compute, value * dropout.scale);
}

float leftElement(const Gemm &gemm, const Product &product, uint64_t row,
                  uint64_t k) {
  uint64_t stride = product.left.columns;
  float value =
      loadFloat(product.left,
                product.leftTransposed ? k * stride + row : row * stride + k);
  return gemm.masked == Masked::left
             ? dropped(gemm.dropout, row, k, value, gemm.compute)
             : value;
}

float rightElement(const Gemm &gemm, const Product &product, uint64_t k,
                   uint64_t column) {
  uint64_t stride = product.right.columns;
  uint64_t index =
      product.rightTransposed ? column * stride + k : k * stride + column;
  float value =
      product.rightQuantized
          ? roundTo(gemm.compute, product.rightQuantized.value(index))
          : loadWeight(product.right, index, gemm.compute);
  return gemm.masked == Masked::right
             ? dropped(gemm.dropout, k, column, value, gemm.compute)
             : value;
}

float chain(const Gemm &gemm, const Product &product, uint64_t row,
            uint64_t column, float sum) {
  for (uint64_t k = 0; k < product.depth; ++k)
    sum = std::fma(leftElement(gemm, product, row, k),
                   rightElement(gemm, product, k, column), sum);
  return sum;
}

float element(const Gemm &gemm, uint64_t row, uint64_t column) {
  float sum = 0;
  unsigned next = 0;
  if (gemm.firstApart) {
    sum = chain(gemm, gemm.products[next++], row, column, 0);
    if (gemm.masked == Masked::first)
      sum = dropped(gemm.dropout, row, column, sum, DType::f32);
  }
  if (gemm.init) {
    float init = loadFloat(gemm.init, row * gemm.columns + column);
    sum = gemm.firstApart ? init + sum : init;
  }
  if (gemm.bias) {
    float bias = loadWeight(gemm.bias, column, gemm.compute);
    sum = gemm.init ? sum + bias : bias;
  }
  for (; next < gemm.productCount; ++next)
    sum = chain(gemm, gemm.products[next], row, column, sum);
  return gemm.scale * sum;
}

void multiply(const Call &call, const Gemm &gemm) {
  call.pool->forRanges(
      gemm.rows, 1, [&](unsigned thread, uint64_t begin, uint64_t end) {
        for (uint64_t row = begin; row < end; ++row)
          for (uint64_t column = 0; column < gemm.columns; ++column)
            storeFloat(gemm.out, row * gemm.columns + column,
                       element(gemm, row, column));
      });
}

} // namespace

PEFT_LINEAR_KERNELS

Fault bias_dw(const Call &call) {
  using namespace kernels::bias_dw;
  const Operand &gradient = call[dy], &sums = call[dbias];
  uint64_t rows =
      activeRows(call[count], call.integer(row_start), gradient.rows);
  call.pool->forRanges(
      gradient.columns, 64, [&](unsigned thread, uint64_t begin, uint64_t end) {
        for (uint64_t column = begin; column < end; ++column) {
          float sum = loadFloat(sums, column);
          for (uint64_t row = 0; row < rows; ++row)
            sum += loadFloat(gradient, row * gradient.columns + column);
          storeFloat(sums, column, sum);
        }
      });
  return {};
}

} // namespace peft::cpu::plain
