//===- Sha256.h - FIPS 180-4 ------------------------------------*- C++ -*-===//
#ifndef PEFT_TRAIN_SHA256_H
#define PEFT_TRAIN_SHA256_H

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>

namespace peft {

/// The key of a cached token file: a collision would train other data without
/// a word, hence a real hash.
class Sha256 {
public:
  void add(std::span<const std::byte> bytes);
  void add(std::string_view text) { add(std::as_bytes(std::span(text))); }
  /// 64 hexadecimal digits. The object is used up.
  std::string finish();

private:
  void block(const std::byte *bytes);

  std::array<uint32_t, 8> state{0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a,
                                0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19};
  std::array<std::byte, 64> pending;
  uint64_t length = 0;
};

} // namespace peft

#endif // PEFT_TRAIN_SHA256_H
