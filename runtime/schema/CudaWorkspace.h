//===- CudaWorkspace.h - scratch the CUDA kernels ask for -------*- C++ -*-===//
//
// The formulas that kernels.def names in CUDA_WORKSPACE: bytes as functions of
// the launch's sizes. The compiler reserves them in the plan, the verifier
// checks them, the kernels cut their areas from them in the order of the terms.
// Every term is a multiple of 256 bytes, so each area is aligned as the
// libraries like it. Arithmetic saturates, so a wild size never looks small.
//
//===----------------------------------------------------------------------===//
#ifndef PEFT_SCHEMA_CUDAWORKSPACE_H
#define PEFT_SCHEMA_CUDAWORKSPACE_H

#include "CpuWorkspace.h"
#include "CudaParts.h"
#include "peft/KernelSpec.h"

namespace peft {

static_assert(cudaAlignment == cardAlignment);

/// What a matrix product of the library may use beside our own areas: NVIDIA
/// recommends 32 MiB for Hopper, 4 MiB before it.
constexpr uint64_t cudaLibraryBytes = 32 << 20;

constexpr Saturating cudaArea(Saturating bytes) {
  return roundUp(bytes, cudaAlignment);
}

/// A copy of `operand` in the type of the operand `like`; nothing when it has
/// that type already or is absent.
inline Saturating cudaAs(const LaunchShape &d, int operand, int like,
                         Saturating elements) {
  if (!d.has(operand) || d.types[operand] == d.types[like])
    return 0;
  return cudaArea(elements * d.bytes(like));
}

/// An f32 matrix to start the products from: needed when there is a start that
/// the output, of a narrower type, cannot hold.
inline Saturating cudaStart(const LaunchShape &d, int init, int out,
                            Saturating elements) {
  if (!d.has(init) || d.types[out] == DType::f32)
    return 0;
  return cudaArea(elements * 4);
}

/// The same for a product that is masked before the rest is added: it is formed
/// in f32 unless the output can hold it.
inline Saturating cudaProduct(const LaunchShape &d, bool masked, int out,
                              int init, Saturating elements) {
  if (masked && (d.has(init) || d.types[out] != DType::f32))
    return cudaArea(elements * 4);
  return cudaStart(d, init, out, elements);
}

/// A copy of `operand` whose rows past the count are zero: sums over rows must
/// not see them.
inline Saturating cudaCounted(const LaunchShape &d, int count, int operand,
                              Saturating elements) {
  return d.has(count) ? cudaArea(elements * d.bytes(operand)) : 0;
}

/// The adapters of a group one below the other in the compute type, and their
/// f32 sums side by side. Under dropout one kernel of ours needs neither.
inline Saturating cudaDownGroup(const LaunchShape &d, int input, bool masked,
                                Saturating rows, Saturating ranks,
                                Saturating columns) {
  if (masked)
    return 0;
  return cudaArea(ranks * columns * d.bytes(input)) +
         cudaArea(rows * ranks * 4);
}

/// Attention backward: two numbers per query and head. Nothing of attention is
/// more than linear in the rows.
constexpr Saturating cudaAttentionNumbers(Saturating rows, Saturating heads) {
  return cudaArea(rows * heads * 8);
}
/// Two numbers for every cudaSegmentRange positions of a batch row.
inline Saturating cudaAttentionRanges(const LaunchShape &d, int segments,
                                      Saturating rows, Saturating seq) {
  if (!d.has(segments))
    return 0;
  return cudaArea(rows / seq *
                  ((seq + (cudaSegmentRange - 1)) / cudaSegmentRange) * 8);
}

/// What attention by the card's library needs behind our own kernel's areas:
/// which of the two runs (with segments), and lse as the library has it (by
/// batch row; with one row the two are the same).
inline Saturating cudaLibraryAreas(const LaunchShape &d, int segments,
                                   Saturating rows, Saturating seq,
                                   Saturating heads) {
  return (d.has(segments) ? cudaArea(8) : Saturating(0)) +
         (rows / seq > 1 ? cudaArea(rows * heads * 4) : Saturating(0));
}

/// cuDNN's forward engines ask for 256 bytes at most.
inline Saturating cudaLibraryForward(const LaunchShape &d, Saturating engine,
                                     int segments, Saturating rows,
                                     Saturating seq, Saturating heads) {
  if (engine == 0)
    return 0;
  return cudaLibraryAreas(d, segments, rows, seq, heads) + cudaAlignment;
}

struct AttentionSizes {
  Saturating rows, seq, heads, kvHeads, headDim;
};

/// cuDNN's deterministic backward where it is linear in the rows: dq in f32, a
/// number per query and head and, where heads share keys, dk and dv of every
/// head.
inline Saturating cudaLibraryBackward(const LaunchShape &d, Saturating engine,
                                      int segments, int like,
                                      AttentionSizes of) {
  if (engine == 0)
    return 0;
  const Saturating numbers = of.rows * of.heads;
  const Saturating shared = of.heads == of.kvHeads ? 0 : 2;
  return cudaLibraryAreas(d, segments, of.rows, of.seq, of.heads) +
         cudaArea(numbers * of.headDim * 4) + cudaArea(numbers * 4) +
         shared * cudaArea(numbers * of.headDim * d.bytes(like)) +
         cudaAlignment;
}

/// The parts of a sum over rows into [rank, columns], when it is masked.
inline Saturating cudaMaskedSums(bool masked, Saturating rows, Saturating rank,
                                 Saturating columns) {
  if (!masked)
    return 0;
  const Saturating parts = std::min<Saturating>(
      (rows + (cudaRankRows - 1)) / cudaRankRows, cudaRankParts);
  return cudaArea(parts * rank * columns * 4);
}

/// The parts of a sum over rows (rms_norm_dw, bias_dw).
constexpr Saturating cudaColumnSums(Saturating columns) {
  return cudaArea(columns * cudaColumnParts * 4);
}

/// One f64 for each part of a norm.
constexpr Saturating cudaNormSums(Saturating elements) {
  // A named constant: nvcc writes the sum of two into code that is none.
  constexpr uint64_t rest = cudaTensorPart - 1;
  return cudaArea((elements + rest) / cudaTensorPart * 8);
}

} // namespace peft

#endif // PEFT_SCHEMA_CUDAWORKSPACE_H
