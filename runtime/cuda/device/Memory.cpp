//===- Memory.cpp - what a card's plan occupies ---------------------------===//
#include "Memory.h"

#include "Answer.h"

#include <cstring>
#include <string>
#include <sys/mman.h>

namespace peft::cuda {

Block::~Block() {
  if (!begin)
    return;
  // Nobody is left to hear of an error.
  if (where == Space::device)
    (void)cudaFree(begin);
  else if (where == Space::pinned)
    (void)cudaFreeHost(begin);
  else
    (void)::munmap(begin, bytes);
}

static Expected<std::byte *> allocate(Space space, uint64_t bytes,
                                      const std::string &what) {
  void *memory = nullptr;
  cudaError_t error = cudaSuccess;
  if (space == Space::device)
    error = cudaMalloc(&memory, bytes);
  else if (space == Space::pinned)
    error = cudaHostAlloc(&memory, bytes, cudaHostAllocDefault);
  else if (memory = ::mmap(nullptr, bytes, PROT_READ | PROT_WRITE,
                           MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
           memory == MAP_FAILED)
    error = cudaErrorMemoryAllocation;
  if (error == cudaErrorMemoryAllocation)
    return Status::error(Code::doesNotFit,
                         what + ": there are no " + std::to_string(bytes) +
                             " bytes of " +
                             (space == Space::device ? "the card's" : "host") +
                             " memory in one piece");
  PEFT_TRY(answer(error, what.c_str()));
  return static_cast<std::byte *>(memory);
}

Expected<Block> Block::create(Space space, uint64_t bytes,
                              const std::string &what) {
  Block block;
  block.where = space;
  if (bytes == 0)
    return block;
  PEFT_ASSIGN(block.begin, allocate(space, bytes, what));
  block.bytes = bytes;
  if (space == Space::device) {
    // The streams of a plan do not wait for the default stream by themselves.
    PEFT_CUDA(cudaMemset(block.begin, 0, bytes));
    PEFT_CUDA(cudaDeviceSynchronize());
  } else if (space == Space::pinned)
    std::memset(block.begin, 0, bytes);
  return block;
}

} // namespace peft::cuda
