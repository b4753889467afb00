//===- Fiber.cpp - a stack of its own that is run by hand -----------------===//
#include "cuda/emulation/Fiber.h"

#include <cstdint>
#include <cstring>
#include <new>
#include <sys/mman.h>

#if defined(__SANITIZE_ADDRESS__)
#define PEFT_ADDRESS_SANITIZER 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define PEFT_ADDRESS_SANITIZER 1
#endif
#endif

#ifdef PEFT_ADDRESS_SANITIZER
extern "C" {
void __sanitizer_start_switch_fiber(void **save, const void *bottom,
                                    size_t size);
void __sanitizer_finish_switch_fiber(void *save, const void **oldBottom,
                                     size_t *oldSize);
void __asan_unpoison_memory_region(const volatile void *begin, size_t size);
}
#endif
// This file is compiled without -fsanitize=thread, so that switching shows the
// sanitizer nothing; the target says that kernels are compiled with it.
#ifdef PEFT_THREAD_SANITIZER
extern "C" {
void *__tsan_get_current_fiber();
void *__tsan_create_fiber(unsigned flags);
void __tsan_destroy_fiber(void *fiber);
void __tsan_switch_to_fiber(void *fiber, unsigned flags);
}
#endif

// Saves what a function must preserve on the stack it leaves, and takes it from
// the stack it enters.
#ifndef __x86_64__
#error "the emulation switches stacks by hand and knows only x86-64"
#endif
extern "C" void peftSwitchStack(void **left, void *entered);
asm(R"(
.text
.p2align 4
.type peftSwitchStack,@function
.globl peftSwitchStack
.hidden peftSwitchStack
peftSwitchStack:
  pushq %rbp
  pushq %rbx
  pushq %r12
  pushq %r13
  pushq %r14
  pushq %r15
  movq %rsp, (%rdi)
  movq %rsi, %rsp
  popq %r15
  popq %r14
  popq %r13
  popq %r12
  popq %rbx
  popq %rbp
  ret
.size peftSwitchStack, .-peftSwitchStack
)");

namespace peft::cuda::emulation {

namespace {

constexpr size_t guardBytes = 4096, stackBytes = 256 << 10;

/// The stack of the thread that resumes fibers. Launches are one at a time.
struct Resumer {
  void *stackPointer = nullptr;
  [[maybe_unused]] void *fakeStack = nullptr, *threadState = nullptr;
  const void *bottom = nullptr;
  size_t size = 0;
} resumer;

} // namespace

Fiber::Fiber() {
  void *pages = mmap(nullptr, guardBytes + stackBytes, PROT_READ | PROT_WRITE,
                     MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (pages == MAP_FAILED)
    throw std::bad_alloc();
  memory = static_cast<std::byte *>(pages);
  mprotect(memory, guardBytes, PROT_NONE);
#ifdef PEFT_THREAD_SANITIZER
  threadState = __tsan_create_fiber(0);
#endif
}

Fiber::~Fiber() {
#ifdef PEFT_THREAD_SANITIZER
  __tsan_destroy_fiber(threadState);
#endif
  munmap(memory, guardBytes + stackBytes);
}

void Fiber::prepare(void (*entry)()) {
#ifdef PEFT_ADDRESS_SANITIZER
  if (marked)
    __asan_unpoison_memory_region(memory + guardBytes, stackBytes);
  marked = false;
  fakeStack = nullptr;
#endif
  // As if `entry` had been called and had called peftSwitchStack: at its first
  // instruction the stack is 8 bytes off a multiple of 16.
  void **top = reinterpret_cast<void **>(memory + guardBytes + stackBytes - 64);
  top[1] = nullptr;
  top[0] = reinterpret_cast<void *>(entry);
  constexpr size_t saved = 6;
  std::memset(top - saved, 0, saved * sizeof(void *));
  stackPointer = top - saved;
}

void Fiber::resume() {
#ifdef PEFT_ADDRESS_SANITIZER
  __sanitizer_start_switch_fiber(&resumer.fakeStack, memory + guardBytes,
                                 stackBytes);
#endif
#ifdef PEFT_THREAD_SANITIZER
  resumer.threadState = __tsan_get_current_fiber();
  __tsan_switch_to_fiber(threadState, 1);
#endif
  peftSwitchStack(&resumer.stackPointer, stackPointer);
#ifdef PEFT_ADDRESS_SANITIZER
  __sanitizer_finish_switch_fiber(resumer.fakeStack, nullptr, nullptr);
#endif
}

void Fiber::entered() {
#ifdef PEFT_ADDRESS_SANITIZER
  __sanitizer_finish_switch_fiber(nullptr, &resumer.bottom, &resumer.size);
#endif
}

void Fiber::suspend() {
#ifdef PEFT_ADDRESS_SANITIZER
  __sanitizer_start_switch_fiber(&fakeStack, resumer.bottom, resumer.size);
#endif
#ifdef PEFT_THREAD_SANITIZER
  __tsan_switch_to_fiber(resumer.threadState, 1);
#endif
  peftSwitchStack(&stackPointer, resumer.stackPointer);
#ifdef PEFT_ADDRESS_SANITIZER
  __sanitizer_finish_switch_fiber(fakeStack, nullptr, nullptr);
#endif
}

void Fiber::abandon() {
  marked = true;
#ifdef PEFT_THREAD_SANITIZER
  // What it did happened before whatever follows; its calls never return.
  void *current = __tsan_get_current_fiber();
  __tsan_switch_to_fiber(threadState, 1);
  __tsan_switch_to_fiber(current, 0);
  __tsan_destroy_fiber(threadState);
  threadState = __tsan_create_fiber(0);
#endif
}

void Fiber::finish() {
#ifdef PEFT_ADDRESS_SANITIZER
  __sanitizer_start_switch_fiber(nullptr, resumer.bottom, resumer.size);
#endif
#ifdef PEFT_THREAD_SANITIZER
  __tsan_switch_to_fiber(resumer.threadState, 1);
#endif
  peftSwitchStack(&stackPointer, resumer.stackPointer);
  __builtin_unreachable();
}

} // namespace peft::cuda::emulation
