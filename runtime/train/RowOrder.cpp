//===- RowOrder.cpp - which row of the data comes when --------------------===//
#include "RowOrder.h"

#include <numeric>
#include <utility>

using namespace peft;

namespace {
/// Steele, Lea and Flood's splitmix64: one 64-bit state, a full period.
class SplitMix {
public:
  explicit SplitMix(uint64_t state) : state(state) {}
  uint64_t next() {
    uint64_t z = state += 0x9E3779B97F4A7C15ull;
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9ull;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EBull;
    return z ^ (z >> 31);
  }
  /// Uniform in [0, bound), up to a bias of bound / 2^64.
  uint64_t below(uint64_t bound) {
    return static_cast<uint64_t>(
        (static_cast<unsigned __int128>(next()) * bound) >> 64);
  }

private:
  uint64_t state;
};
} // namespace

RowOrder::RowOrder(uint64_t rows, uint64_t seed, bool shuffle)
    : permutation(rows), seed(seed), shuffle(shuffle) {
  deal(0);
}

void RowOrder::deal(uint64_t newEpoch) {
  epoch = newEpoch;
  std::iota(permutation.begin(), permutation.end(), 0u);
  if (!shuffle)
    return;
  SplitMix random(SplitMix(seed).next() ^ epoch);
  for (uint64_t i = permutation.size(); i > 1; --i)
    std::swap(permutation[i - 1], permutation[random.below(i)]);
}

uint64_t RowOrder::at(uint64_t position) {
  uint64_t wanted = position / permutation.size();
  if (wanted != epoch)
    deal(wanted);
  return permutation[position % permutation.size()];
}
