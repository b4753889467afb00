//===- Gradients.h - looking at the gradients of a step ---------*- C++ -*-===//
#ifndef PEFT_TRAIN_GRADIENTS_H
#define PEFT_TRAIN_GRADIENTS_H

#include "peft/Executor.h"
#include "peft/ModelDirectory.h"

#include <cstdint>
#include <string>
#include <vector>

namespace peft {

/// Reads gradient sums between the micro-steps and `update`. Its buffers are
/// made by the constructor, so that looking allocates nothing.
class GradientReader {
public:
  /// `executor` must outlive the reader.
  explicit GradientReader(Executor &executor);

  /// Error badInput, naming the tensor, when a trainable tensor's gradient is
  /// all zero: it takes part in nothing. The gradient of a factor A or B may be
  /// zero while the other factor is. In f16 a gradient may also be below the smallest number: then the
  /// result is a note that names the tensor, else "".
  Expected<std::string> requireGradients();

  /// Whether no gradient has left the range of the compute type.
  Expected<bool> allFinite();

  /// Writes every gradient to a safetensors file, summed over the uses of its
  /// parameter and divided by `divisor`: the tokens, times the loss scale.
  Status dump(const std::string &path, double divisor);

private:
  /// Whether `test` holds for all of the gradient sums of a parameter.
  template <typename Test>
  Expected<bool> everyGradient(size_t parameter, Test test);
  Expected<bool> parameterIsZero(size_t parameter);
  /// The sum over all uses of elements [offset, offset + count) in `chunk`.
  Status readTotal(size_t parameter, uint64_t offset, uint64_t count);

  Executor &executor;
  std::vector<float> chunk, part;
  std::vector<size_t> partners; ///< by parameter: its other factor, or SIZE_MAX
};

/// Where the first value that is not finite stands: among the weights (there
/// also one that f16 cannot hold, if products read it in that type), then the trained
/// tensors, then the gradients. "" when every one is finite.
Expected<std::string> findNonFinite(const Executor &executor,
                                    const ModelDirectory &model);

} // namespace peft

#endif // PEFT_TRAIN_GRADIENTS_H
