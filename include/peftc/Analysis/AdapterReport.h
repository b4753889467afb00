//===- AdapterReport.h - what an adapter config matched ---------*- C++ -*-===//
#ifndef PEFTC_ANALYSIS_ADAPTERREPORT_H
#define PEFTC_ANALYSIS_ADAPTERREPORT_H

#include "mlir/IR/BuiltinOps.h"

#include <cstdint>
#include <string>
#include <vector>

namespace peftc {

/// What trains in a module after AttachAdapters or TrainAllParameters.
struct AdapterReport {
  /// Adapted modules with the same last name, rank and shape of input and
  /// output: "q_proj".
  struct Kind {
    std::string name;
    int64_t rank = 0, in = 0, out = 0;
    uint64_t count = 0;
    uint64_t parameters = 0; ///< that train, all modules together
  };
  std::vector<Kind> kinds; ///< in the order of first appearance
  uint64_t adaptedModules = 0;
  /// Names of trained tensors of the model: modules_to_save and biases.
  std::vector<std::string> trainedTensors;
  uint64_t trainedTensorParameters = 0;
  /// Modules that were targeted and excluded.
  std::vector<std::string> excluded;
  uint64_t trainable = 0; ///< elements of trainable tensors
  uint64_t total = 0;     ///< elements of all tensors, adapters included

  /// One line per kind, then trained tensors, exclusions and totals; plain
  /// text without line ends.
  std::vector<std::string> lines() const;
};

AdapterReport reportAdapters(mlir::ModuleOp module);

} // namespace peftc

#endif // PEFTC_ANALYSIS_ADAPTERREPORT_H
