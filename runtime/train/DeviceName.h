//===- DeviceName.h - what --device may say ---------------------*- C++ -*-===//
#ifndef PEFT_TRAIN_DEVICENAME_H
#define PEFT_TRAIN_DEVICENAME_H

#include "peft/Status.h"

#include <string>

namespace peft {

struct DeviceName {
  enum class Kind { automatic, cpu, cuda };
  Kind kind = Kind::automatic;
  unsigned index = 0; ///< of the card
};

/// Reads auto, cpu, cuda or cuda:N (N below 64). Error usage: anything else.
Expected<DeviceName> parseDeviceName(const std::string &name);

inline Status checkDeviceName(const std::string &name) {
  return parseDeviceName(name).status();
}

} // namespace peft

#endif // PEFT_TRAIN_DEVICENAME_H
