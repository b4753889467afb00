//===- peft-run.cpp - executes a plan -------------------------------------===//
#include "Flags.h"

#include "peft/CpuDevice.h"
#include "peft/DevicePlugin.h"
#include "peft/File.h"
#include "peft/Session.h"

#include <csignal>
#include <cstdio>
#include <new>

using namespace peft;

static int report(const Status &status) {
  std::fprintf(stderr, "peft-run: error: %s\n", status.message().c_str());
  return static_cast<int>(status.code());
}

/// The CUDA device lives in a library of its own, so that this program starts
/// on machines without a driver.
static Expected<std::unique_ptr<Device>>
createCudaDevice(unsigned index, const DeviceOptions &options) {
  PEFT_ASSIGN(const DevicePlugin *plugin,
              openDevicePlugin("libpeft_cuda.so", "PEFT_CUDA_PLUGIN"));
  return plugin->create(index, options);
}

static int run(int argc, char **argv) {
  installTruncationHandler();
  // Whoever read the status lines may leave; training goes on.
  std::signal(SIGPIPE, SIG_IGN);
  // A file past the size limit is an error that is reported, not a signal.
  std::signal(SIGXFSZ, SIG_IGN);
  auto line = parseCommandLine(argc, argv);
  if (!line.ok())
    return report(line.status());
  if (line->text) {
    std::fputs(line->text->c_str(), stdout);
    return 0;
  }
  DeviceFactory makeDevice = [](const std::string &name, const Plan &plan,
                                const DeviceOptions &options) {
    return chooseDevice({createCpuDevice, createCudaDevice}, name, plan,
                        options);
  };
  Status status = runSession(line->options, makeDevice);
  return status.ok() ? 0 : report(status);
}

int main(int argc, char **argv) {
  try {
    return run(argc, argv);
  } catch (const std::bad_alloc &) {
    return report(Status::error(Code::doesNotFit, "memory ran out"));
  }
}
