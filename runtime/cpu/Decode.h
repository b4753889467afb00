//===- Decode.h - codes of a quantized weight to numbers --------*- C++ -*-===//
//
// Sixteen codes at a time: the table is scaled and rounded once per block and
// then looked up, which gives what scaling and rounding every element does.
//
//===----------------------------------------------------------------------===//
#ifndef PEFT_CPU_DECODE_H
#define PEFT_CPU_DECODE_H

#include "Lanes.h"
#include "Quantized.h"

namespace peft::cpu::PEFT_PATH {

/// Elements [first, last) of one block, rounded to the type of `to`.
template <typename T>
PEFT_INLINE void decodePackedBlock(const Quantized &weight, float scale,
                                   uint64_t first, uint64_t last, T *to) {
  if (first % 2 && first < last) {
    store(to++, broadcast(weight.number(first) * scale), 1);
    ++first;
  }
  const auto table =
      makeTable<T>(load(reinterpret_cast<const F32 *>(weight.tables)) *
                broadcast(scale));
  const std::byte *codes = weight.codes + first / 2;
  for (; first + laneCount <= last;
       first += laneCount, codes += laneCount / 2, to += laneCount)
    lookup(table, codes, to);
  if (first == last)
    return;
  std::byte rest[laneCount / 2] = {};
  std::memcpy(rest, codes, (last - first + 1) / 2);
  T numbers[laneCount];
  lookup(table, rest, numbers);
  std::memcpy(to, numbers, (last - first) * sizeof(T));
}

/// The same of i8.
template <typename T>
PEFT_INLINE void decodeByteBlock(const Quantized &weight, float scale,
                                 uint64_t first, uint64_t last, T *to) {
  Lanes factor = broadcast(scale), step = broadcast(Quantized::perStep);
  const std::byte *codes = weight.codes + first;
  for (; first + laneCount <= last;
       first += laneCount, codes += laneCount, to += laneCount)
    store(to, toFloats(loadBytes(codes)) * factor * step);
  if (first == last)
    return;
  std::byte rest[laneCount] = {};
  std::memcpy(rest, codes, last - first);
  store(to, toFloats(loadBytes(rest)) * factor * step, last - first);
}

/// Elements [first, first + count), in row-major order, to `to`.
template <typename T>
void decode(const Quantized &weight, uint64_t first, uint64_t count, T *to) {
  const uint64_t last = first + count;
  for (uint64_t block = weight.block.quotient(first); first < last; ++block) {
    const uint64_t end = std::min(last, weight.block.multiple(block + 1));
    const float scale = weight.scale(block);
    if (weight.type == DType::i8)
      decodeByteBlock(weight, scale, first, end, to);
    else
      decodePackedBlock(weight, scale, first, end, to);
    to += end - first;
    first = end;
  }
}

} // namespace peft::cpu::PEFT_PATH

#endif // PEFT_CPU_DECODE_H
