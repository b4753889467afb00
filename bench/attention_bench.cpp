//===- attention_bench.cpp - milliseconds of the CPU's attention ----------===//
//
// peft-attention-bench [seconds per figure]
//
// Forward and backward, causal, one batch row, on every path this processor
// has: the fastest of many runs. bench/torch_step.py times PyTorch's steps.
//
//===----------------------------------------------------------------------===//
#include "cpu/Call.h"
#include "cpu/ThreadPool.h"

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <map>
#include <string>
#include <vector>

using namespace peft;
using namespace peft::cpu;

namespace {

struct Shape {
  uint64_t heads, kvHeads, dim, seq;
};
constexpr Shape shapes[] = {{9, 3, 64, 256},
                            {9, 3, 64, 2048},
                            {32, 4, 64, 256},
                            {32, 4, 64, 2048},
                            {8, 8, 128, 512}};

double now() {
  return std::chrono::duration<double>(
             std::chrono::steady_clock::now().time_since_epoch())
      .count();
}

/// Both kernels over one set of operands.
class Bench {
public:
  Bench(const Shape &shape, DType compute, unsigned threads)
      : shape(shape), compute(compute), pool(threads) {
    bind("attention_fwd");
    bind("attention_bwd");
  }

  /// The best time of a kernel in ms; the forward pass comes first.
  double measure(Path path, const std::string &kernel, double seconds) {
    Bound &bound = kernels[kernel];
    const KernelSpec *spec = findKernel(kernel);
    KernelFunction function =
        findFunction(path, static_cast<size_t>(spec - allKernels().data()));
    double best = 1e30;
    const double end = now() + seconds;
    for (int i = 0; i < 3 || now() < end; ++i) {
      const double start = now();
      if (Fault fault = function(bound.call))
        std::abort();
      best = std::min(best, now() - start);
    }
    return best * 1e3;
  }

private:
  struct Bound {
    std::vector<Operand> operands;
    std::vector<AttributeValue> attributes;
    std::vector<std::byte> workspace;
    Call call;
  };

  Operand operandOf(const OperandSpec &spec) {
    Operand operand;
    operand.type = spec.name == "lse" ? DType::f32 : compute;
    const char width = spec.shape[2];
    operand.rows = spec.name == "lse" ? shape.heads : shape.seq;
    operand.columns = spec.name == "lse" ? shape.seq
                      : width == 'x'     ? shape.heads * shape.dim
                                         : shape.kvHeads * shape.dim;
    std::vector<std::byte> &bytes = storage[std::string(spec.name)];
    if (bytes.empty()) {
      bytes.resize(operand.elements() * byteSize(operand.type));
      uint32_t state = 1;
      const bool narrow = operand.type != DType::f32;
      for (uint64_t i = 0; i < operand.elements(); ++i) {
        state = state * 1664525 + 1013904223;
        float value =
            static_cast<float>(static_cast<int32_t>(state)) * 0x1p-30f;
        std::memcpy(&bytes[i * byteSize(operand.type)],
                    reinterpret_cast<std::byte *>(&value) + (narrow ? 2 : 0),
                    narrow ? 2 : 4);
      }
    }
    operand.data = bytes.data();
    return operand;
  }

  void bind(const char *kernel) {
    const KernelSpec *spec = findKernel(kernel);
    Bound &bound = kernels[kernel];
    std::vector<OperandShape> operandShapes(spec->operands.size());
    for (const OperandSpec &operand : spec->operands)
      bound.operands.push_back(operand.optional ? Operand()
                                                : operandOf(operand));
    for (size_t i = 0; i < bound.operands.size(); ++i)
      if (const Operand &operand = bound.operands[i])
        operandShapes[i] = {true, operand.type, std::span(&operand.rows, 2)};
    Launch launch;
    launch.kernel = kernel;
    launch.attributes = {{"seq", int64_t(shape.seq)},
                         {"heads", int64_t(shape.heads)},
                         {"kv_heads", int64_t(shape.kvHeads)},
                         {"head_dim", int64_t(shape.dim)},
                         {"scale", 0.125}};
    auto attributes = bindAttributes(*spec, launch);
    std::vector<DType> types;
    auto launchShape =
        bindShapes(*spec, operandShapes,
                   attributes.ok() ? *attributes : bound.attributes, types);
    if (!attributes.ok() || !launchShape.ok()) {
      std::fprintf(stderr, "%s\n", launchShape.status().message().c_str());
      std::exit(70);
    }
    bound.attributes = *attributes;
    const uint64_t shared = spec->cpuWorkspace.shared(*launchShape).value;
    const uint64_t thread =
        (spec->cpuWorkspace.thread(*launchShape).value + 63) / 64 * 64;
    bound.workspace.resize(shared + thread * pool.size() + 128);
    auto address = reinterpret_cast<uintptr_t>(bound.workspace.data());
    bound.call.operands = bound.operands;
    bound.call.attributes = bound.attributes;
    bound.call.threadWorkspace =
        bound.workspace.data() + (64 - address % 64) % 64;
    bound.call.threadWorkspaceBytes = thread;
    bound.call.sharedWorkspace =
        bound.call.threadWorkspace + thread * pool.size();
    bound.call.pool = &pool;
  }

  Shape shape;
  DType compute;
  ThreadPool pool;
  std::map<std::string, std::vector<std::byte>> storage;
  std::map<std::string, Bound> kernels;
};

} // namespace

int main(int argc, char **argv) {
  const double seconds = argc > 1 ? std::strtod(argv[1], nullptr) : 0.3;
  const std::pair<Path, const char *> paths[] = {
      {Path::avx2, "avx2"},
      {Path::avx512, "avx512"},
      {Path::avx512bf16, "avx512bf16"}};
  std::printf("%5s %3s %4s %5s  %-10s %17s %17s %17s %17s\n", "heads", "kv",
              "dim", "seq", "path", "bf16 x1 fwd/bwd", "bf16 x2 fwd/bwd",
              "f32 x1 fwd/bwd", "f32 x2 fwd/bwd");
  for (const Shape &shape : shapes)
    for (auto [path, name] : paths) {
      setenv("PEFT_CPU", name, 1);
      if (!choosePath().ok())
        continue;
      std::printf("%5lu %3lu %4lu %5lu  %-10s", shape.heads, shape.kvHeads,
                  shape.dim, shape.seq, name);
      for (DType compute : {DType::bf16, DType::f32})
        for (unsigned threads : {1u, 2u}) {
          Bench bench(shape, compute, threads);
          const double forward = bench.measure(path, "attention_fwd", seconds);
          const double backward = bench.measure(path, "attention_bwd", seconds);
          std::printf(" %8.3f/%8.3f", forward, backward);
          std::fflush(stdout);
        }
      std::printf("\n");
    }
}
