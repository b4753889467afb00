//===- Elementwise.cpp - kernels without sums -----------------------------===//
#include "../Math.h"
#include "Parallel.h"

namespace peft::cpu::PEFT_PATH {

namespace {

template <typename C> void swigluForward(const Call &call) {
  namespace op = kernels::swiglu_fwd;
  const C *gate = call[op::gate].as<C>(), *up = call[op::up].as<C>();
  C *y = call[op::y].as<C>();
  parallelElements(call, call[op::y].elements(),
                   [=](uint64_t begin, uint64_t end) {
                     Lanes one = broadcast(1), zero = broadcast(0);
                     forLanes(begin, end, [&](auto load, auto store) {
                       Lanes g = load(gate);
                       store(y, g / (one + exp(zero - g)) * load(up));
                     });
                   });
}

template <typename C> void swigluBackward(const Call &call) {
  namespace op = kernels::swiglu_bwd;
  const C *dy = call[op::dy].as<C>(), *gate = call[op::gate].as<C>(),
          *up = call[op::up].as<C>();
  C *dgate = call[op::dgate].as<C>(), *dup = call[op::dup].as<C>();
  parallelElements(
      call, call[op::dy].elements(), [=](uint64_t begin, uint64_t end) {
        Lanes one = broadcast(1), zero = broadcast(0);
        forLanes(begin, end, [&](auto load, auto store) {
          Lanes g = load(gate), d = load(dy), u = load(up);
          Lanes sigmoid = one / (one + exp(zero - g)), silu = g * sigmoid;
          store(dup, d * silu);
          store(dgate, d * u * fma(silu, one - sigmoid, sigmoid));
        });
      });
}

template <typename A, typename B, typename Y> void add(const Call &call) {
  namespace op = kernels::add_fwd;
  const A *a = call[op::a].as<A>();
  const B *b = call[op::b].as<B>();
  Y *y = call[op::y].as<Y>();
  parallelElements(
      call, call[op::y].elements(), [=](uint64_t begin, uint64_t end) {
        forLanes(begin, end,
                 [&](auto load, auto store) { store(y, load(a) + load(b)); });
      });
}

template <typename X, typename Y> void convert(const Call &call) {
  namespace op = kernels::cast;
  const X *x = call[op::x].as<X>();
  Y *y = call[op::y].as<Y>();
  parallelElements(
      call, call[op::y].elements(), [=](uint64_t begin, uint64_t end) {
        forLanes(begin, end, [&](auto load, auto store) { store(y, load(x)); });
      });
}

} // namespace

Fault swiglu_fwd(const Call &call) {
  withElement(call[kernels::swiglu_fwd::y].type,
              [&](auto c) { swigluForward<decltype(c)>(call); });
  return {};
}

Fault swiglu_bwd(const Call &call) {
  withElement(call[kernels::swiglu_bwd::dy].type,
              [&](auto c) { swigluBackward<decltype(c)>(call); });
  return {};
}

Fault add_fwd(const Call &call) {
  namespace op = kernels::add_fwd;
  const DType types[] = {call[op::a].type, call[op::b].type, call[op::y].type};
  withHalf({types[0], types[1], types[2]}, [&](auto half) {
    withFloat(types[0], half, [&](auto a) {
      withFloat(types[1], half, [&](auto b) {
        withFloat(types[2], half, [&](auto y) {
          add<decltype(a), decltype(b), decltype(y)>(call);
        });
      });
    });
  });
  return {};
}

Fault cast(const Call &call) {
  namespace op = kernels::cast;
  withElement(call[op::x].type, [&](auto x) {
    withElement(call[op::y].type,
                [&](auto y) { convert<decltype(x), decltype(y)>(call); });
  });
  return {};
}

Fault fill_zero(const Call &call) {
  const Operand &y = call[kernels::fill_zero::y];
  // All types of zero are zero bytes.
  parallel(call, y.elements() * byteSize(y.type), 1 << 18,
           [&](uint64_t begin, uint64_t end) {
             std::memset(y.data + begin, 0, end - begin);
           });
  return {};
}

Fault accumulate(const Call &call) {
  namespace op = kernels::accumulate;
  const F32 *x = call[op::x].as<F32>();
  F32 *y = call[op::y].as<F32>();
  parallelElements(
      call, call[op::y].elements(), [=](uint64_t begin, uint64_t end) {
        forLanes(begin, end,
                 [&](auto load, auto store) { store(y, load(y) + load(x)); });
      });
  return {};
}

} // namespace peft::cpu::PEFT_PATH
