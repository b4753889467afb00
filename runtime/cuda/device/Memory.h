//===- Memory.h - what a card's plan occupies -------------------*- C++ -*-===//
#ifndef PEFT_CUDA_DEVICE_MEMORY_H
#define PEFT_CUDA_DEVICE_MEMORY_H

#include "peft/Plan.h"
#include "peft/Status.h"

#include <cstddef>
#include <cstdint>
#include <utility>

namespace peft::cuda {

/// One allocation, filled with zeros, freed with its owner.
class Block {
public:
  Block() = default;
  Block(Block &&other) noexcept { swap(other); }
  Block &operator=(Block &&other) noexcept {
    swap(other);
    return *this;
  }
  ~Block();

  /// `bytes` may be 0. `space` is device, pinned or pageable. Error
  /// doesNotFit naming `what`.
  static Expected<Block> create(Space space, uint64_t bytes,
                                const std::string &what);

  std::byte *data() const { return begin; }
  uint64_t size() const { return bytes; }
  Space space() const { return where; }
  /// The card answers no more: the memory goes with the process.
  void abandon() { begin = nullptr; }

private:
  void swap(Block &other) {
    std::swap(begin, other.begin);
    std::swap(bytes, other.bytes);
    std::swap(where, other.where);
  }

  std::byte *begin = nullptr;
  uint64_t bytes = 0;
  Space where = Space::device;
};

} // namespace peft::cuda

#endif // PEFT_CUDA_DEVICE_MEMORY_H
