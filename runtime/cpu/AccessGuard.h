//===- AccessGuard.h - in sanitizer builds, fences in a launch --*- C++ -*-===//
//
// Built with AddressSanitizer the device poisons its arenas and lets each item
// touch only the bytes that kernels.def and its operands give it, so a kernel
// that reads one element too far is caught even where another buffer lies
// there. In other builds this is nothing.
//
//===----------------------------------------------------------------------===//
#ifndef PEFT_CPU_ACCESSGUARD_H
#define PEFT_CPU_ACCESSGUARD_H

#include "cpu/CpuArena.h"
#include "peft/ItemAccess.h"

#include <span>

#if defined(__has_feature)
#if __has_feature(address_sanitizer)
#define PEFT_FENCE_ARENAS 1
#endif
#endif
#if defined(__SANITIZE_ADDRESS__)
#define PEFT_FENCE_ARENAS 1
#endif

#ifdef PEFT_FENCE_ARENAS
#include <sanitizer/asan_interface.h>
#endif

namespace peft::cpu {

/// While it lives, only allowed bytes of the arenas may be touched.
class AccessGuard {
public:
#ifdef PEFT_FENCE_ARENAS
  static constexpr bool enabled = true;

  explicit AccessGuard(std::span<const CpuArena> arenas) : arenas(arenas) {}
  ~AccessGuard() {
    for (const CpuArena &arena : arenas)
      ASAN_UNPOISON_MEMORY_REGION(arena.data(), arena.bytes());
  }
  /// Allows these bytes, and no others.
  void allow(std::span<const ByteAccess> accesses) {
    for (const CpuArena &arena : arenas)
      ASAN_POISON_MEMORY_REGION(arena.data(), arena.bytes());
    for (const ByteAccess &access : accesses)
      ASAN_UNPOISON_MEMORY_REGION(arenas[access.arena].data() + access.begin,
                                  access.end - access.begin);
  }

private:
  std::span<const CpuArena> arenas;
#else
  static constexpr bool enabled = false;

  explicit AccessGuard(std::span<const CpuArena>) {}
  void allow(std::span<const ByteAccess>) {}
#endif
};

} // namespace peft::cpu

#endif // PEFT_CPU_ACCESSGUARD_H
