//===- cuda/Place.h - where the CUDA kernels of a Case run ------*- C++ -*-===//
//
// Two places, each linked with the same tests: emulated/ runs the kernels on the
// host under a sanitizer, card/ on the card of this machine, as compiled for it,
// with the libraries that it uses.
//
//===----------------------------------------------------------------------===//
#ifndef PEFT_TEST_CONFORMANCE_CUDA_PLACE_H
#define PEFT_TEST_CONFORMANCE_CUDA_PLACE_H

#include "cuda/Call.h"

#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

namespace peft::conformance {

/// Memory that kernels reach: exactly as many bytes as it was given, at a
/// multiple of 64.
class Allocation {
public:
  explicit Allocation(const std::vector<std::byte> &content);
  /// Its bytes may be anything.
  explicit Allocation(size_t bytes);
  ~Allocation();
  Allocation(const Allocation &) = delete;
  Allocation &operator=(const Allocation &) = delete;

  std::byte *data() const { return static_cast<std::byte *>(memory); }
  size_t size() const { return bytes; }
  void fill(int value);
  /// Whether every byte is `value`. Workspaces are large: where it can be, it is
  /// asked in place.
  bool holdsOnly(uint8_t value) const;
  std::vector<std::byte> content() const;

private:
  size_t bytes = 0;
  void *memory = nullptr; ///< null when it has no bytes
};

/// The orders of threads that each Case runs in.
std::span<const char *const> orderNames();
void setOrder(size_t order);

/// Runs kernel `number` and waits for it.
Status runKernel(size_t number, cuda::Call call);
/// Whether the kernel looks at its gate itself. Where a library computes, the
/// device leaves out the launch instead.
bool looksAtGate(size_t number);
/// Whether the kernel gives the bits of the CPU device; else it comes close.
bool givesTheSameBits(std::string_view kernel);

} // namespace peft::conformance

#endif // PEFT_TEST_CONFORMANCE_CUDA_PLACE_H
