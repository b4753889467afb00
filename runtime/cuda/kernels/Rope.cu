//===- Rope.cu - rotary position embedding --------------------------------===//
#include "cuda/Kernels.h"
#include "cuda/Numbers.h"

#include <cstring>

namespace peft::cuda {

namespace {

/// Passed as an argument; the largest head has 1,024 columns.
constexpr unsigned mostFrequencies = 512;
struct Frequencies {
  float value[mostFrequencies];
};

__global__ void fillTable(Gate gate, const int32_t *positions, uint64_t rows,
                          Frequencies frequencies, unsigned half, float factor,
                          float *table) {
  if (closed(gate))
    return;
  const uint64_t i = uint64_t(blockIdx.x) * blockDim.x + threadIdx.x;
  const uint64_t row = i / half;
  const unsigned j = static_cast<unsigned>(i % half);
  if (row >= rows)
    return;
  // The angle is rounded to f32, as transformers' is.
  const float angle = static_cast<float>(positions[row]) * frequencies.value[j];
  const double exact = static_cast<double>(angle);
  float *to = table + row * 2 * half;
  to[j] = static_cast<float>(cos(exact)) * factor;
  to[half + j] = static_cast<float>(sin(exact)) * factor;
}

/// Of one row: the halves of the first 2 `half` elements of each head turn, the
/// rest stays. In place or not.
struct Rotation {
  FloatsIn x, table;
  FloatsOut y;
  unsigned columns, size, half; ///< of a row, of a head, of what turns
  float direction;
};

/// A block per row; a thread takes n elements of both halves, or n of the rest.
template <unsigned n> __global__ void rotateRow(Gate gate, Rotation r) {
  if (closed(gate))
    return;
  const uint64_t row = uint64_t(blockIdx.x) * r.columns;
  const uint64_t cosines = uint64_t(blockIdx.x) * 2 * r.half;
  const unsigned turning = r.half / n, perHead = (r.size - r.half) / n;
  const unsigned units = r.columns / r.size * perHead;
  for (unsigned unit = threadIdx.x; unit < units; unit += blockDim.x) {
    const unsigned head = unit / perHead, part = unit % perHead;
    const uint64_t at = row + head * r.size + part * n;
    float a[n], b[n], c[n], s[n];
    if (part >= turning) {
      // Behind the second half, which the turning threads write.
      r.x.load(at + r.half, a);
      r.y.store(at + r.half, a);
      continue;
    }
    r.x.load(at, a);
    r.x.load(at + r.half, b);
    r.table.load(cosines + part * n, c);
    r.table.load(cosines + r.half + part * n, s);
    for (unsigned j = 0; j < n; ++j) {
      const float sine = s[j] * r.direction, first = a[j];
      a[j] = fmaf(-b[j], sine, first * c[j]);
      b[j] = fmaf(first, sine, b[j] * c[j]);
    }
    r.y.store(at, a);
    r.y.store(at + r.half, b);
  }
}

} // namespace

Status rope_table(const Call &call) {
  namespace op = kernels::rope_table;
  const std::span<const float> given = call.attributes[op::inv_freq].reals;
  if (given.size() > mostFrequencies)
    return internalError("rope_table has " + std::to_string(given.size()) +
                         " frequencies; the CUDA device takes at most " +
                         std::to_string(mostFrequencies));
  if (given.empty())
    return {};
  Frequencies frequencies{};
  std::memcpy(frequencies.value, given.data(), given.size_bytes());
  const uint64_t rows = call[op::positions].elements();
  constexpr unsigned threads = 128;
  return launch(call,
                Grid{.x = static_cast<unsigned>(
                         (rows * given.size() + threads - 1) / threads),
                     .threads = threads},
                fillTable, call[op::positions].as<int32_t>(), rows, frequencies,
                given.size(), call.real(op::attention_factor),
                call[op::table].as<float>());
}

Status rope_fwd(const Call &call) {
  namespace op = kernels::rope_fwd;
  const unsigned size = static_cast<unsigned>(call.integer(op::head_dim)),
                 half = static_cast<unsigned>(call[op::table].columns / 2);
  const Rotation rotation{FloatsIn(call[op::x]),
                          FloatsIn(call[op::table]),
                          FloatsOut(call[op::y]),
                          static_cast<unsigned>(call[op::x].columns),
                          size,
                          half,
                          call.integer(op::inverse) ? -1.0f : 1.0f};
  const bool packs = size % packSize == 0 && half % packSize == 0;
  return launch(
      call, Grid{.x = static_cast<unsigned>(call[op::x].rows), .threads = 128},
      packs ? rotateRow<packSize> : rotateRow<1>, rotation);
}

} // namespace peft::cuda
