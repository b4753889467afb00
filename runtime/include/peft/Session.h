//===- Session.h - what peft-run does ---------------------------*- C++ -*-===//
//
// One call from flags to files: load and verify the plan, bind the model's
// weights, then train, evaluate, answer or check as the options say.
//
//===----------------------------------------------------------------------===//
#ifndef PEFT_SESSION_H
#define PEFT_SESSION_H

#include "peft/Device.h"
#include "peft/RunOptions.h"
#include "peft/Status.h"

#include <functional>
#include <memory>

namespace peft {

/// Makes the device that `RunOptions::device` names: the session knows devices
/// only as an interface.
using DeviceFactory = std::function<Expected<std::unique_ptr<Device>>(
    const std::string &name, const DeviceOptions &options)>;

/// The version of this program and of what it writes.
constexpr const char *runtimeVersion = "0.1.0";

/// Whether the options make sense together; no file is looked at. Errors have
/// code usage and name the flag.
Status checkOptions(const RunOptions &options);

/// Runs the session. On an error nothing half-written is left in the output
/// directory: finished lines of metrics.jsonl stay, other files are whole or
/// absent.
Status runSession(const RunOptions &options, const DeviceFactory &makeDevice);

} // namespace peft

#endif // PEFT_SESSION_H
