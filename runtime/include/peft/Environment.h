//===- Environment.h - what the environment says ----------------*- C++ -*-===//
#ifndef PEFT_ENVIRONMENT_H
#define PEFT_ENVIRONMENT_H

#include <string>

namespace peft {

/// The value of an environment variable; empty where it is not set.
std::string environment(const char *variable);

/// Where caches of kind `name` are: $XDG_CACHE_HOME/peftc/NAME, else
/// ~/.cache/peftc/NAME, else a directory of this user's in /tmp.
std::string cacheDirectory(const std::string &name);

} // namespace peft

#endif // PEFT_ENVIRONMENT_H
