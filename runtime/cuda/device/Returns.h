//===- Returns.h - small results that come back later -----------*- C++ -*-===//
#ifndef PEFT_CUDA_DEVICE_RETURNS_H
#define PEFT_CUDA_DEVICE_RETURNS_H

#include "Memory.h"
#include "cuda/Call.h"
#include "peft/Device.h"

#include <cuda_runtime_api.h>

#include <array>
#include <span>

namespace peft::cuda {

/// Results and, with each, the fault slots as they were then: copied to pinned
/// memory in the order of a stream, with an event behind them. So the host can
/// wait for one of them while the card goes on.
class Returns {
public:
  Returns() = default;
  ~Returns();
  Returns(const Returns &) = delete;
  Returns &operator=(const Returns &) = delete;

  /// `faults` is the card's memory of the fault slots.
  Status create(const Block &faults);
  Status post(cudaStream_t stream, unsigned slot, const std::byte *source,
              uint64_t size);
  /// Waits for what was posted in `slot`; its bytes and faults can then be read
  /// until the slot is posted again.
  Status wait(unsigned slot) const;
  std::span<const std::byte> bytes(unsigned slot) const {
    return {place(slot), sizes[slot]};
  }
  const FaultSlot *faults(unsigned slot) const {
    return reinterpret_cast<const FaultSlot *>(place(slot) +
                                               Device::returnBytes);
  }
  uint64_t pinnedBytes() const { return memory.size(); }
  void abandon();

private:
  std::byte *place(unsigned slot) const {
    return memory.data() + slot * slotBytes;
  }

  Block memory;
  const Block *source = nullptr; ///< of the fault slots
  uint64_t slotBytes = 0;
  std::array<uint64_t, Device::returnSlots> sizes{};
  std::array<cudaEvent_t, Device::returnSlots> arrived{};
};

} // namespace peft::cuda

#endif // PEFT_CUDA_DEVICE_RETURNS_H
