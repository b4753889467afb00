//===- Table.cpp - which function runs a kernel ---------------------------===//
#include "Kernels.h"

#include <array>
#include <cassert>
#include <cstdlib>
#include <string>

namespace peft::cpu {

namespace {

#define IN(name, shape, types)
#define OPTIONAL_IN(name, shape, types)
#define OUT(name, shape, types)
#define OPTIONAL_OUT(name, shape, types)
#define INOUT(name, shape, types)
#define ATTRIBUTES
#define INTEGER(name, byDefault, least, most)
#define FLOAT(name, byDefault, least, most)
#define FLOATS(name)
#define REQUIRE(text, condition)
#define WORKSPACE(shared, thread)
#define CUDA_WORKSPACE(bytes)
#define END_KERNEL(name)
/// The functions of one kernel, by path.
#define KERNEL(name, summary)                                                  \
  {plain::name, avx2::name, avx512::name, avx512bf16::name},
constexpr std::array<KernelFunction, 4> functions[] = {
#include "../schema/kernels.def"
};
#include "peft/EndKernels.inc"

constexpr const char *pathNames[] = {"plain", "avx2", "avx512", "avx512bf16"};

/// The widest path this processor can run. The builtin also asks whether the
/// operating system saves the wide registers.
Path widestPath() {
  __builtin_cpu_init();
  if (!__builtin_cpu_supports("avx2") || !__builtin_cpu_supports("fma") ||
      !__builtin_cpu_supports("f16c"))
    return Path::plain;
  if (!__builtin_cpu_supports("avx512f") ||
      !__builtin_cpu_supports("avx512bw") ||
      !__builtin_cpu_supports("avx512vl") ||
      !__builtin_cpu_supports("avx512dq"))
    return Path::avx2;
  return __builtin_cpu_supports("avx512bf16") ? Path::avx512bf16 : Path::avx512;
}

/// The fastest path of this processor. vdpbf16ps does twice the work of an f32
/// fma on AMD (Zen 5: 520 against 258 GFLOP/s a core), half of it on Intel,
/// which keeps its bf16 speed for AMX (Sapphire Rapids: 106 against 212). AMX
/// sums in another order and cannot give the bits of the other paths.
Path bestPath() {
  Path widest = widestPath();
  bool slowPairs = __builtin_cpu_is("intel");
  return widest == Path::avx512bf16 && slowPairs ? Path::avx512 : widest;
}

} // namespace

Expected<Path> choosePath() {
  const char *wanted = std::getenv("PEFT_CPU");
  if (!wanted || !*wanted)
    return bestPath();
  Path widest = widestPath();
  for (size_t i = 0; i < std::size(pathNames); ++i) {
    if (std::string(wanted) != pathNames[i])
      continue;
    if (i > static_cast<size_t>(widest))
      return Status::error(Code::unsuitable,
                           std::string("PEFT_CPU asks for ") + wanted +
                               ", but this processor has at most " +
                               pathNames[static_cast<size_t>(widest)] +
                               "; unset PEFT_CPU to use that");
    return static_cast<Path>(i);
  }
  return usageError(std::string("PEFT_CPU is '") + wanted +
                    "', but the paths are plain, avx2, avx512 and avx512bf16");
}

KernelFunction findFunction(Path path, size_t kernel) {
  assert(kernel < std::size(functions) && "kernels.def has no such kernel");
  return functions[kernel][static_cast<size_t>(path)];
}

} // namespace peft::cpu
