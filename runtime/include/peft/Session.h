//===- Session.h - what peft-run does ---------------------------*- C++ -*-===//
//
// One call from flags to files: load and verify the plan, bind the model's
// weights, then train, evaluate, answer or check as the options say.
//
//===----------------------------------------------------------------------===//
#ifndef PEFT_SESSION_H
#define PEFT_SESSION_H

#include "peft/Device.h"
#include "peft/Plan.h"
#include "peft/RunOptions.h"
#include "peft/Status.h"

#include <functional>
#include <memory>

namespace peft {

/// The device of a run, and in a few words why not another; printed with its
/// description as one line.
struct ChosenDevice {
  std::unique_ptr<Device> device;
  std::string note; ///< "no CUDA: no NVIDIA driver (libcuda.so.1)"; may be empty
};

/// Makes the device that `RunOptions::device` names for `plan`: the session
/// knows devices only as an interface.
using DeviceFactory = std::function<Expected<ChosenDevice>(
    const std::string &name, const Plan &plan, const DeviceOptions &options)>;

/// How the devices that there are come to be.
struct DeviceMakers {
  std::function<Expected<std::unique_ptr<Device>>(const DeviceOptions &)> cpu;
  /// Card `index`. Error unsuitable: there is no usable card; the message says
  /// in a few words why.
  std::function<Expected<std::unique_ptr<Device>>(unsigned index,
                                                  const DeviceOptions &)>
      cuda;
};

/// `name` is auto, cpu, cuda or cuda:N. auto takes card 0 for a plan that was
/// compiled for a card if there is a usable one, else the CPU. Errors: usage
/// (another name), unsuitable (what was asked for cannot be had).
Expected<ChosenDevice> chooseDevice(const DeviceMakers &makers,
                                    const std::string &name, const Plan &plan,
                                    const DeviceOptions &options);

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
