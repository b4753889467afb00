//===- Fiber.h - a stack of its own that is run by hand ---------*- C++ -*-===//
#ifndef PEFT_CUDA_EMULATION_FIBER_H
#define PEFT_CUDA_EMULATION_FIBER_H

#include <cstddef>

namespace peft::cuda::emulation {

/// A flow of control with its own stack, taken up and left by hand. Tells the
/// address and the thread sanitizer what happens.
class Fiber {
public:
  Fiber();
  ~Fiber();
  Fiber(const Fiber &) = delete;
  Fiber &operator=(const Fiber &) = delete;

  /// The next resume() begins `entry`, which must end in finish(). What an
  /// earlier entry left on the stack is forgotten.
  void prepare(void (*entry)());
  /// Runs the fiber until it suspends or finishes.
  void resume();
  /// Called by the fiber that runs: back to the one that resumed it.
  void suspend();
  [[noreturn]] void finish();
  /// The first call of `entry`.
  void entered();
  /// A suspended fiber will not be resumed.
  void abandon();

private:
  std::byte *memory = nullptr; ///< a guard page, then the stack
  void *stackPointer = nullptr;
  [[maybe_unused]] void *fakeStack = nullptr;   ///< of the address sanitizer
  [[maybe_unused]] bool marked = false; ///< it knows frames that are no more
  [[maybe_unused]] void *threadState = nullptr; ///< of the thread sanitizer
};

} // namespace peft::cuda::emulation

#endif // PEFT_CUDA_EMULATION_FIBER_H
