//===- Staging.h - bytes between host and card ------------------*- C++ -*-===//
#ifndef PEFT_CUDA_DEVICE_STAGING_H
#define PEFT_CUDA_DEVICE_STAGING_H

#include "Memory.h"

#include <cuda_runtime_api.h>

#include <span>

namespace peft::cuda {

/// Copies through pinned memory in the order of one stream. What is written
/// goes through two halves in turn: while the card reads one, the host fills
/// the other, and a half is filled again only after its event. So large weights
/// go at the speed of the bus, and a batch is on its way while the host goes on.
class Staging {
public:
  static constexpr uint64_t halfBytes = 32 << 20;
  static constexpr uint64_t returnBytes = 4 << 20;

  Staging() = default;
  ~Staging();
  Staging(const Staging &) = delete;
  Staging &operator=(const Staging &) = delete;

  Status create();
  uint64_t bytes() const { return 2 * halfBytes + returnBytes; }

  /// Returns when `source` may change; the copy may still be on its way.
  Status write(cudaStream_t stream, std::byte *target,
               std::span<const std::byte> source);
  /// Waits for all of `stream`.
  Status read(cudaStream_t stream, const std::byte *source,
              std::span<std::byte> target);
  void abandon();

private:
  Status turn(cudaStream_t stream);

  Block memory;
  cudaEvent_t done[2] = {}; ///< by half: the card has read it
  unsigned half = 0;
  uint64_t used = 0; ///< bytes of the current half
};

} // namespace peft::cuda

#endif // PEFT_CUDA_DEVICE_STAGING_H
