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

/// gelu(x) = x sigma, sigma = 1 / (1 + exp(-2 u)); `x` is gate.
struct Gelu {
  Lanes sigma, square;

  PEFT_INLINE explicit Gelu(Lanes x) : square(x * x) {
    // 2 sqrt(2/pi) and its product with 0.044715.
    const Lanes inner = fma(square, broadcast(0x1.2444f2p-4f),
                            broadcast(0x1.988454p+0f));
    sigma = broadcast(1) / (broadcast(1) + exp(broadcast(0) - x * inner));
  }
  /// Of gelu at x.
  PEFT_INLINE Lanes slope(Lanes x) const {
    const Lanes inner = fma(square, broadcast(0x1.b6676cp-3f),
                            broadcast(0x1.988454p+0f));
    return fma(x * sigma * (broadcast(1) - sigma), inner, sigma);
  }
};

template <typename C> void gegluForward(const Call &call) {
  namespace op = kernels::geglu_fwd;
  const C *gate = call[op::gate].as<C>(), *up = call[op::up].as<C>();
  C *y = call[op::y].as<C>();
  parallelElements(call, call[op::y].elements(),
                   [=](uint64_t begin, uint64_t end) {
                     forLanes(begin, end, [&](auto load, auto store) {
                       Lanes g = load(gate);
                       store(y, g * Gelu(g).sigma * load(up));
                     });
                   });
}

template <typename C> void gegluBackward(const Call &call) {
  namespace op = kernels::geglu_bwd;
  const C *dy = call[op::dy].as<C>(), *gate = call[op::gate].as<C>(),
          *up = call[op::up].as<C>();
  C *dgate = call[op::dgate].as<C>(), *dup = call[op::dup].as<C>();
  parallelElements(
      call, call[op::dy].elements(), [=](uint64_t begin, uint64_t end) {
        forLanes(begin, end, [&](auto load, auto store) {
          Lanes g = load(gate), d = load(dy), u = load(up);
          const Gelu gelu(g);
          store(dup, d * (g * gelu.sigma));
          store(dgate, d * u * gelu.slope(g));
        });
      });
}

void capForward(const Call &call) {
  namespace op = kernels::softcap_fwd;
  const F32 *x = call[op::x].as<F32>();
  F32 *y = call[op::y].as<F32>();
  const Lanes cap = broadcast(static_cast<float>(call.real(op::cap)));
  const uint64_t rows = limitedRows(call[op::x].rows, call[op::count],
                                    call.integer(op::row_start));
  parallelElements(call, rows * call[op::x].columns,
                   [=](uint64_t begin, uint64_t end) {
                     forLanes(begin, end, [&](auto load, auto store) {
                       store(y, cap * tanh(load(x) / cap));
                     });
                   });
}

template <typename DY, typename DX> void capBackward(const Call &call) {
  namespace op = kernels::softcap_bwd;
  const DY *dy = call[op::dy].as<DY>();
  const F32 *y = call[op::y].as<F32>();
  DX *dx = call[op::dx].as<DX>();
  const Lanes cap = broadcast(static_cast<float>(call.real(op::cap)));
  const uint64_t rows = limitedRows(call[op::y].rows, call[op::count],
                                    call.integer(op::row_start));
  parallelElements(call, rows * call[op::y].columns,
                   [=](uint64_t begin, uint64_t end) {
                     forLanes(begin, end, [&](auto load, auto store) {
                       const Lanes t = load(y) / cap;
                       store(dx, load(dy) * fma(broadcast(0) - t, t,
                                                broadcast(1)));
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

Fault geglu_fwd(const Call &call) {
  withElement(call[kernels::geglu_fwd::y].type,
              [&](auto c) { gegluForward<decltype(c)>(call); });
  return {};
}

Fault geglu_bwd(const Call &call) {
  withElement(call[kernels::geglu_bwd::dy].type,
              [&](auto c) { gegluBackward<decltype(c)>(call); });
  return {};
}

Fault softcap_fwd(const Call &call) {
  capForward(call);
  return {};
}

Fault softcap_bwd(const Call &call) {
  namespace op = kernels::softcap_bwd;
  const DType from = call[op::dy].type, to = call[op::dx].type;
  withHalf({from, to}, [&](auto half) {
    withFloat(from, half, [&](auto dy) {
      withFloat(to, half, [&](auto dx) {
        capBackward<decltype(dy), decltype(dx)>(call);
      });
    });
  });
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
