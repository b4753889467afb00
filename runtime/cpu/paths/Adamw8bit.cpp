//===- Adamw8bit.cpp - AdamW with moments in 8 bits -----------------------===//
#include "../MomentCodes.h"
#include "Parallel.h"

#include "peft/DynamicMap.h"

#include <cmath>

namespace peft::cpu::PEFT_PATH {

namespace {

/// One moment of all blocks: codes and the magnitude of each block.
struct Moment {
  uint8_t *codes;
  F32 *scales;
  const float *map;
  const uint8_t *codeOf; ///< by point

  void decode(uint64_t block, uint64_t count, F32 *values) const {
    const float scale = loadOne(scales + block);
    const uint8_t *from = codes + block * momentBlock;
    for (uint64_t i = 0; i < count; ++i)
      storeOne(values + i, map[from[i]] * scale);
  }

  /// Of `values`; a block of zeros has code 0 and magnitude 0.
  void encode(uint64_t block, uint64_t count, const F32 *values) const {
    const Lanes zero = broadcast(0);
    Lanes most = zero;
    forLanes(0, count, [&](auto load, auto) {
      const Lanes value = load(values);
      most = maximum(maximum(value, zero - value), most);
    });
    const float scale = largest(most);
    const bool any = scale > 0;
    const float inverse = any ? 1.0f / scale : 0;
    storeOne(scales + block, any ? scale : 0);
    uint8_t *to = codes + block * momentBlock;
    for (uint64_t i = 0; i < count; ++i)
      to[i] = any ? codeOf[momentPoint(loadOne(values + i) * inverse)] : 0;
  }
};

} // namespace

Fault adamw8bit(const Call &call) {
  namespace op = kernels::adamw8bit;
  F32 *parameter = call[op::parameter].as<F32>();
  const F32 *gradient = call[op::gradient].as<F32>();
  const Moment first = {call[op::first_moment].as<uint8_t>(),
                        call[op::first_scale].as<F32>(), firstMomentMap.data(),
                        firstMomentCodes};
  const Moment second = {call[op::second_moment].as<uint8_t>(),
                         call[op::second_scale].as<F32>(),
                         secondMomentMap.data(), secondMomentCodes};
  const double *adam = call[op::adam].as<double>();
  const double rate = adam[1] * call.real(op::rate_factor);
  // Scalars in f64, rounded once; then the order of bitsandbytes.
  auto rounded = [](double x) { return broadcast(static_cast<float>(x)); };
  const Lanes scale = rounded(adam[0]);
  const Lanes shrink =
      rounded(call.integer(op::decay) ? 1 - rate * adam[5] : 1.0);
  const Lanes oldFirst = rounded(adam[2]), newFirst = rounded(1 - adam[2]),
              oldSecond = rounded(adam[3]), newSecond = rounded(1 - adam[3]);
  const Lanes correction = rounded(std::sqrt(adam[7])),
              epsilon = rounded(adam[4]), minusStep = rounded(-rate / adam[6]);
  const uint64_t elements = call[op::parameter].elements();
  parallel(
      call, call[op::first_scale].elements(), 16,
      [=](uint64_t begin, uint64_t end) {
        F32 firsts[momentBlock], seconds[momentBlock];
        for (uint64_t block = begin; block < end; ++block) {
          const uint64_t start = block * momentBlock, left = elements - start;
          const uint64_t count = left < momentBlock ? left : momentBlock;
          first.decode(block, count, firsts);
          second.decode(block, count, seconds);
          F32 *to = parameter + start;
          const F32 *from = gradient + start;
          forLanes(0, count, [&](auto load, auto store) {
            const Lanes g = load(from) * scale;
            const Lanes m = fma(newFirst, g, load(static_cast<F32 *>(firsts)) *
                                                 oldFirst);
            const Lanes v =
                fma(newSecond * g, g,
                    load(static_cast<F32 *>(seconds)) * oldSecond);
            const Lanes denominator = squareRoot(v) / correction + epsilon;
            store(to, load(to) * shrink + minusStep * m / denominator);
            store(static_cast<F32 *>(firsts), m);
            store(static_cast<F32 *>(seconds), v);
          });
          first.encode(block, count, firsts);
          second.encode(block, count, seconds);
        }
      });
  return {};
}

} // namespace peft::cpu::PEFT_PATH
