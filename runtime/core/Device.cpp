//===- Device.cpp - what executes a plan ----------------------------------===//
#include "peft/Device.h"

namespace peft {

// Here, so that a plug-in gets the class without the executor.
Device::~Device() = default;

Expected<Tuning> Device::tune() {
  return Status::error(Code::unsuitable,
                       description() + " has no libraries to choose "
                                       "algorithms of");
}

} // namespace peft
