//===- DevicePlugin.cpp - opens a device's library ------------------------===//
#include "peft/DevicePlugin.h"

#include <cstdlib>
#include <dlfcn.h>
#include <unistd.h>

namespace peft {

static Status unsuitable(std::string message) {
  return Status::error(Code::unsuitable, std::move(message));
}

/// Where the running program lies, with a slash at the end; empty if unknown.
static std::string programDirectory() {
  std::string path(4096, '\0');
  ssize_t size = ::readlink("/proc/self/exe", path.data(), path.size());
  if (size <= 0)
    return {};
  path.resize(static_cast<size_t>(size));
  return path.substr(0, path.rfind('/') + 1);
}

/// What dlopen said, without the path that it was asked for.
static std::string loaderMessage() {
  const char *text = ::dlerror();
  return text ? text : "the loader gave no reason";
}

static Expected<std::string> findPlugin(const char *fileName,
                                        const char *variable) {
  if (const char *named = std::getenv(variable); named && *named) {
    if (::access(named, R_OK) == 0)
      return std::string(named);
    return unsuitable(std::string(variable) + " names " + named +
                      ", which cannot be read");
  }
  std::string directory = programDirectory();
  if (!directory.empty())
    for (const char *place : {"", "../lib/"})
      if (std::string path = directory + place + fileName;
          ::access(path.c_str(), R_OK) == 0)
        return path;
  return std::string(fileName);
}

static Expected<const DevicePlugin *> checkPlugin(void *library,
                                                  const std::string &path) {
  auto *entry = reinterpret_cast<decltype(&peftDevicePlugin)>(
      ::dlsym(library, "peftDevicePlugin"));
  if (!entry)
    return unsuitable(path + " is no plug-in of peft-run");
  const DevicePlugin *plugin = entry();
  if (plugin->version != devicePluginVersion ||
      plugin->layout != devicePluginLayout())
    return unsuitable(path + " comes from another build than this program; "
                             "install both from one");
  return plugin;
}

Expected<const DevicePlugin *> openDevicePlugin(const char *fileName,
                                                const char *variable) {
  PEFT_ASSIGN(std::string path, findPlugin(fileName, variable));
  void *library = ::dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL);
  if (library)
    return checkPlugin(library, path);
  std::string reason = loaderMessage();
  if (path == fileName && reason.find("No such file") != std::string::npos)
    return unsuitable(std::string("there is no ") + fileName +
                      " beside peft-run; `ninja -C build/release` builds it "
                      "where the CUDA 13 toolkit is");
  return unsuitable(reason);
}

} // namespace peft
