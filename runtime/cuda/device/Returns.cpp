//===- Returns.cpp - small results that come back later -------------------===//
#include "Returns.h"

#include "Answer.h"

namespace peft::cuda {

Returns::~Returns() {
  // Nobody is left to hear of an error.
  for (cudaEvent_t event : arrived)
    if (event)
      (void)cudaEventDestroy(event);
}

void Returns::abandon() {
  memory.abandon();
  arrived = {};
}

Status Returns::create(const Block &faults) {
  source = &faults;
  slotBytes = Device::returnBytes + faults.size();
  PEFT_ASSIGN(memory, Block::create(Space::pinned,
                                    slotBytes * Device::returnSlots,
                                    "results on their way"));
  for (cudaEvent_t &event : arrived)
    PEFT_CUDA(cudaEventCreateWithFlags(&event, cudaEventDisableTiming));
  return {};
}

Status Returns::post(cudaStream_t stream, unsigned slot,
                     const std::byte *from, uint64_t size) {
  sizes[slot] = size;
  PEFT_CUDA(cudaMemcpyAsync(place(slot), from, size, cudaMemcpyDefault,
                            stream));
  PEFT_CUDA(cudaMemcpyAsync(place(slot) + Device::returnBytes, source->data(),
                            source->size(), cudaMemcpyDefault, stream));
  PEFT_CUDA(cudaEventRecord(arrived[slot], stream));
  return {};
}

Status Returns::wait(unsigned slot) const {
  PEFT_CUDA(cudaEventSynchronize(arrived[slot]));
  return {};
}

} // namespace peft::cuda
