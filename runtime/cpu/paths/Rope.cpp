//===- Rope.cpp - rotary position embedding -------------------------------===//
#include "../Math.h"
#include "Parallel.h"

namespace peft::cpu::PEFT_PATH {

Fault rope_table(const Call &call) {
  namespace op = kernels::rope_table;
  const int32_t *positions = call[op::positions].as<int32_t>();
  F32 *table = call[op::table].as<F32>();
  const std::span<const float> frequencies =
      call.attributes[op::inv_freq].reals;
  const float factor = static_cast<float>(call.real(op::attention_factor));
  const uint64_t half = frequencies.size();
  parallel(call, call[op::positions].elements(), 16,
           [=](uint64_t begin, uint64_t end) {
             for (uint64_t i = begin; i < end; ++i)
               for (uint64_t j = 0; j < half; ++j) {
                 // The angle is rounded to f32, as transformers' is.
                 float angle =
                     static_cast<float>(positions[i]) * frequencies[j];
                 SineCosine at = sineCosine(angle);
                 F32 *row = table + i * 2 * half;
                 storeOne(row + j, static_cast<float>(at.cosine) * factor);
                 storeOne(row + half + j, static_cast<float>(at.sine) * factor);
               }
           });
  return {};
}

namespace {

/// One head: the halves of its first 2 `half` elements turn, the rest stays.
template <typename C>
PEFT_INLINE void rotate(const C *x, const F32 *cosine, uint64_t half,
                        uint64_t size, float direction, C *y) {
  const F32 *sine = cosine + half;
  forLanes(0, half, [&](auto load, auto store) {
    Lanes a = load(x), b = load(x + half), c = load(cosine);
    Lanes s = load(sine) * broadcast(direction);
    store(y, fma(broadcast(0) - b, s, a * c));
    store(y + half, fma(a, s, b * c));
  });
  if (x != y && 2 * half < size)
    std::memcpy(y + 2 * half, x + 2 * half, (size - 2 * half) * sizeof(C));
}

template <typename C> void rotateAll(const Call &call) {
  namespace op = kernels::rope_fwd;
  const C *x = call[op::x].as<C>();
  const F32 *table = call[op::table].as<F32>();
  C *y = call[op::y].as<C>();
  const uint64_t columns = call[op::x].columns, width = call[op::table].columns;
  const uint64_t size = static_cast<uint64_t>(call.integer(op::head_dim));
  const float direction = call.integer(op::inverse) ? -1.0f : 1.0f;
  parallel(call, call[op::x].rows, rowGrain(columns),
           [=](uint64_t begin, uint64_t end) {
             for (uint64_t i = begin; i < end; ++i)
               for (uint64_t j = 0; j < columns; j += size)
                 rotate(x + i * columns + j, table + i * width, width / 2, size,
                        direction, y + i * columns + j);
           });
}

} // namespace

Fault rope_fwd(const Call &call) {
  withElement(call[kernels::rope_fwd::x].type,
              [&](auto c) { rotateAll<decltype(c)>(call); });
  return {};
}

} // namespace peft::cpu::PEFT_PATH
