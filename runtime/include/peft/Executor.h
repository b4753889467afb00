//===- Executor.h - a plan, ready to run ------------------------*- C++ -*-===//
//
// Binds a verified plan to weights and a device, gives the persistent buffers
// their initial values, and lets the host write ports, run entries and read
// results by name. Everything is allocated by `create`; no other method
// allocates, except to word an error.
//
//===----------------------------------------------------------------------===//
#ifndef PEFT_EXECUTOR_H
#define PEFT_EXECUTOR_H

#include "peft/Device.h"
#include "peft/Plan.h"
#include "peft/Status.h"
#include "peft/WriteQuantized.h"

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <type_traits>
#include <vector>

namespace peft {

/// The weights of a plan and whatever keeps their bytes in place.
struct BoundWeights {
  std::vector<std::span<const std::byte>> bytes; ///< by index of Plan::weights
  std::shared_ptr<const void> owner;
};

struct BindOptions {
  /// Keep what is quantized on load for the next start ($XDG_CACHE_HOME/peftc).
  bool cache = true;
  /// Quantize once more and compare, before the cache is believed.
  bool verify = false;
  unsigned threads = 0; ///< that quantize; 0: as many as the process may use
  /// Called now and then while weights are quantized: how many of how many.
  std::function<void(uint64_t done, uint64_t all)> progress;
  /// Called with what people should know: a word, and a text.
  std::function<void(const std::string &name, const std::string &text)> note;
};

/// Finds every weight of the plan in a model directory (safetensors, one file
/// or sharded) by name, shape and type, and maps it. Of quantized weights the
/// scales are read and checked. One that the model holds in f32, bf16 or f16 is
/// quantized: every weight is read then, and the result mapped. Errors:
/// badInput naming the first tensor that is missing, different or not finite,
/// io.
Expected<BoundWeights> bindWeights(const Plan &plan,
                                   const std::string &modelDirectory,
                                   const BindOptions &options = {});

/// The weights of a plan that `model` holds unquantized and that are quantized
/// on load, with their formats. Errors as above, but no weight is read.
Expected<std::vector<QuantizedOutput>>
weightsToQuantize(const Plan &plan, const ModelDirectory &model);

struct ExecutorOptions {
  uint64_t seed = 0; ///< of the initial values of adapters
};

class Executor {
public:
  /// `plan` must have been verified (loadPlan does). Loads the device and
  /// initialises the persistent buffers.
  static Expected<std::unique_ptr<Executor>>
  create(Plan plan, BoundWeights weights, std::unique_ptr<Device> device,
         const ExecutorOptions &options = {});

  const Plan &plan() const { return planValue; }
  Device &device() { return *deviceValue; }
  const Device &device() const { return *deviceValue; }
  const BoundWeights &weights() const { return weightsValue; }

  /// Runs the entry called `name` ("micro_step"). Error badInput: no such
  /// entry, or a kernel found an index outside its table.
  Status run(std::string_view name);
  bool hasEntry(std::string_view name) const {
    return planValue.findEntry(name) != none;
  }
  bool hasPort(std::string_view name) const {
    return planValue.findPort(name) != none;
  }

  /// Writes all elements of an input port. Error usage: no such port, another
  /// element type or another number of elements.
  template <typename T>
  Status writeInput(std::string_view port, std::span<const T> values) {
    return writePort(port, dtypeOf<T>(), std::as_bytes(values));
  }
  /// Writes a one-element port, converted to its type: an integer for i32 and
  /// i64 (error usage when it does not fit), a real for f32 and f64.
  Status writeScalar(std::string_view port, int64_t value);
  Status writeScalar(std::string_view port, double value);
  Status writeScalar(std::string_view port, int value) {
    return writeScalar(port, static_cast<int64_t>(value));
  }
  /// Reads all elements of a port of any kind.
  template <typename T>
  Status readOutput(std::string_view port, std::span<T> values) const {
    return readPort(port, dtypeOf<T>(), std::as_writable_bytes(values));
  }
  /// Puts the elements of a small port aside as they are when everything asked
  /// for so far is done; `collectOutput` gets them, without waiting for what was
  /// asked for since. As Device::post and Device::collect.
  Status postOutput(std::string_view port, unsigned slot);
  template <typename T>
  Status collectOutput(std::string_view port, unsigned slot,
                       std::span<T> values) {
    return collectPort(port, slot, dtypeOf<T>(),
                       std::as_writable_bytes(values));
  }
  /// Sets a port to zero bytes (running sums).
  Status clear(std::string_view port);

  /// Runs the plan's entry `initialize`, if it has one: what starts as a
  /// function of parameters (DoRA's magnitudes) does so again. `create` has run
  /// it.
  Status startParameters();

  /// Elements of parameter `index` of Plan::parameters.
  uint64_t parameterElements(size_t index) const;
  /// The f32 values of a parameter, `offset` elements from its start.
  Status readParameter(size_t index, uint64_t offset,
                       std::span<float> values) const;
  Status writeParameter(size_t index, uint64_t offset,
                        std::span<const float> values);
  /// The gradient sum of one use of a parameter; use 0 holds the total after
  /// `update` ran.
  Status readGradient(size_t index, size_t use, uint64_t offset,
                      std::span<float> values) const;

private:
  Executor() = default;
  Status initialize(uint64_t seed);
  Status writePort(std::string_view port, DType type,
                   std::span<const std::byte> bytes);
  Status readPort(std::string_view port, DType type,
                  std::span<std::byte> bytes) const;
  Status collectPort(std::string_view port, unsigned slot, DType type,
                     std::span<std::byte> bytes);

  template <typename T> static constexpr DType dtypeOf() {
    if constexpr (std::is_same_v<T, float>)
      return DType::f32;
    else if constexpr (std::is_same_v<T, double>)
      return DType::f64;
    else if constexpr (std::is_same_v<T, int32_t>)
      return DType::i32;
    else {
      static_assert(std::is_same_v<T, int64_t>, "a port has no such type");
      return DType::i64;
    }
  }

  Plan planValue;
  BoundWeights weightsValue;
  std::unique_ptr<Device> deviceValue;
};

} // namespace peft

#endif // PEFT_EXECUTOR_H
