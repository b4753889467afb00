//===- Dequantize.cpp - a quantized weight as numbers ---------------------===//
#include "../Decode.h"
#include "../Kernels.h"
#include "Parallel.h"

namespace peft::cpu::PEFT_PATH {

Fault dequantize(const Call &call) {
  using namespace kernels::dequantize;
  const Quantized weight =
      readQuantized(call, {w, absmax, nested_absmax, tables, block, nested});
  withElement(call[y].type, [&](auto type) {
    auto *to = call[y].as<decltype(type)>();
    parallelElements(call, weight.elements,
                     [&](uint64_t begin, uint64_t end) {
                       decode(weight, begin, end - begin, to + begin);
                     });
  });
  return {};
}

} // namespace peft::cpu::PEFT_PATH
