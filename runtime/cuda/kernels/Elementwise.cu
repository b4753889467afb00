//===- Elementwise.cu - kernels without sums ------------------------------===//
#include "cuda/Kernels.h"
#include "cuda/Numbers.h"

namespace peft::cuda {

namespace {

/// Operation::at<n>(i) computes elements [i, i + n).
template <typename Operation>
__global__ void everyElement(Gate gate, uint64_t elements,
                             Operation operation) {
  if (closed(gate))
    return;
  const uint64_t thread = uint64_t(blockIdx.x) * blockDim.x + threadIdx.x;
  uint64_t i = thread * packSize;
  if (i + packSize <= elements) {
    operation.template at<packSize>(i);
    return;
  }
  for (; i < elements; ++i)
    operation.template at<1>(i);
}

template <typename Operation>
Status launchElements(const Call &call, uint64_t elements,
                      Operation operation) {
  const uint64_t perBlock = blockThreads * packSize;
  const Grid grid{
      .x = static_cast<unsigned>((elements + perBlock - 1) / perBlock),
      .threads = blockThreads};
  return launch(call, grid, everyElement<Operation>, elements, operation);
}

/// silu(x) = x sigma, sigma = 1 / (1 + exp(-x)).
struct Silu {
  float sigma;

  __device__ explicit Silu(float x) : sigma(1.0f / (1.0f + expf(-x))) {}
  __device__ float slope(float x) const {
    return fmaf(x * sigma, 1.0f - sigma, sigma);
  }
  /// The forward pass divides once.
  __device__ static float value(float x) { return x / (1.0f + expf(-x)); }
};

/// gelu(x) = x sigma, sigma = 1 / (1 + exp(-2 u)), u as tanh has it.
struct Gelu {
  // 2 sqrt(2/pi), its product with 0.044715, and three times that.
  static constexpr float linear = 1.59576912f, cubic = 0.0713548163f,
                         slopeCubic = 0.214064449f;
  float sigma;

  __device__ explicit Gelu(float x)
      : sigma(1.0f / (1.0f + expf(-x * fmaf(x * x, cubic, linear)))) {}
  __device__ float slope(float x) const {
    return fmaf(x * sigma * (1.0f - sigma), fmaf(x * x, slopeCubic, linear),
                sigma);
  }
  __device__ static float value(float x) { return x * Gelu(x).sigma; }
};

/// y = activation(gate) up.
template <typename Activation> struct GateForward {
  FloatsIn gate, up;
  FloatsOut y;

  template <unsigned n> __device__ void at(uint64_t i) const {
    float g[n], u[n], result[n];
    gate.load(i, g);
    up.load(i, u);
    for (unsigned j = 0; j < n; ++j)
      result[j] = Activation::value(g[j]) * u[j];
    y.store(i, result);
  }
};

template <typename Activation> struct GateBackward {
  FloatsIn dy, gate, up;
  FloatsOut dgate, dup;

  template <unsigned n> __device__ void at(uint64_t i) const {
    float d[n], g[n], u[n], ofGate[n], ofUp[n];
    dy.load(i, d);
    gate.load(i, g);
    up.load(i, u);
    for (unsigned j = 0; j < n; ++j) {
      const Activation activation(g[j]);
      ofUp[j] = d[j] * (g[j] * activation.sigma);
      ofGate[j] = d[j] * u[j] * activation.slope(g[j]);
    }
    dup.store(i, ofUp);
    dgate.store(i, ofGate);
  }
};

struct Add {
  FloatsIn a, b;
  FloatsOut y;

  template <unsigned n> __device__ void at(uint64_t i) const {
    float left[n], right[n];
    a.load(i, left);
    b.load(i, right);
    for (unsigned j = 0; j < n; ++j)
      left[j] += right[j];
    y.store(i, left);
  }
};

struct Convert {
  FloatsIn x;
  FloatsOut y;

  template <unsigned n> __device__ void at(uint64_t i) const {
    float value[n];
    x.load(i, value);
    y.store(i, value);
  }
};

/// All types of zero are zero bytes.
struct FillZero {
  uint16_t *y;

  template <unsigned n> __device__ void at(uint64_t i) const {
    packAt<n>(y + i) = {};
  }
};

} // namespace

Status swiglu_fwd(const Call &call) {
  namespace op = kernels::swiglu_fwd;
  return launchElements(call, call[op::y].elements(),
                        GateForward<Silu>{FloatsIn(call[op::gate]),
                                          FloatsIn(call[op::up]),
                                          FloatsOut(call[op::y])});
}

Status swiglu_bwd(const Call &call) {
  namespace op = kernels::swiglu_bwd;
  return launchElements(
      call, call[op::dy].elements(),
      GateBackward<Silu>{FloatsIn(call[op::dy]), FloatsIn(call[op::gate]),
                         FloatsIn(call[op::up]), FloatsOut(call[op::dgate]),
                         FloatsOut(call[op::dup])});
}

Status geglu_fwd(const Call &call) {
  namespace op = kernels::geglu_fwd;
  return launchElements(call, call[op::y].elements(),
                        GateForward<Gelu>{FloatsIn(call[op::gate]),
                                          FloatsIn(call[op::up]),
                                          FloatsOut(call[op::y])});
}

Status geglu_bwd(const Call &call) {
  namespace op = kernels::geglu_bwd;
  return launchElements(
      call, call[op::dy].elements(),
      GateBackward<Gelu>{FloatsIn(call[op::dy]), FloatsIn(call[op::gate]),
                         FloatsIn(call[op::up]), FloatsOut(call[op::dgate]),
                         FloatsOut(call[op::dup])});
}

Status add_fwd(const Call &call) {
  namespace op = kernels::add_fwd;
  return launchElements(call, call[op::y].elements(),
                        Add{FloatsIn(call[op::a]), FloatsIn(call[op::b]),
                            FloatsOut(call[op::y])});
}

Status cast(const Call &call) {
  namespace op = kernels::cast;
  return launchElements(call, call[op::y].elements(),
                        Convert{FloatsIn(call[op::x]), FloatsOut(call[op::y])});
}

Status fill_zero(const Call &call) {
  const Operand &y = call[kernels::fill_zero::y];
  // Every type it takes is a whole number of 2 bytes.
  return launchElements(call, y.elements() * byteSize(y.type) / 2,
                        FillZero{y.as<uint16_t>()});
}

Status accumulate(const Call &call) {
  namespace op = kernels::accumulate;
  return launchElements(call, call[op::y].elements(),
                        Add{FloatsIn(call[op::y]), FloatsIn(call[op::x]),
                            FloatsOut(call[op::y])});
}

} // namespace peft::cuda
