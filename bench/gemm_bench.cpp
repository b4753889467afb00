//===- gemm_bench.cpp - GFLOP/s of the CPU device's linear kernels --------===//
//
// peft-gemm-bench [rows [seconds [part of a kernel's name]]]
//
// Prints, for the shapes of SmolLM2-135M and of a 2048-wide model, the fastest
// of the runs of each path on one and on two threads, bf16 and f32.
//
//===----------------------------------------------------------------------===//
#include "cpu/Call.h"
#include "cpu/ThreadPool.h"

#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>
#include <utility>
#include <vector>

#include <sys/mman.h>

using namespace peft;
using namespace peft::cpu;

namespace {

struct Shape {
  const char *kernel;
  uint64_t n, k, r;
};

constexpr Shape shapes[] = {
    {"linear_fwd", 576, 576, 0},        {"linear_fwd", 1536, 576, 0},
    {"linear_fwd", 576, 1536, 0},       {"linear_fwd", 2048, 2048, 0},
    {"linear_fwd", 5632, 2048, 0},      {"linear_fwd", 49152, 576, 0},
    {"linear_lora_fwd", 576, 576, 16},  {"linear_lora_fwd", 2048, 2048, 16},
    {"linear_dx", 576, 576, 0},         {"linear_dx", 5632, 2048, 0},
    {"linear_dx", 2048, 5632, 0},       {"linear_dx", 49152, 576, 0},
    {"linear_lora_dx", 2048, 2048, 16}, {"linear_dw", 576, 576, 0},
    {"linear_dw", 5632, 2048, 0},       {"lora_down_fwd", 0, 2048, 16},
    {"lora_down_fwd", 0, 576, 8},       {"lora_down_dw", 0, 2048, 16},
    {"linear_dx", 2048, 16, 0},
};

double now() {
  return std::chrono::duration<double>(
             std::chrono::steady_clock::now().time_since_epoch())
      .count();
}

/// Memory as the device's arena has it: huge pages where the system gives them.
class Memory {
public:
  explicit Memory(uint64_t size) : size((size >> 21 << 21) + (2u << 20)) {
    start = static_cast<std::byte *>(
        std::aligned_alloc(size_t(2) << 20, this->size));
    madvise(start, this->size, MADV_HUGEPAGE);
    std::memset(start, 0, this->size);
  }
  Memory(Memory &&other) : start(std::exchange(other.start, nullptr)) {}
  ~Memory() { std::free(start); }
  std::byte *data() const { return start; }

private:
  uint64_t size = 0;
  std::byte *start = nullptr;
};

/// Operand sizes follow from the shape symbols of kernels.def.
class Bench {
public:
  Bench(const Shape &shape, uint64_t rows, DType compute, unsigned threads)
      : spec(findKernel(shape.kernel)), pool(threads) {
    auto size = [&](char symbol) {
      return symbol == 'm'   ? rows
             : symbol == 'n' ? shape.n
             : symbol == 'k' ? shape.k
                             : shape.r;
    };
    for (const OperandSpec &operand : spec->operands) {
      Operand value;
      shapes.emplace_back();
      if (!operand.optional) {
        bool f32 = operand.access == Access::inout;
        value.type = f32 ? DType::f32 : compute;
        value.rows = size(operand.shape[0]);
        value.columns = size(operand.shape[2]);
        storage.emplace_back(value.elements() * byteSize(value.type) + 64);
        value.data = storage.back().data();
        fill(value);
        shapes.back() = {true, value.type, {}};
      }
      operands.push_back(value);
    }
    for (const AttributeSpec &attribute : spec->attributes)
      attributes.push_back(
          {attribute.integerDefault, attribute.realDefault, {}});
    for (size_t i = 0; i < operands.size(); ++i)
      shapes[i].shape = std::span(&operands[i].rows, 2);
    auto bound = bindShapes(*spec, shapes, attributes, types);
    if (!bound.ok()) {
      std::fprintf(stderr, "%s\n", bound.status().message().c_str());
      std::abort();
    }
    WorkspaceNeed need = workspaceNeed(*spec, *bound, threads, DeviceKind::cpu);
    storage.emplace_back(need.thread + need.shared);
    call.operands = operands;
    call.attributes = attributes;
    call.threadWorkspace = storage.back().data();
    call.threadWorkspaceBytes = need.thread / threads;
    call.sharedWorkspace = call.threadWorkspace + need.thread;
    call.pool = &pool;
    flops = 2.0 * static_cast<double>(rows * shape.k) *
            static_cast<double>(shape.n + shape.r);
    if (shape.n && shape.r)
      flops = 2.0 * static_cast<double>(rows) *
              static_cast<double>(
                  shape.n * shape.k +
                  shape.r * (std::strcmp(shape.kernel, "linear_lora_dx") == 0
                                 ? shape.k
                                 : shape.n));
  }

  /// GFLOP/s of the fastest of many runs in about `seconds`.
  double measure(Path path, double seconds) {
    KernelFunction function = findFunction(path, spec - allKernels().data());
    double best = 1e30, end = now() + seconds;
    for (int i = 0; i < 4 || now() < end; ++i) {
      double start = now();
      if (Fault fault = function(call))
        std::abort();
      best = std::min(best, now() - start);
    }
    return flops / best * 1e-9;
  }

private:
  static void fill(const Operand &operand) {
    uint32_t state = 1;
    for (uint64_t i = 0; i < operand.elements(); ++i) {
      state = state * 1664525 + 1013904223;
      float value = static_cast<float>(static_cast<int32_t>(state)) * 0x1p-34f;
      uint32_t bits;
      std::memcpy(&bits, &value, 4);
      if (operand.type == DType::f32)
        std::memcpy(operand.data + 4 * i, &bits, 4);
      else
        operand.as<uint16_t>()[i] = static_cast<uint16_t>(bits >> 16);
    }
  }

  const KernelSpec *spec;
  ThreadPool pool;
  std::vector<Memory> storage;
  std::vector<Operand> operands;
  std::vector<OperandShape> shapes;
  std::vector<DType> types;
  std::vector<AttributeValue> attributes;
  Call call;
  double flops = 0;
};

} // namespace

int main(int argc, char **argv) {
  uint64_t rows = argc > 1 ? std::strtoull(argv[1], nullptr, 10) : 512;
  double seconds = argc > 2 ? std::strtod(argv[2], nullptr) : 0.2;
  const char *only = argc > 3 ? argv[3] : "";
  std::vector<std::pair<Path, const char *>> paths = {
      {Path::avx2, "avx2"},
      {Path::avx512, "avx512"},
      {Path::avx512bf16, "avx512bf16"}};
  std::printf("%-16s %6s %5s %3s  %-10s %8s %8s %8s %8s\n", "kernel", "n", "k",
              "r", "path", "bf16 x1", "bf16 x2", "f32 x1", "f32 x2");
  for (const Shape &shape : shapes) {
    if (!std::strstr(shape.kernel, only))
      continue;
    for (auto [path, name] : paths) {
      setenv("PEFT_CPU", name, 1);
      if (!choosePath().ok())
        continue;
      std::printf("%-16s %6lu %5lu %3lu  %-10s", shape.kernel, shape.n, shape.k,
                  shape.r, name);
      for (DType compute : {DType::bf16, DType::f32})
        for (unsigned threads : {1u, 2u})
          std::printf(
              " %8.1f",
              Bench(shape, rows, compute, threads).measure(path, seconds));
      std::printf("\n");
      std::fflush(stdout);
    }
  }
}
