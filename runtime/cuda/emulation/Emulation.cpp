//===- Emulation.cpp - the threads of a block, in turns -------------------===//
//
// Warps get their turn in the order asked for, and run as far as they can: to a
// barrier of the block or to their end. Within a warp every lane that can run
// does, to its next warp operation, which is complete when all 32 are at it.
//
//===----------------------------------------------------------------------===//
#include "cuda/Grid.h"

#include "cuda/emulation/Fiber.h"

#include <algorithm>
#include <cstdlib>
#include <memory>
#include <mutex>
#include <numeric>
#include <vector>

#ifdef PEFT_THREAD_SANITIZER
extern "C" {
void __tsan_acquire(void *address);
void __tsan_release(void *address);
}
#endif

namespace peft::cuda::emulation {

namespace {

constexpr unsigned lanes = 32, mostThreads = 1024;
constexpr size_t mostExchanged = 256, mostShared = 227 << 10;

enum class State : uint8_t { ready, atWarp, atBarrier, done };

struct Thread {
  Fiber fiber;
  State state = State::ready;
  Place place; ///< where it waits
  size_t bytes = 0;
  unsigned operations = 0, barriers = 0; ///< met so far
};

struct Warp {
  /// Operations alternate between the two: one lane may wait in the next
  /// operation while another still reads the last.
  alignas(16) std::byte exchanged[2][lanes * mostExchanged];
  char order[2] = {}; ///< what the thread sanitizer sees a warp meet at
};

/// Everything of the running launch. One launch at a time.
struct Machine {
  std::vector<std::unique_ptr<Thread>> threads;
  std::vector<Warp> warps{mostThreads / lanes};
  unsigned count = 0;   ///< threads of the block
  unsigned running = 0; ///< the thread that runs
  void (*body)(void *) = nullptr;
  void *arguments = nullptr;
  std::byte *shared = nullptr;
  std::string error; ///< of the block that runs; empty: none
  Order order = Order::ascending;
  uint64_t random = 0;
  char start = 0, barrierOrder[2] = {}, end = 0; ///< for the thread sanitizer
};
Machine machine;
std::mutex oneLaunch;

/// What happens before `address` is released happens before whatever follows
/// an acquire() of it.
void release([[maybe_unused]] char &address) {
#ifdef PEFT_THREAD_SANITIZER
  __tsan_release(&address);
#endif
}
void acquire([[maybe_unused]] char &address) {
#ifdef PEFT_THREAD_SANITIZER
  __tsan_acquire(&address);
#endif
}

Thread &self() { return *machine.threads[machine.running]; }

uint64_t nextRandom() {
  uint64_t x = machine.random += 0x9E3779B97F4A7C15u;
  x = (x ^ x >> 30) * 0xBF58476D1CE4E5B9u;
  x = (x ^ x >> 27) * 0x94D049BB133111EBu;
  return x ^ x >> 31;
}

std::string textOf(const Place &place) {
  std::string file = place.file;
  return std::string(place.operation) + " in " +
         file.substr(file.rfind('/') + 1) + ":" + std::to_string(place.line);
}

bool same(const Place &a, const Place &b) {
  return a.line == b.line && std::strcmp(a.operation, b.operation) == 0 &&
         std::strcmp(a.file, b.file) == 0;
}

std::string whereabouts(unsigned thread) {
  const Thread &t = *machine.threads[thread];
  const std::string who = "thread " + std::to_string(thread) + " ";
  return t.state == State::done ? who + "has ended"
                                : who + "waits at " + textOf(t.place);
}

void blame(const std::string &what) {
  if (!machine.error.empty())
    return;
  machine.error = "block (" + std::to_string(unsigned(blockIdx.x)) + ", " +
                  std::to_string(unsigned(blockIdx.y)) + ", " +
                  std::to_string(unsigned(blockIdx.z)) + "): " + what;
}

/// The life of every fiber.
void enter() {
  Thread &thread = self();
  thread.fiber.entered();
  acquire(machine.start);
  machine.body(machine.arguments);
  release(machine.end);
  thread.state = State::done;
  thread.fiber.finish();
}

/// Copied by hand: the thread sanitizer watches memcpy.
__attribute__((no_builtin("memcpy"))) void
copyBytes(const void *from, size_t bytes, std::byte *to) {
  const std::byte *source = static_cast<const std::byte *>(from);
  for (size_t i = 0; i < bytes; ++i)
    to[i] = source[i];
}

/// The n-th of `count` in the order asked for; `shuffled` is a permutation.
unsigned inOrder(unsigned n, unsigned count, const uint8_t *shuffled) {
  switch (machine.order) {
  case Order::ascending:
    return n;
  case Order::descending:
    return count - 1 - n;
  case Order::random:
    return shuffled[n];
  }
  return n;
}

void shuffle(uint8_t *values, unsigned count) {
  std::iota(values, values + count, uint8_t(0));
  if (machine.order == Order::random)
    for (unsigned i = count; i > 1; --i)
      std::swap(values[i - 1], values[nextRandom() % i]);
}

/// Runs the lanes of a warp that can run. Returns whether the warp goes on: it
/// met an operation and completed it.
bool stepWarp(unsigned warp) {
  uint8_t shuffled[lanes];
  shuffle(shuffled, lanes);
  const unsigned first = warp * lanes;
  for (unsigned n = 0; n < lanes; ++n) {
    machine.running = first + inOrder(n, lanes, shuffled);
    Thread &thread = self();
    if (thread.state != State::ready)
      continue;
    threadIdx.x.set(machine.running);
    thread.fiber.resume();
    if (!machine.error.empty())
      return false;
  }
  const Thread *waiting = nullptr;
  unsigned who = 0;
  for (unsigned i = first; i < first + lanes; ++i)
    if (!waiting && machine.threads[i]->state == State::atWarp)
      waiting = machine.threads[who = i].get();
  if (!waiting)
    return false;
  for (unsigned i = first; i < first + lanes; ++i) {
    const Thread &other = *machine.threads[i];
    if (other.state != State::atWarp || !same(other.place, waiting->place) ||
        other.bytes != waiting->bytes) {
      blame("a warp does not meet: " + whereabouts(who) + ", " +
            whereabouts(i));
      return false;
    }
  }
  for (unsigned i = first; i < first + lanes; ++i)
    machine.threads[i]->state = State::ready;
  return true;
}

/// All warps stand at a barrier or have ended. Lets those at the barrier go on
/// if all that live are at the same one. Returns the warps that do.
uint32_t passBarrier() {
  uint32_t runnable = 0;
  int first = -1;
  for (unsigned i = 0; i < machine.count; ++i) {
    Thread &thread = *machine.threads[i];
    if (thread.state == State::done)
      continue;
    if (first < 0)
      first = static_cast<int>(i);
    if (!same(machine.threads[first]->place, thread.place)) {
      blame("a barrier is not met by all threads: " +
            whereabouts(static_cast<unsigned>(first)) + ", " + whereabouts(i));
      return 0;
    }
    runnable |= 1u << i / lanes;
  }
  for (unsigned i = 0; i < machine.count; ++i)
    if (machine.threads[i]->state == State::atBarrier)
      machine.threads[i]->state = State::ready;
  return runnable;
}

unsigned pick(uint32_t warps) {
  if (machine.order == Order::ascending)
    return static_cast<unsigned>(std::countr_zero(warps));
  if (machine.order == Order::descending)
    return 31 - static_cast<unsigned>(std::countl_zero(warps));
  uint64_t skip = nextRandom() % static_cast<unsigned>(std::popcount(warps));
  for (; skip; --skip)
    warps &= warps - 1;
  return static_cast<unsigned>(std::countr_zero(warps));
}

void runBlock() {
  for (unsigned i = 0; i < machine.count; ++i) {
    Thread &thread = *machine.threads[i];
    thread.fiber.prepare(enter);
    thread.state = State::ready;
    thread.operations = thread.barriers = 0;
  }
  release(machine.start);
  uint32_t all =
      static_cast<uint32_t>((uint64_t(1) << machine.count / lanes) - 1);
  for (uint32_t runnable = all; runnable && machine.error.empty();
       runnable = passBarrier())
    while (runnable && machine.error.empty()) {
      unsigned warp = pick(runnable);
      if (!stepWarp(warp))
        runnable &= ~(1u << warp);
    }
  for (unsigned i = 0; i < machine.count; ++i)
    if (machine.threads[i]->state != State::done)
      machine.threads[i]->fiber.abandon();
  acquire(machine.end);
}

Status checkGrid(const Grid &grid) {
  if (grid.threads == 0 || grid.threads > mostThreads || grid.threads % lanes)
    return internalError("a block of " + std::to_string(grid.threads) +
                         " threads; needed are whole warps, at most 1024");
  if (grid.y > 65535 || grid.z > 65535 || grid.x > INT32_MAX)
    return internalError(
        "a grid of " + std::to_string(grid.x) + " x " + std::to_string(grid.y) +
        " x " + std::to_string(grid.z) + " blocks is more than a card takes");
  if (grid.sharedBytes > mostShared)
    return internalError(std::to_string(grid.sharedBytes) +
                         " bytes of shared memory; a block has at most " +
                         std::to_string(mostShared));
  return {};
}

/// Memory of exactly `bytes`, so that the address sanitizer sees an overrun.
std::byte *allocateShared(size_t bytes) {
  void *memory = nullptr;
  if (bytes && posix_memalign(&memory, 128, bytes) == 0)
    std::memset(memory, 0xff, bytes);
  return static_cast<std::byte *>(memory);
}

void setCoordinates(Coordinates &to, unsigned x, unsigned y, unsigned z) {
  to.x.set(x);
  to.y.set(y);
  to.z.set(z);
}

} // namespace

void setOrder(Order order, uint64_t seed) {
  machine.order = order;
  machine.random = seed;
}

/// Leaves the kernel for good: nothing that owns memory may be alive.
[[noreturn]] static void leave() {
  self().fiber.suspend();
  __builtin_unreachable();
}

void fail(const char *what) {
  blame("thread " + std::to_string(machine.running) + ": " + what);
  leave();
}

/// The same for a warp operation at `place`.
[[noreturn]] static void refuse(const Place &place, const char *what) {
  blame("thread " + std::to_string(machine.running) + " at " + textOf(place) +
        ": " + what);
  leave();
}

const std::byte *exchange(Place place, unsigned mask, const void *mine,
                          size_t bytes) {
  Thread &thread = self();
  if (mask != 0xffffffffu)
    refuse(place, "a mask that is not full");
  if (bytes > mostExchanged)
    refuse(place, "more than 256 bytes a lane");
  Warp &warp = machine.warps[machine.running / lanes];
  const unsigned half = thread.operations++ % 2;
  std::byte *buffer = warp.exchanged[half];
  copyBytes(mine, bytes, buffer + machine.running % lanes * bytes);
  thread.place = place;
  thread.bytes = bytes;
  thread.state = State::atWarp;
  release(warp.order[half]);
  thread.fiber.suspend();
  acquire(warp.order[half]);
  return buffer;
}

void warpExchange(const void *mine, size_t bytes, void *all, const char *file,
                  unsigned line) {
  const std::byte *from =
      exchange({"warpExchange", file, line}, 0xffffffffu, mine, bytes);
  copyBytes(from, lanes * bytes, static_cast<std::byte *>(all));
}

void barrier(Place place) {
  Thread &thread = self();
  char &order = machine.barrierOrder[thread.barriers++ % 2];
  thread.place = place;
  thread.state = State::atBarrier;
  release(order);
  thread.fiber.suspend();
  acquire(order);
}

std::byte *blockMemory() { return machine.shared; }

Status runBlocks(const Grid &grid, void (*body)(void *), void *arguments) {
  std::lock_guard<std::mutex> lock(oneLaunch);
  if (grid.x == 0 || grid.y == 0 || grid.z == 0)
    return {};
  PEFT_TRY(checkGrid(grid));
  while (machine.threads.size() < grid.threads)
    machine.threads.push_back(std::make_unique<Thread>());
  machine.count = grid.threads;
  machine.body = body;
  machine.arguments = arguments;
  machine.error.clear();
  setCoordinates(gridDim, grid.x, grid.y, grid.z);
  setCoordinates(blockDim, grid.threads, 1, 1);
  const uint64_t blocks = uint64_t(grid.x) * grid.y * grid.z;
  for (uint64_t n = 0; n < blocks; ++n) {
    const uint64_t block =
        machine.order == Order::descending ? blocks - 1 - n : n;
    setCoordinates(blockIdx, static_cast<unsigned>(block % grid.x),
                   static_cast<unsigned>(block / grid.x % grid.y),
                   static_cast<unsigned>(block / grid.x / grid.y));
    machine.shared = allocateShared(grid.sharedBytes);
    runBlock();
    std::free(machine.shared);
    machine.shared = nullptr;
    if (!machine.error.empty())
      return internalError(machine.error);
  }
  return {};
}

} // namespace peft::cuda::emulation
