//===- CpuArena.cpp - one allocation of the CPU device --------------------===//
#include "CpuArena.h"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <string>
#include <sys/mman.h>
#include <unistd.h>
#include <utility>
#include <vector>

namespace peft::cpu {

CpuArena::CpuArena(CpuArena &&other) noexcept
    : start(std::exchange(other.start, nullptr)),
      size(std::exchange(other.size, 0)) {}

CpuArena::~CpuArena() {
  if (start)
    ::munmap(start, size);
}

Expected<CpuArena> CpuArena::create(uint64_t size) {
  CpuArena arena;
  if (size == 0)
    return arena;
  void *memory = ::mmap(nullptr, size, PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (memory == MAP_FAILED)
    return Status::error(Code::doesNotFit,
                         "the system refuses an arena of " +
                             std::to_string(size) +
                             " bytes: " + std::strerror(errno));
  // Fewer TLB misses; a refusal costs nothing but speed.
  if (size >= (4u << 20))
    (void)::madvise(memory, size, MADV_HUGEPAGE);
  arena.start = static_cast<std::byte *>(memory);
  arena.size = size;
  return arena;
}

uint64_t CpuArena::residentBytes() const {
  const uint64_t page = static_cast<uint64_t>(::sysconf(_SC_PAGESIZE));
  constexpr uint64_t windowPages = 65536;
  std::vector<unsigned char> present(windowPages);
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
