//===- Plugin.cpp - the CUDA device as a plug-in --------------------------===//
#include "CudaDevice.h"
#include "peft/DevicePlugin.h"

#include <cstdlib>

namespace peft::cuda {

static Expected<RunMode> chooseMode() {
  const char *wanted = std::getenv("PEFT_CUDA");
  std::string name = wanted ? wanted : "";
  if (name.empty() || name == "graph")
    return RunMode::graph;
  if (name == "direct")
    return RunMode::direct;
  return usageError("PEFT_CUDA is '" + name + "', but the modes are graph and "
                                              "direct");
}

static Expected<std::unique_ptr<Device>> create(unsigned index,
                                                const DeviceOptions &options) {
  PEFT_ASSIGN(RunMode mode, chooseMode());
  PEFT_ASSIGN(Card card, openCard(index));
  // Before anything is allocated: a missing library is a reason to take
  // another device.
  PEFT_TRY(openCublasLt().status());
  if (options.threads)
    return usageError("--threads is for the CPU device; give --device cpu with "
                      "it");
  if (options.scheduleSeed)
    return usageError("--schedule-seed is for the CPU device; give --device "
                      "cpu with it");
  return std::unique_ptr<Device>(new CudaDevice(std::move(card), mode, options));
}

} // namespace peft::cuda

const peft::DevicePlugin *peftDevicePlugin() {
  static const peft::DevicePlugin plugin{peft::devicePluginVersion,
                                         peft::devicePluginLayout(),
                                         peft::cuda::create};
  return &plugin;
}
