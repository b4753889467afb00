//===- Sha256.cpp - FIPS 180-4 --------------------------------------------===//
#include "Sha256.h"

#include <bit>
#include <cmath>
#include <cstring>

using namespace peft;

namespace {
/// The first 32 bits of the fractional part of the cube root of the first 64
/// primes: the standard's definition, in integers.
constexpr std::array<uint32_t, 64> makeConstants() {
  std::array<uint32_t, 64> constants{};
  size_t count = 0;
  for (uint64_t candidate = 2; count < constants.size(); ++candidate) {
    bool prime = true;
    for (uint64_t i = 2; i * i <= candidate; ++i)
      prime = prime && candidate % i != 0;
    if (!prime)
      continue;
    // The largest r with r^3 <= candidate 2^96; r < 2^35.
    unsigned __int128 root = 0;
    for (int bit = 34; bit >= 0; --bit) {
      unsigned __int128 next =
          root | (static_cast<unsigned __int128>(1) << bit);
      // next^3 has up to 105 bits.
      if (next * next * next <= static_cast<unsigned __int128>(candidate) << 96)
        root = next;
    }
    constants[count++] = static_cast<uint32_t>(root);
  }
  return constants;
}
constexpr std::array<uint32_t, 64> constants = makeConstants();
static_assert(constants[0] == 0x428a2f98 && constants[63] == 0xc67178f2);
} // namespace

void Sha256::block(const std::byte *bytes) {
  std::array<uint32_t, 64> w;
  for (int i = 0; i < 16; ++i)
    w[i] = static_cast<uint32_t>(bytes[4 * i]) << 24 |
           static_cast<uint32_t>(bytes[4 * i + 1]) << 16 |
           static_cast<uint32_t>(bytes[4 * i + 2]) << 8 |
           static_cast<uint32_t>(bytes[4 * i + 3]);
  for (int i = 16; i < 64; ++i) {
    uint32_t a = w[i - 15], b = w[i - 2];
    w[i] = w[i - 16] + w[i - 7] +
           (std::rotr(a, 7) ^ std::rotr(a, 18) ^ (a >> 3)) +
           (std::rotr(b, 17) ^ std::rotr(b, 19) ^ (b >> 10));
  }
  auto [a, b, c, d, e, f, g, h] = state;
  for (int i = 0; i < 64; ++i) {
    uint32_t t1 = h + (std::rotr(e, 6) ^ std::rotr(e, 11) ^ std::rotr(e, 25)) +
                  ((e & f) ^ (~e & g)) + constants[i] + w[i];
    uint32_t t2 = (std::rotr(a, 2) ^ std::rotr(a, 13) ^ std::rotr(a, 22)) +
                  ((a & b) ^ (a & c) ^ (b & c));
    h = g, g = f, f = e, e = d + t1, d = c, c = b, b = a, a = t1 + t2;
  }
  std::array<uint32_t, 8> round{a, b, c, d, e, f, g, h};
  for (int i = 0; i < 8; ++i)
    state[i] += round[i];
}

void Sha256::add(std::span<const std::byte> bytes) {
  size_t filled = length % 64;
  length += bytes.size();
  while (!bytes.empty()) {
    if (filled == 0 && bytes.size() >= 64) {
      block(bytes.data());
      bytes = bytes.subspan(64);
      continue;
    }
    size_t part = std::min<size_t>(64 - filled, bytes.size());
    std::memcpy(pending.data() + filled, bytes.data(), part);
    bytes = bytes.subspan(part);
    filled = (filled + part) % 64;
    if (filled == 0)
      block(pending.data());
  }
}

std::string Sha256::finish() {
  uint64_t bits = length * 8;
  std::array<std::byte, 72> tail{std::byte{0x80}};
  size_t zeros = (119 - length % 64) % 64;
  for (int i = 0; i < 8; ++i)
    tail[zeros + 1 + i] = static_cast<std::byte>(bits >> (56 - 8 * i));
  add(std::span<const std::byte>(tail).first(zeros + 9));
  std::string text;
  for (uint32_t word : state)
    for (int shift = 28; shift >= 0; shift -= 4)
      text += "0123456789abcdef"[word >> shift & 15];
  return text;
}
