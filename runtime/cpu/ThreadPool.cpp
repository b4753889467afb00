//===- ThreadPool.cpp - the CPU device's own threads ----------------------===//
//
// A step is thousands of short launches, so waiting threads spin for a while
// before they sleep. Where there are more threads than processors a spinning
// thread would only delay the one it waits for, and it yields at once instead.
//
//===----------------------------------------------------------------------===//
#include "ThreadPool.h"

#include "FlushDenormals.h"

#include <algorithm>
#include <cassert>
#include <system_error>
#include <thread>
#include <vector>

#include <immintrin.h>
#include <pthread.h>
#include <sched.h>

namespace peft::cpu {

namespace {

/// The processors this process may run on.
std::vector<int> usableProcessors() {
  cpu_set_t set;
  CPU_ZERO(&set);
  std::vector<int> processors;
  if (sched_getaffinity(0, sizeof(set), &set) == 0)
    for (int i = 0; i < CPU_SETSIZE; ++i)
      if (CPU_ISSET(i, &set))
        processors.push_back(i);
  return processors;
}

/// Waits until `value` is no longer `old`: spins, then yields, then sleeps.
uint32_t waitForChange(const std::atomic<uint32_t> &value, uint32_t old,
                       unsigned spins) {
  constexpr unsigned yields = 64;
  for (unsigned i = 0; i < spins; ++i) {
    if (uint32_t now = value.load(std::memory_order_acquire); now != old)
      return now;
    _mm_pause();
  }
  for (unsigned i = 0; i < yields; ++i) {
    if (uint32_t now = value.load(std::memory_order_acquire); now != old)
      return now;
    std::this_thread::yield();
  }
  value.wait(old, std::memory_order_acquire);
  return value.load(std::memory_order_acquire);
}

/// One thread's part of a range: pieces [low, high) packed in one word, so that
/// its owner takes from the front and others from the back without a lock.
struct alignas(64) Part {
  std::atomic<uint64_t> bounds{0};

  static uint64_t pack(uint64_t low, uint64_t high) { return low | high << 32; }

  bool take(bool fromFront, uint64_t &piece) {
    uint64_t seen = bounds.load(std::memory_order_relaxed);
    for (;;) {
      uint64_t low = seen & 0xffffffff, high = seen >> 32;
      if (low >= high)
        return false;
      piece = fromFront ? low : high - 1;
      uint64_t rest = fromFront ? pack(low + 1, high) : pack(low, high - 1);
      if (bounds.compare_exchange_weak(seen, rest, std::memory_order_relaxed))
        return true;
    }
  }
};

} // namespace

struct ThreadPool::State {
  unsigned size = 1;
  unsigned spins = 0;
  std::atomic<bool> stop{false};
  alignas(64) std::atomic<uint32_t> generation{0};
  alignas(64) std::atomic<uint32_t> running{0};
  void (*body)(void *context, unsigned thread) = nullptr;
  void *context = nullptr;
  std::unique_ptr<Part[]> parts;
  std::vector<std::thread> threads;

  void work(unsigned thread);
};

void ThreadPool::State::work(unsigned thread) {
  FlushDenormals flush;
  uint32_t seen = 0;
  for (;;) {
    seen = waitForChange(generation, seen, spins);
    if (stop.load(std::memory_order_relaxed))
      return;
    body(context, thread);
    if (running.fetch_sub(1, std::memory_order_acq_rel) == 1)
      running.notify_one();
  }
}

ThreadPool::ThreadPool(unsigned threads) : state(std::make_unique<State>()) {
  assert(threads > 0 && "the caller is one of the threads");
  std::vector<int> processors = usableProcessors();
  state->size = threads;
  // About 50 microseconds; nothing where the threads share processors.
  state->spins = threads <= processors.size() ? 1500 : 0;
  state->parts = std::make_unique<Part[]>(threads);
  state->threads.reserve(threads - 1);
  for (unsigned i = 1; i < threads; ++i) {
    try {
      state->threads.emplace_back([state = state.get(), i] { state->work(i); });
    } catch (const std::system_error &) { // no memory, or a limit of the user
      state->size = threads = i;
    }
  }
  // With fewer threads than processors another process may use the rest, and
  // both would pin to the same ones: leave those to the scheduler. The caller
  // is not ours to pin; the pinned workers push it to the free processor.
  if (threads > 1 && threads == processors.size())
    for (unsigned i = 1; i < threads; ++i) {
      cpu_set_t set;
      CPU_ZERO(&set);
      CPU_SET(processors[i], &set);
      pthread_setaffinity_np(state->threads[i - 1].native_handle(), sizeof(set),
                             &set);
    }
}

ThreadPool::~ThreadPool() {
  state->stop.store(true, std::memory_order_relaxed);
  state->generation.fetch_add(1, std::memory_order_release);
  state->generation.notify_all();
  for (std::thread &thread : state->threads)
    thread.join();
}

unsigned ThreadPool::size() const { return state->size; }

void ThreadPool::run(void (*body)(void *context, unsigned thread),
                     void *context) {
  FlushDenormals flush;
  if (state->size > 1) {
    state->body = body;
    state->context = context;
    state->running.store(state->size - 1, std::memory_order_relaxed);
    state->generation.fetch_add(1, std::memory_order_release);
    state->generation.notify_all();
  }
  body(context, 0);
  if (state->size == 1)
    return;
  while (uint32_t left = state->running.load(std::memory_order_acquire))
    waitForChange(state->running, left, state->spins);
}

void ThreadPool::forRangesImpl(uint64_t count, uint64_t grain,
                               void (*body)(const void *context,
                                            unsigned thread, uint64_t begin,
                                            uint64_t end),
                               const void *context) {
  if (count == 0)
    return;
  // Pieces are numbered in 32 bits.
  grain = std::max<uint64_t>({grain, 1, count / 0x7fffffff + 1});
  grain = std::min(grain, count);
  uint64_t pieces = (count + grain - 1) / grain;
  if (pieces == 1 || state->size == 1) {
    FlushDenormals flush;
    for (uint64_t i = 0; i < pieces; ++i)
      body(context, 0, i * grain, std::min(count, (i + 1) * grain));
    return;
  }

  struct Work {
    State *state;
    uint64_t count, grain;
    void (*body)(const void *, unsigned, uint64_t, uint64_t);
    const void *context;
  } work = {state.get(), count, grain, body, context};
  for (unsigned i = 0; i < state->size; ++i)
    state->parts[i].bounds.store(
        Part::pack(pieces * i / state->size, pieces * (i + 1) / state->size),
        std::memory_order_relaxed);
  run(
      [](void *context, unsigned thread) {
        const Work &work = *static_cast<const Work *>(context);
        for (unsigned i = 0; i < work.state->size; ++i) {
          Part &part = work.state->parts[(thread + i) % work.state->size];
          uint64_t piece = 0;
          while (part.take(i == 0, piece))
            work.body(work.context, thread, piece * work.grain,
                      std::min(work.count, (piece + 1) * work.grain));
        }
      },
      &work);
}

} // namespace peft::cpu
