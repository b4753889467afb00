//===- Staging.cpp - bytes between host and card --------------------------===//
#include "Staging.h"

#include "Answer.h"

#include <algorithm>
#include <cstring>

namespace peft::cuda {

Staging::~Staging() {
  for (cudaEvent_t event : done)
    if (event)
      (void)cudaEventDestroy(event);
}

void Staging::abandon() {
  memory.abandon();
  done[0] = done[1] = nullptr;
}

Status Staging::create() {
  PEFT_ASSIGN(memory, Block::create(Space::pinned, bytes(), "staging memory"));
  for (cudaEvent_t &event : done)
    PEFT_CUDA(cudaEventCreateWithFlags(&event, cudaEventDisableTiming));
  return {};
}

/// Goes on with the other half, once the card has read what it held.
Status Staging::turn(cudaStream_t stream) {
  PEFT_CUDA(cudaEventRecord(done[half], stream));
  half = 1 - half;
  used = 0;
  // An event that was never recorded is done.
  PEFT_CUDA(cudaEventSynchronize(done[half]));
  return {};
}

Status Staging::write(cudaStream_t stream, std::byte *target,
                      std::span<const std::byte> source) {
  while (!source.empty()) {
    if (used == halfBytes)
      PEFT_TRY(turn(stream));
    uint64_t size = std::min<uint64_t>(source.size(), halfBytes - used);
    std::byte *place = memory.data() + half * halfBytes + used;
    std::memcpy(place, source.data(), size);
    PEFT_CUDA(cudaMemcpyAsync(target, place, size, cudaMemcpyDefault, stream));
    used = std::min(halfBytes, (used + size + 63) / 64 * 64);
    target += size;
    source = source.subspan(size);
  }
  return {};
}

Status Staging::read(cudaStream_t stream, const std::byte *source,
                     std::span<std::byte> target) {
  std::byte *place = memory.data() + 2 * halfBytes;
  while (!target.empty()) {
    uint64_t size = std::min<uint64_t>(target.size(), returnBytes);
    PEFT_CUDA(cudaMemcpyAsync(place, source, size, cudaMemcpyDefault, stream));
    PEFT_CUDA(cudaStreamSynchronize(stream));
    std::memcpy(target.data(), place, size);
    source += size;
    target = target.subspan(size);
  }
  return {};
}

} // namespace peft::cuda
