//===- Elementwise.cpp - kernels without sums -----------------------------===//
#include "../Math.h"
#include "Parallel.h"

namespace peft::cpu::PEFT_PATH {

namespace {

/// silu(x) = x sigma, sigma = 1 / (1 + exp(-x)).
struct Silu {
  Lanes sigma;

  PEFT_INLINE explicit Silu(Lanes x)
      : sigma(broadcast(1) / (broadcast(1) + exp(broadcast(0) - x))) {}
  PEFT_INLINE Lanes slope(Lanes x) const {
    return fma(x * sigma, broadcast(1) - sigma, sigma);
  }
  /// The forward pass divides once.
  PEFT_INLINE static Lanes value(Lanes x) {
    return x / (broadcast(1) + exp(broadcast(0) - x));
  }
};

/// gelu(x) = x sigma, sigma = 1 / (1 + exp(-2 u)), u as tanh has it.
struct Gelu {
  Lanes sigma, square;

  PEFT_INLINE explicit Gelu(Lanes x) : square(x * x) {
    // 2 sqrt(2/pi) and its product with 0.044715.
    const Lanes inner = fma(square, broadcast(0x1.2444f2p-4f),
                            broadcast(0x1.988454p+0f));
    sigma = broadcast(1) / (broadcast(1) + exp(broadcast(0) - x * inner));
  }
  PEFT_INLINE Lanes slope(Lanes x) const {
    const Lanes inner = fma(square, broadcast(0x1.b6676cp-3f),
                            broadcast(0x1.988454p+0f));
    return fma(x * sigma * (broadcast(1) - sigma), inner, sigma);
  }
  PEFT_INLINE static Lanes value(Lanes x) { return x * Gelu(x).sigma; }
};

/// y = activation(gate) up.
template <typename Activation>
void gateForward(const Call &call, const Operand &gates, const Operand &ups,
                 const Operand &out) {
  withElement(out.type, [&](auto type) {
    using C = decltype(type);
    const C *gate = gates.as<C>(), *up = ups.as<C>();
    C *y = out.as<C>();
    parallelElements(call, out.elements(), [=](uint64_t begin, uint64_t end) {
      forLanes(begin, end, [&](auto load, auto store) {
        store(y, Activation::value(load(gate)) * load(up));
      });
    });
  });
}

struct GateOperands {
  const Operand &dy, &gate, &up, &dgate, &dup;
};

template <typename Activation>
void gateBackward(const Call &call, const GateOperands &of) {
  withElement(of.dy.type, [&](auto type) {
    using C = decltype(type);
    const C *dy = of.dy.as<C>(), *gate = of.gate.as<C>(), *up = of.up.as<C>();
    C *dgate = of.dgate.as<C>(), *dup = of.dup.as<C>();
    parallelElements(call, of.dy.elements(), [=](uint64_t begin, uint64_t end) {
      forLanes(begin, end, [&](auto load, auto store) {
        Lanes g = load(gate), d = load(dy), u = load(up);
        const Activation activation(g);
        store(dup, d * (g * activation.sigma));
        store(dgate, d * u * activation.slope(g));
      });
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
  namespace op = kernels::swiglu_fwd;
  gateForward<Silu>(call, call[op::gate], call[op::up], call[op::y]);
  return {};
}

Fault swiglu_bwd(const Call &call) {
  namespace op = kernels::swiglu_bwd;
  gateBackward<Silu>(call, {call[op::dy], call[op::gate], call[op::up],
                           call[op::dgate], call[op::dup]});
  return {};
}

Fault geglu_fwd(const Call &call) {
  namespace op = kernels::geglu_fwd;
  gateForward<Gelu>(call, call[op::gate], call[op::up], call[op::y]);
  return {};
}

Fault geglu_bwd(const Call &call) {
  namespace op = kernels::geglu_bwd;
  gateBackward<Gelu>(call, {call[op::dy], call[op::gate], call[op::up],
                           call[op::dgate], call[op::dup]});
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
