//===- Device.cpp - what executes a plan ----------------------------------===//
#include "peft/Device.h"

#include <algorithm>

namespace peft {

// Here, so that a plug-in gets the class without the executor.
Device::~Device() = default;

// A device that does not work ahead has nothing to wait for.
Status Device::post(unsigned slot, uint32_t buffer, uint64_t size) {
  if (slot >= returnSlots || size > returnBytes)
    return internalError("there is no slot " + std::to_string(slot) + " for " +
                         std::to_string(size) + " bytes");
  returned[slot].size = size;
  return read(buffer, 0, std::span(returned[slot].bytes).first(size));
}

Status Device::collect(unsigned slot, std::span<std::byte> bytes) {
  if (slot >= returnSlots || bytes.size() != returned[slot].size)
    return internalError("slot " + std::to_string(slot) +
                         " does not hold " + std::to_string(bytes.size()) +
                         " bytes");
  std::copy_n(returned[slot].bytes.begin(), bytes.size(), bytes.begin());
  return {};
}

Expected<Tuning> Device::tune() {
  return Status::error(Code::unsuitable,
                       description() + " has no libraries to choose "
                                       "algorithms of");
}

} // namespace peft
