//===- Dora.cpp - norms, scales and their gradients, dropout alone --------===//
#include "../Dropout.h"
#include "Parallel.h"

#include <cmath>

namespace peft::cpu::PEFT_PATH {

namespace {

/// The weights of dora_norm: rows of w, and what the adapter adds to them.
template <typename W> struct AdaptedWeight {
  const W *w;
  const F32 *a, *b;
  uint64_t columns, rank;
  float scale;

  /// The norms of `count` rows from `row` on. Every element is one chain over
  /// the rank, every norm sixteen chains over the columns and the tree.
  template <unsigned count> void norms(uint64_t row, F32 *norm) const {
    Lanes squares[count];
    for (unsigned i = 0; i < count; ++i)
      squares[i] = broadcast(0);
    forLanes(0, columns, [&](auto load, auto) {
      Lanes added[count];
      for (unsigned i = 0; i < count; ++i)
        added[i] = broadcast(0);
      for (uint64_t k = 0; k < rank; ++k) {
        const Lanes factor = load(a + k * columns);
        for (unsigned i = 0; i < count; ++i)
          added[i] = fma(broadcast(loadOne(b + (row + i) * rank + k)), factor,
                         added[i]);
      }
      for (unsigned i = 0; i < count; ++i) {
        const Lanes value =
            fma(broadcast(scale), added[i], load(w + (row + i) * columns));
        squares[i] = fma(value, value, squares[i]);
      }
    });
    for (unsigned i = 0; i < count; ++i)
      storeOne(norm + row + i, std::sqrt(sum(squares[i])));
  }
};

template <typename W> void norms(const Call &call) {
  namespace op = kernels::dora_norm;
  const AdaptedWeight<W> weight = {
      call[op::w].as<W>(),     call[op::a].as<F32>(),
      call[op::b].as<F32>(),   call[op::w].columns,
      call[op::a].rows,        static_cast<float>(call.real(op::scale))};
  F32 *norm = call[op::norm].as<F32>();
  constexpr unsigned together = 4; // rows that share a load of A
  parallel(call, call[op::w].rows, 16, [=](uint64_t begin, uint64_t end) {
    uint64_t row = begin;
    for (; row + together <= end; row += together)
      weight.template norms<together>(row, norm);
    for (; row < end; ++row)
      weight.template norms<1>(row, norm);
  });
}

/// magnitude / norm, and 0 where the norm is: such a row has no direction.
PEFT_INLINE Lanes gainOf(Lanes magnitude, Lanes norm) {
  const Lanes zero = broadcast(0);
  return select(less(zero, norm), magnitude / norm, zero);
}

template <typename X, typename B, typename Y>
void scaleColumns(const Call &call, uint64_t rows) {
  namespace op = kernels::dora_scale;
  const X *x = call[op::x].as<X>();
  const F32 *magnitude = call[op::magnitude].as<F32>();
  const F32 *norm = call[op::norm].as<F32>(), *init = call[op::init].as<F32>();
  const B *bias = call[op::bias].as<B>();
  Y *y = call[op::y].as<Y>();
  const uint64_t columns = call[op::x].columns;
  const float less = static_cast<float>(call.integer(op::less));
  parallel(call, rows, rowGrain(columns), [=](uint64_t begin, uint64_t end) {
    for (uint64_t i = begin; i < end; ++i) {
      const uint64_t at = i * columns;
      forLanes(0, columns, [&](auto load, auto store) {
        Lanes start = init ? load(init + at) : broadcast(0);
        if (bias)
          start = start + load(bias);
        const Lanes gain = gainOf(load(magnitude), load(norm)) - broadcast(less);
        store(y + at, fma(gain, load(x + at), start));
      });
    }
  });
}

template <typename C> void magnitudeGradient(const Call &call, uint64_t rows) {
  namespace op = kernels::dora_dw;
  const C *dy = call[op::dy].as<C>(), *x = call[op::x].as<C>();
  const F32 *norm = call[op::norm].as<F32>();
  F32 *sums = call[op::dmagnitude].as<F32>();
  const uint64_t columns = call[op::dy].columns;
  // Columns are split, never rows: each sum is one chain over all rows.
  parallel(call, (columns + laneCount - 1) / laneCount, 4,
           [=](uint64_t begin, uint64_t end) {
             const uint64_t first = begin * laneCount;
             const uint64_t last =
                 end * laneCount < columns ? end * laneCount : columns;
             forLanes(first, last, [&](auto load, auto store) {
               const Lanes inverse = gainOf(broadcast(1), load(norm));
               Lanes sum = load(sums);
               for (uint64_t i = 0; i < rows; ++i)
                 sum = fma(load(dy + i * columns),
                           load(x + i * columns) * inverse, sum);
               store(sums, sum);
             });
           });
}

template <typename X, typename Y>
void dropRows(const Call &call, const Dropout &dropout, uint64_t rows) {
  namespace op = kernels::dropout_fwd;
  const X *x = call[op::x].as<X>();
  const F32 *init = call[op::init].as<F32>();
  Y *y = call[op::y].as<Y>();
  const uint64_t columns = call[op::x].columns;
  const bool complement = call.integer(op::complement) != 0;
  parallel(call, rows, rowGrain(columns), [=](uint64_t begin, uint64_t end) {
    const Lanes scale = broadcast(dropout.scale), zero = broadcast(0);
    for (uint64_t i = begin; i < end; ++i) {
      const uint64_t at = i * columns;
      const auto [token, row] = dropout.position(i);
      uint64_t keep = 0, feature = 0; // `keep` has 64 features
      forLanes(0, columns, [&](auto load, auto store) {
        if (feature % 64 == 0)
          keep = dropoutKeep(dropout.key, static_cast<uint32_t>(feature / 64),
                             token, row, dropout.threshold);
        const Mask kept =
            maskOfBits(static_cast<uint16_t>(keep >> feature % 64));
        feature += laneCount;
        const Lanes value = load(x + at);
        Lanes result = select(kept, value * scale, zero);
        if (complement)
          result = value - result;
        else if (init)
          result = load(init + at) + result;
        store(y + at, result);
      });
    }
  });
}

} // namespace

Fault dora_norm(const Call &call) {
  withElement(call[kernels::dora_norm::w].type,
              [&](auto w) { norms<decltype(w)>(call); });
  return {};
}

Fault dora_scale(const Call &call) {
  namespace op = kernels::dora_scale;
  const DType from = call[op::x].type, to = call[op::y].type;
  const uint64_t rows = limitedRows(call[op::x].rows, call[op::count],
                                    call.integer(op::row_start));
  withHalf({from, to}, [&](auto half) {
    withFloat(from, half, [&](auto x) {
      withElement(call[op::bias].type, [&](auto bias) {
        withFloat(to, half, [&](auto y) {
          scaleColumns<decltype(x), decltype(bias), decltype(y)>(call, rows);
        });
      });
    });
  });
  return {};
}

Fault dora_dw(const Call &call) {
  namespace op = kernels::dora_dw;
  const uint64_t rows = limitedRows(call[op::dy].rows, call[op::count],
                                    call.integer(op::row_start));
  withElement(call[op::dy].type,
              [&](auto c) { magnitudeGradient<decltype(c)>(call, rows); });
  return {};
}

Fault dropout_fwd(const Call &call) {
  namespace op = kernels::dropout_fwd;
  const Dropout dropout =
      readDropout(call, {op::index, op::seed, op::step, op::first_row,
                         op::row_start, op::dropout, op::module_key, op::seq});
  const uint64_t rows = limitedRows(call[op::x].rows, call[op::count],
                                    call.integer(op::row_start));
  const uint64_t last = dropout.rowStart + rows;
  if (dropout.index && last > dropout.index.columns)
    return {"the launch has more rows than its index",
            static_cast<int64_t>(last),
            static_cast<int64_t>(dropout.index.columns)};
  const DType from = call[op::x].type, to = call[op::y].type;
  withHalf({from, to}, [&](auto half) {
    withFloat(from, half, [&](auto x) {
      withFloat(to, half, [&](auto y) {
        dropRows<decltype(x), decltype(y)>(call, dropout, rows);
      });
    });
  });
  return {};
}

} // namespace peft::cpu::PEFT_PATH
