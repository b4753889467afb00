//===- DevicePlugin.h - a device in a library of its own --------*- C++ -*-===//
//
// A device whose libraries not every machine has (libpeft_cuda.so) is a shared
// library that is opened at run time. It exports one C function,
// peftDevicePlugin, and nothing else; it holds its own copy of the part of
// peft_core that it needs, so it takes no symbol of the program that opens it.
//
// Program and plug-in come from one build: they pass each other C++ classes of
// these headers (Device, Plan, Status, std::string of the same libstdc++).
// `version` and `layout` tell whether they do; on a difference the program
// calls nothing and says so. Objects that the plug-in made are deleted by
// the program through virtual destructors; the library is never closed.
//
//===----------------------------------------------------------------------===//
#ifndef PEFT_DEVICEPLUGIN_H
#define PEFT_DEVICEPLUGIN_H

#include "peft/Device.h"

#include <memory>

namespace peft {

constexpr uint32_t devicePluginVersion = 3;

/// Changes when a class that crosses the boundary changes its size.
constexpr uint64_t devicePluginLayout() {
  uint64_t hash = 14695981039346656037u;
  for (uint64_t size :
       {sizeof(Plan), sizeof(Buffer), sizeof(Item), sizeof(Launch),
        sizeof(Entry), sizeof(Weight), sizeof(Device), sizeof(DeviceOptions),
        sizeof(MemoryUse), sizeof(LedgerRow), sizeof(KernelTime),
        sizeof(ItemTime), sizeof(Machine), sizeof(Tuning),
        sizeof(Status), sizeof(std::string)})
    hash = (hash ^ size) * 1099511628211u;
  return hash;
}

struct DevicePlugin {
  uint32_t version = devicePluginVersion;
  uint64_t layout = devicePluginLayout();
  /// Device number `index` of this machine, not loaded yet. Error unsuitable:
  /// this machine has no usable one; the message says in a few words why.
  Expected<std::unique_ptr<Device>> (*create)(unsigned index,
                                              const DeviceOptions &options);
};

/// Opens a plug-in by the first of these that exists: the path in the
/// environment variable `variable`, `fileName` beside the running program,
/// ../lib/`fileName` from there, `fileName` by the loader's path. Called
/// again, it gives the same plug-in. Error unsuitable with the reason.
Expected<const DevicePlugin *> openDevicePlugin(const char *fileName,
                                                const char *variable);

} // namespace peft

/// What a plug-in exports.
extern "C" const peft::DevicePlugin *peftDevicePlugin();

#endif // PEFT_DEVICEPLUGIN_H
