//===- Environment.cpp - what the environment says ------------------------===//
#include "peft/Environment.h"

#include "peft/File.h"

#include <cstdlib>
#include <unistd.h>

using namespace peft;

std::string peft::environment(const char *variable) {
  const char *value = std::getenv(variable);
  return value ? value : "";
}

std::string peft::cacheDirectory(const std::string &name) {
  std::string base = environment("XDG_CACHE_HOME");
  if (base.empty() && !environment("HOME").empty())
    base = joinPath(environment("HOME"), ".cache");
  if (base.empty())
    base = "/tmp/peftc-" + std::to_string(::getuid());
  return joinPath(base, "peftc/" + name);
}
