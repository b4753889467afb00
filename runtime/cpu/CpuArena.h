//===- CpuArena.h - one allocation of the CPU device ------------*- C++ -*-===//
#ifndef PEFT_CPU_CPUARENA_H
#define PEFT_CPU_CPUARENA_H

#include "peft/Status.h"

#include <cstddef>
#include <cstdint>

namespace peft::cpu {

/// Zeroed anonymous memory between two pages that cannot be touched; pages
/// appear as they are used. Movable.
class CpuArena {
public:
  CpuArena() = default;
  CpuArena(CpuArena &&other) noexcept;
  CpuArena &operator=(CpuArena &&) = delete;
  ~CpuArena();

  /// Error doesNotFit: the system refuses that much address space.
  static Expected<CpuArena> create(uint64_t size);

  std::byte *data() const { return start; }
  uint64_t bytes() const { return size; }
  /// Bytes of the pages that are in memory now.
  uint64_t residentBytes() const;

private:
  std::byte *start = nullptr;
  uint64_t size = 0;     ///< as asked for
  uint64_t reserved = 0; ///< whole pages, with the fences
};

} // namespace peft::cpu

#endif // PEFT_CPU_CPUARENA_H
