//===- Norm.cpp - RMS norm and its gradients ------------------------------===//
//
// A group is `g` consecutive elements of a row (the whole row, or one head for
// the q and k norms), so an [m, k] operand is a list of m k / g groups. Weights
// are used as they are stored.
//
//===----------------------------------------------------------------------===//
#include "Parallel.h"

#include <cmath>

namespace peft::cpu::PEFT_PATH {

namespace {

/// What is added to each weight. Minus zero changes no number, not even a zero.
PEFT_INLINE Lanes offsetOf(double offset) {
  return broadcast(offset == 0 ? -0.0f : static_cast<float>(offset));
}

template <typename X, typename W, typename Y> void forward(const Call &call) {
  namespace op = kernels::rms_norm_fwd;
  const X *x = call[op::x].as<X>();
  const W *weight = call[op::weight].as<W>();
  Y *y = call[op::y].as<Y>();
  const F32 *init = call[op::init].as<F32>();
  F32 *rstd = call[op::rstd].as<F32>();
  const uint64_t width = call[op::weight].elements();
  const Lanes offset = offsetOf(call.real(op::weight_offset));
  const float epsilon = static_cast<float>(call.real(op::epsilon));
  parallel(call, call[op::rstd].elements(), rowGrain(width),
           [=](uint64_t begin, uint64_t end) {
             for (uint64_t i = begin; i < end; ++i) {
               const X *from = x + i * width;
               Y *to = y + i * width;
               Lanes squares = broadcast(0);
               forLanes(0, width, [&](auto load, auto) {
                 Lanes v = load(from);
                 squares = fma(v, v, squares);
               });
               float mean = sum(squares) / static_cast<float>(width);
               float factor = 1.0f / std::sqrt(mean + epsilon);
               storeOne(rstd + i, factor);
               forLanes(0, width, [&](auto load, auto store) {
                 const Lanes value = load(from) * broadcast(factor) *
                                     (load(weight) + offset);
                 store(to, init ? load(init + i * width) + value : value);
               });
             }
           });
}

template <typename DY, typename X, typename W, typename DX>
void inputGradient(const Call &call) {
  namespace op = kernels::rms_norm_dx;
  const DY *dy = call[op::dy].as<DY>();
  const X *x = call[op::x].as<X>();
  const W *weight = call[op::weight].as<W>();
  const F32 *rstd = call[op::rstd].as<F32>(), *init = call[op::init].as<F32>();
  DX *dx = call[op::dx].as<DX>();
  const uint64_t width = call[op::weight].elements();
  const Lanes offset = offsetOf(call.real(op::weight_offset));
  parallel(call, call[op::rstd].elements(), rowGrain(width),
           [=](uint64_t begin, uint64_t end) {
             for (uint64_t i = begin; i < end; ++i) {
               const uint64_t at = i * width;
               Lanes products = broadcast(0);
               forLanes(0, width, [&](auto load, auto) {
                 products = fma((load(weight) + offset) * load(dy + at),
                                load(x + at), products);
               });
               const float factor = loadOne(rstd + i);
               const Lanes scale = broadcast(factor);
               const Lanes minusMean =
                   broadcast(-(factor * factor * sum(products) /
                               static_cast<float>(width)));
               forLanes(0, width, [&](auto load, auto store) {
                 Lanes direct = (load(weight) + offset) * load(dy + at);
                 Lanes inner = fma(minusMean, load(x + at), direct);
                 store(dx + at, init ? fma(scale, inner, load(init + at))
                                     : scale * inner);
               });
             }
           });
}

template <typename DY, typename X> void weightGradient(const Call &call) {
  namespace op = kernels::rms_norm_dw;
  const DY *dy = call[op::dy].as<DY>();
  const X *x = call[op::x].as<X>();
  const F32 *rstd = call[op::rstd].as<F32>();
  F32 *dweight = call[op::dweight].as<F32>();
  const uint64_t width = call[op::dweight].elements();
  const uint64_t groups = call[op::rstd].elements();
  // Columns are split, never rows: each sum is one chain over all groups.
  parallel(call, (width + laneCount - 1) / laneCount, 4,
           [=](uint64_t begin, uint64_t end) {
             const uint64_t first = begin * laneCount;
             const uint64_t last =
                 end * laneCount < width ? end * laneCount : width;
             for (uint64_t i = 0; i < groups; ++i) {
               const Lanes scale = broadcast(loadOne(rstd + i));
               const uint64_t at = i * width;
               forLanes(first, last, [&](auto load, auto store) {
                 store(dweight,
                       fma(load(dy + at), load(x + at) * scale, load(dweight)));
               });
             }
           });
}

} // namespace

Fault rms_norm_fwd(const Call &call) {
  namespace op = kernels::rms_norm_fwd;
  const DType from = call[op::x].type, to = call[op::y].type;
  withHalf({from, to}, [&](auto half) {
    withFloat(from, half, [&](auto x) {
      withElement(call[op::weight].type, [&](auto w) {
        withFloat(to, half, [&](auto y) {
          forward<decltype(x), decltype(w), decltype(y)>(call);
        });
      });
    });
  });
  return {};
}

Fault rms_norm_dx(const Call &call) {
  namespace op = kernels::rms_norm_dx;
  const DType types[] = {call[op::dy].type, call[op::x].type,
                         call[op::dx].type};
  withHalf({types[0], types[1], types[2]}, [&](auto half) {
    withFloat(types[0], half, [&](auto dy) {
      withFloat(types[1], half, [&](auto x) {
        withElement(call[op::weight].type, [&](auto w) {
          withFloat(types[2], half, [&](auto dx) {
            inputGradient<decltype(dy), decltype(x), decltype(w), decltype(dx)>(
                call);
          });
        });
      });
    });
  });
  return {};
}

Fault rms_norm_dw(const Call &call) {
  namespace op = kernels::rms_norm_dw;
  const DType gradient = call[op::dy].type, input = call[op::x].type;
  withHalf({gradient, input}, [&](auto half) {
    withFloat(gradient, half, [&](auto dy) {
      withFloat(input, half, [&](auto x) {
        weightGradient<decltype(dy), decltype(x)>(call);
      });
    });
  });
  return {};
}

} // namespace peft::cpu::PEFT_PATH
