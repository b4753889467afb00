//===- CpuArena.cpp - one allocation of the CPU device --------------------===//
#include "CpuArena.h"

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <string>
#include <sys/mman.h>
#include <unistd.h>
#include <utility>
#include <vector>

namespace peft::cpu {

static uint64_t pageBytes() {
  return static_cast<uint64_t>(::sysconf(_SC_PAGESIZE));
}

CpuArena::CpuArena(CpuArena &&other) noexcept
    : start(std::exchange(other.start, nullptr)),
      size(std::exchange(other.size, 0)),
      reserved(std::exchange(other.reserved, 0)) {}

CpuArena::~CpuArena() {
  if (start)
    ::munmap(start - pageBytes(), reserved);
}

static Status refused(uint64_t size) {
  return Status::error(Code::doesNotFit, "the system refuses an arena of " +
                                             std::to_string(size) + " bytes (" +
                                             std::to_string(size >> 30) +
                                             " GiB): " + std::strerror(errno) +
                                             "; compile the plan with a "
                                             "smaller --batch or --seq");
}

Expected<CpuArena> CpuArena::create(uint64_t size) {
  CpuArena arena;
  if (size == 0)
    return arena;
  const uint64_t page = pageBytes();
  const uint64_t whole = (size + page - 1) / page * page;
  void *memory = ::mmap(nullptr, whole + 2 * page, PROT_NONE,
                        MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (memory == MAP_FAILED)
    return refused(size);
  arena.start = static_cast<std::byte *>(memory) + page;
  arena.size = size;
  arena.reserved = whole + 2 * page;
  if (::mprotect(arena.start, whole, PROT_READ | PROT_WRITE) != 0)
    return refused(size);
  // Fewer TLB misses; a refusal costs nothing but speed.
  if (size >= (4u << 20))
    (void)::madvise(arena.start, whole, MADV_HUGEPAGE);
  return arena;
}

uint64_t CpuArena::residentBytes() const {
  const uint64_t page = pageBytes();
  // On the stack: status lines ask during a step, where nothing allocates.
  constexpr uint64_t windowPages = 4096;
  std::array<unsigned char, windowPages> present;
  uint64_t bytes = 0;
  for (uint64_t at = 0; at < size; at += windowPages * page) {
    uint64_t length = std::min(size - at, windowPages * page);
    if (::mincore(start + at, length, present.data()) != 0)
      return 0;
    for (uint64_t i = 0; i * page < length; ++i)
      if (present[i] & 1)
        bytes += std::min(page, length - i * page);
  }
  return bytes;
}

} // namespace peft::cpu
