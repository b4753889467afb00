//===- DynamicMap.h - 8-bit codes of moments and of scales ------*- C++ -*-===//
//
// Dettmers et al., "8-bit Optimizers via Block-wise Quantization", 2022, with
// the numbers of bitsandbytes: a moment is map[code] times the largest
// magnitude of its block of 256 elements, counted from the start of the tensor.
// A map has seven decades, each twice as finely divided as the one below; the
// first moment's is signed, the second's is not. The signed one is also the map
// of the scales of a weight whose scales are quantized (double quantization).
//
// Encoding is that of bitsandbytes on the CPU, which the tests compare with:
// the quotient by the block's magnitude goes to one of 65,536 points in [-1, 1]
// and takes the code nearest to that point, the smaller one of two.
//
//===----------------------------------------------------------------------===//
#ifndef PEFT_DYNAMICMAP_H
#define PEFT_DYNAMICMAP_H

#include <algorithm>
#include <array>
#include <cstdint>

namespace peft {

/// Elements that share a magnitude.
constexpr uint64_t momentBlock = 256;
/// A tensor with fewer elements keeps moments in f32.
constexpr uint64_t leastCodedElements = 4096;

using DynamicMap = std::array<float, 256>; ///< ascending

namespace dynamic_map {

/// Number `i` of `count` values from 0.1 to 1, as torch.linspace rounds them:
/// once, counted from the nearer end.
constexpr float between(int i, int count) {
  const double step = (1.0f - 0.1f) / static_cast<float>(count - 1);
  const double value = i < count / 2 ? double(0.1f) + step * i
                                     : 1.0 - step * (count - 1 - i);
  return static_cast<float>(value);
}

constexpr DynamicMap make(bool isSigned) {
  // Powers of ten in f32, as a double would be rounded.
  constexpr float decades[] = {1e-6f, 1e-5f, 1e-4f, 1e-3f, 1e-2f, 1e-1f, 1e0f};
  DynamicMap map = {};
  unsigned filled = 0;
  for (int i = 0; i < 7; ++i) {
    const int count = (isSigned ? 1 << i : 2 << i) + 1;
    for (int j = 0; j + 1 < count; ++j) {
      const float mean = (between(j, count) + between(j + 1, count)) / 2.0f;
      map[filled++] = decades[i] * mean;
      if (isSigned)
        map[filled++] = -(decades[i] * mean);
    }
  }
  map[filled++] = 0;
  map[filled++] = 1;
  std::sort(map.begin(), map.end());
  return map;
}

} // namespace dynamic_map

constexpr DynamicMap firstMomentMap = dynamic_map::make(true);
constexpr DynamicMap secondMomentMap = dynamic_map::make(false);

/// The number of the point that stands for `quotient` in [-1, 1].
constexpr uint32_t momentPoint(float quotient) {
  return static_cast<uint32_t>((quotient + 1.0f) * 32767.5f + 0.5f);
}
/// Where point `i` lies.
constexpr float momentPlace(uint32_t i) {
  return static_cast<float>(i) * (2.0f / 65535.0f) - 1.0f;
}

} // namespace peft

#endif // PEFT_DYNAMICMAP_H
