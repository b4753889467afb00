//===- Parallel.h - ranges of rows and elements on the pool -----*- C++ -*-===//
//
// Bodies give the same bits for any split, so the split may follow the threads.
// Everything goes through the pool, whose threads flush denormals.
//
//===----------------------------------------------------------------------===//
#ifndef PEFT_CPU_PATHS_PARALLEL_H
#define PEFT_CPU_PATHS_PARALLEL_H

#include "../Lanes.h"
#include "../ThreadPool.h"

namespace peft::cpu::PEFT_PATH {

/// body(begin, end) over [0, count) in pieces of at most `grain`.
template <typename Body>
void parallel(const Call &call, uint64_t count, uint64_t grain,
              const Body &body) {
  call.pool->forRanges(
      count, grain,
      [&](unsigned, uint64_t begin, uint64_t end) { body(begin, end); });
}

/// Rows so that a piece has about 8,192 elements.
PEFT_INLINE uint64_t rowGrain(uint64_t columns) {
  return columns >= 8192 || columns == 0 ? 1 : 8192 / columns;
}

/// body(begin, end) over elements; `begin` is a multiple of sixteen.
template <typename Body>
void parallelElements(const Call &call, uint64_t elements, const Body &body) {
  constexpr uint64_t piece = 4096;
  parallel(call, elements / piece + (elements % piece != 0), 2,
           [&](uint64_t begin, uint64_t end) {
             body(begin * piece,
                  end * piece < elements ? end * piece : elements);
           });
}

/// chunk(offset, load, store) for [begin, end) in sixteens, the tail included:
/// load(pointer) gives the lanes at the offset, store(pointer, lanes) writes
/// as many as there are.
template <typename Chunk>
PEFT_INLINE void forLanes(uint64_t begin, uint64_t end, const Chunk &chunk) {
  uint64_t i = begin;
  for (; i + laneCount <= end; i += laneCount)
    chunk([&](auto *from)
              __attribute__((always_inline)) { return load(from + i); },
          [&](auto *to, Lanes value)
              __attribute__((always_inline)) { store(to + i, value); });
  if (i < end)
    chunk(
        [&](auto *from)
            __attribute__((always_inline)) { return load(from + i, end - i); },
        [&](auto *to, Lanes value)
            __attribute__((always_inline)) { store(to + i, value, end - i); });
}

} // namespace peft::cpu::PEFT_PATH

#endif // PEFT_CPU_PATHS_PARALLEL_H
