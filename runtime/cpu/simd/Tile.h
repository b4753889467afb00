//===- Tile.h - the innermost loop of a GEMM --------------------*- C++ -*-===//
//
// A tile holds rows x (16 x vectors) sums in registers and walks the packed
// operands step by step. A step is one k as an f32, or a pair of k in bf16: the
// even k lies in the high half of its 32-bit word, which vdpbf16ps adds first,
// so both forms are the same ascending chain.
//
//===----------------------------------------------------------------------===//
#ifndef PEFT_CPU_SIMD_TILE_H
#define PEFT_CPU_SIMD_TILE_H

#include "../Lanes.h"

#include <array>
#include <bit>
#include <type_traits>
#include <utility>

#if defined(__clang__)
#define PEFT_UNROLL _Pragma("clang loop unroll(full)")
#define PEFT_KEEP_ROLLED _Pragma("clang loop unroll(disable)")
#else
#define PEFT_UNROLL _Pragma("GCC unroll 16")
#define PEFT_KEEP_ROLLED _Pragma("GCC unroll 0")
#endif

namespace peft::cpu::PEFT_PATH {

#if defined(__AVX512F__)
constexpr unsigned tileRows = 14, panelVectors = 2;
#else
constexpr unsigned tileRows = 6, panelVectors = 1;
#endif
constexpr unsigned panelColumns = panelVectors * laneCount;
/// Steps a packed block holds at most: a left tile then stays in the
/// first-level cache beside the panel that streams past it.
constexpr uint64_t blockSteps = 256;
/// Words between the rows of a packed left tile; no multiple of a page, so that
/// the rows do not fall into the same cache sets.
constexpr uint64_t leftStride = blockSteps + 16;

/// How numbers are computed with.
enum class Form {
  f32,     ///< f32 operands
  widened, ///< bf16 operands, widened when packed
  pairs,   ///< bf16 operands, two to a word
  half,    ///< f16 operands, widened when packed
};
constexpr uint64_t elementsPerStep(Form form) {
  return form == Form::pairs ? 2 : 1;
}
/// The form whose products are computed by the same instructions.
constexpr Form tileForm(Form form) {
  return form == Form::pairs ? Form::pairs : Form::f32;
}

/// How a compute type's products are computed here.
#if defined(__AVX512BF16__)
constexpr Form bf16Form = Form::pairs;
#else
constexpr Form bf16Form = Form::widened;
#endif
template <typename C>
constexpr Form formOf = std::is_same_v<C, F32>   ? Form::f32
                        : std::is_same_v<C, F16> ? Form::half
                                                 : bf16Form;
/// The compute type of a form.
template <Form form>
using TypeOf =
    std::conditional_t<form == Form::f32, F32,
                       std::conditional_t<form == Form::half, F16, BF16>>;

/// Packed words: an f32, or a pair of bf16.
struct Tile {
  const uint32_t *left, *right;
  uint64_t steps;
  const float *start; ///< null: the chains start from zero
  uint64_t startStride;
  float *to; ///< may be `start`
  uint64_t toStride;
};

template <Form form>
PEFT_INLINE Lanes multiplyAdd(uint32_t left, Lanes right, Lanes sum) {
#if defined(__AVX512BF16__)
  if constexpr (form == Form::pairs)
    return {_mm512_dpbf16_ps(
        sum.v, (__m512bh)_mm512_set1_epi32(static_cast<int>(left)),
        (__m512bh)right.v)};
#endif
  return fma(broadcast(std::bit_cast<float>(left)), right, sum);
}

PEFT_INLINE Lanes loadSums(const float *from) {
  return load(reinterpret_cast<const F32 *>(from));
}
PEFT_INLINE void storeSums(float *to, Lanes sums) {
  store(reinterpret_cast<F32 *>(to), sums);
}

/// `stepMajor`: the left tile is [step][16 rows], not [row][leftStride steps].
template <Form form, bool stepMajor, unsigned rows, unsigned vectors>
void computeTile(const Tile &tile) {
  constexpr uint64_t rowStride = stepMajor ? 1 : leftStride;
  constexpr uint64_t stepStride = stepMajor ? laneCount : 1;
  Lanes sums[rows][vectors];
  PEFT_UNROLL
  for (unsigned i = 0; i < rows; ++i)
    PEFT_UNROLL
  for (unsigned j = 0; j < vectors; ++j)
    sums[i][j] =
        tile.start ? loadSums(tile.start + i * tile.startStride + j * laneCount)
                   : broadcast(0);
  const uint32_t *left = tile.left;
  const float *right = reinterpret_cast<const float *>(tile.right);
  PEFT_KEEP_ROLLED
  for (uint64_t step = tile.steps; step > 0; --step) {
    Lanes across[vectors];
    PEFT_UNROLL
    for (unsigned j = 0; j < vectors; ++j)
      across[j] = loadSums(right + j * laneCount);
    PEFT_UNROLL
    for (unsigned i = 0; i < rows; ++i)
      PEFT_UNROLL
    for (unsigned j = 0; j < vectors; ++j)
      sums[i][j] =
          multiplyAdd<form>(left[i * rowStride], across[j], sums[i][j]);
    left += stepStride;
    right += vectors * laneCount;
  }
  PEFT_UNROLL
  for (unsigned i = 0; i < rows; ++i)
    PEFT_UNROLL
  for (unsigned j = 0; j < vectors; ++j)
    storeSums(tile.to + i * tile.toStride + j * laneCount, sums[i][j]);
}

using TileFunction = void (*)(const Tile &tile);

template <Form form, bool stepMajor, unsigned vectors, size_t... row>
constexpr std::array<TileFunction, tileRows>
tileFunctions(std::index_sequence<row...>) {
  return {computeTile<form, stepMajor, row + 1, vectors>...};
}

/// The function for tiles of `rows` (1 .. tileRows) and `vectors`.
template <Form form, bool stepMajor>
TileFunction findTile(uint64_t rows, uint64_t vectors) {
  using Rows = std::make_index_sequence<tileRows>;
  static constexpr auto narrow = tileFunctions<form, stepMajor, 1>(Rows());
  static constexpr auto wide =
      tileFunctions<form, stepMajor, panelVectors>(Rows());
  return (vectors == 1 ? narrow : wide)[rows - 1];
}

} // namespace peft::cpu::PEFT_PATH

#endif // PEFT_CPU_SIMD_TILE_H
