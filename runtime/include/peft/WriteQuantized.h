//===- WriteQuantized.h - a quantized file out of an ordinary one -*- C++ -*-===//
#ifndef PEFT_WRITEQUANTIZED_H
#define PEFT_WRITEQUANTIZED_H

#include "peft/ModelDirectory.h"
#include "peft/NewFile.h"
#include "peft/Quantize.h"
#include "peft/Status.h"

#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <string>
#include <vector>

namespace peft {

/// A tensor of the model on its way into a quantized file.
struct QuantizedOutput {
  ModelDirectory::Tensor source;
  std::optional<QuantFormat> format; ///< absent: copied as it is
};

struct QuantizeOptions {
  unsigned threads = 0; ///< 0: as many as this process may use
  /// Called by the calling thread now and then: weights quantized so far, and
  /// of all. May be empty.
  std::function<void(uint64_t done, uint64_t all)> progress;
};

/// Writes a safetensors file of these tensors as bitsandbytes stores them: the
/// parts of each quantized one, the others copied. Weights are read, quantized
/// and written piece by piece; of a tensor only its scales stay in memory until
/// its end. The same input gives the same bytes, whatever the threads. Errors:
/// badInput (a weight that is not finite, a type that is no float), io.
Status writeQuantized(const std::vector<QuantizedOutput> &tensors,
                      const std::map<std::string, std::string> &metadata,
                      PlacedSink &sink, const QuantizeOptions &options = {});

} // namespace peft

#endif // PEFT_WRITEQUANTIZED_H
