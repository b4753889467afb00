//===- QuantStateFuzzer.cpp - any text as a quant_state -------------------===//
//
// What parses has sizes that can be computed with, and is read back the same
// after it was written.
//
//===----------------------------------------------------------------------===//
#include "peft/QuantizedTensor.h"

#include <cstdlib>

using namespace peft;

extern "C" int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  const std::string_view text(reinterpret_cast<const char *>(data), size);
  for (const DType type : {DType::nf4, DType::fp4}) {
    const auto state = parseQuantState(text, type, "input");
    if (!state.ok())
      continue;
    QuantizedTensor tensor;
    tensor.format = state->format;
    tensor.shape = state->shape;
    const bool sound =
        isBlockSize(state->format.block) && tensor.shape.size() == 2 &&
        tensor.elementCount() <= INT64_MAX &&
        tensor.scaleCount() * state->format.block >= tensor.elementCount();
    const std::string written = writeQuantState(*state);
    const auto again = parseQuantState(written, type, "written");
    if (!sound || !again.ok() || again->shape != state->shape ||
        again->format != state->format ||
        again->nestedOffset != state->nestedOffset)
      std::abort();
  }
  return 0;
}
