//===- Calibration.h - peft-run --calibrate ---------------------*- C++ -*-===//
#ifndef PEFT_TRAIN_CALIBRATION_H
#define PEFT_TRAIN_CALIBRATION_H

#include "Console.h"
#include "peft/Session.h"

namespace peft {

/// Measures the device that `options.device` names and writes
/// `options.output`, a description that `peftc compile --target` reads: rates
/// of matrix products by type (at the shapes of `options.plan`, if there is
/// one), bandwidths, the cost of a launch, memory.
Status calibrate(const RunOptions &options, const DeviceFactory &makeDevice,
                 Console &console);

} // namespace peft

#endif // PEFT_TRAIN_CALIBRATION_H
