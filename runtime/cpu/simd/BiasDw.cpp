//===- simd/BiasDw.cpp - column sums --------------------------------------===//
#include "../Kernels.h"
#include "../Lanes.h"
#include "../ThreadPool.h"

namespace peft::cpu::PEFT_PATH {

namespace {

/// Adds `rows` rows to the sums of sixteen columns, `columns` of which exist.
template <typename T>
void addColumns(const T *from, uint64_t stride, uint64_t rows, uint64_t columns,
                F32 *sums) {
  bool whole = columns >= laneCount;
  Lanes sum = whole ? load(sums) : load(sums, columns);
  for (uint64_t row = 0; row < rows; ++row, from += stride)
    sum = sum + (whole ? load(from) : load(from, columns));
  if (whole)
    store(sums, sum);
  else
    store(sums, sum, columns);
}

} // namespace

Fault bias_dw(const Call &call) {
  using namespace kernels::bias_dw;
  const Operand &gradient = call[dy];
  uint64_t columns = gradient.columns;
  uint64_t rows =
      limitedRows(gradient.rows, call[count], call.integer(row_start));
  F32 *sums = call[dbias].as<F32>();
  call.pool->forRanges(
      columns, 64, [&](unsigned thread, uint64_t begin, uint64_t end) {
        withElement(gradient.type, [&](auto type) {
          auto *from = gradient.as<decltype(type)>();
          for (uint64_t j = begin; j < end; j += laneCount)
            addColumns(from + j, columns, rows, end - j, sums + j);
        });
      });
  return {};
}

} // namespace peft::cpu::PEFT_PATH
