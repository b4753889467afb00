//===- ThreadPool.h - the CPU device's own threads --------------*- C++ -*-===//
#ifndef PEFT_CPU_THREADPOOL_H
#define PEFT_CPU_THREADPOOL_H

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>

namespace peft::cpu {

/// A fixed set of threads, each with flush-to-zero and denormals-are-zero set.
/// The caller of run is thread 0. `run` allocates nothing.
class ThreadPool {
public:
  /// Has fewer threads where the system refuses to start so many.
  explicit ThreadPool(unsigned threads);
  ~ThreadPool();
  ThreadPool(const ThreadPool &) = delete;
  ThreadPool &operator=(const ThreadPool &) = delete;

  unsigned size() const;

  /// Calls body(context, thread) once on every thread and returns when all did.
  void run(void (*body)(void *context, unsigned thread), void *context);

  /// Calls `body(thread, begin, end)` over [0, count) in pieces of at most
  /// `grain`; each thread walks its own contiguous part forward and then takes
  /// from the tails of the others.
  template <typename Body>
  void forRanges(uint64_t count, uint64_t grain, const Body &body);

private:
  struct State;
  std::unique_ptr<State> state;

  void forRangesImpl(uint64_t count, uint64_t grain,
                     void (*body)(const void *context, unsigned thread,
                                  uint64_t begin, uint64_t end),
                     const void *context);
};

template <typename Body>
void ThreadPool::forRanges(uint64_t count, uint64_t grain, const Body &body) {
  forRangesImpl(
      count, grain,
      [](const void *context, unsigned thread, uint64_t begin, uint64_t end) {
        (*static_cast<const Body *>(context))(thread, begin, end);
      },
      &body);
}

} // namespace peft::cpu

#endif // PEFT_CPU_THREADPOOL_H
