//===- DeviceChoice.cpp - which device a run gets -------------------------===//
#include "DeviceName.h"
#include "peft/Session.h"

#include <charconv>

using namespace peft;

Expected<DeviceName> peft::parseDeviceName(const std::string &name) {
  using enum DeviceName::Kind;
  if (name == "auto")
    return DeviceName{automatic, 0};
  if (name == "cpu")
    return DeviceName{cpu, 0};
  if (name == "cuda")
    return DeviceName{cuda, 0};
  DeviceName card{cuda, 0};
  if (name.starts_with("cuda:")) {
    const char *begin = name.data() + 5, *end = name.data() + name.size();
    auto [rest, error] = std::from_chars(begin, end, card.index);
    if (error == std::errc() && rest == end && card.index < 64)
      return card;
  }
  return usageError("--device must be auto, cpu, cuda or cuda:N (N below 64), "
                    "not " +
                    name);
}

static Expected<ChosenDevice> takeCpu(const DeviceMakers &makers,
                                      const DeviceOptions &options,
                                      std::string note) {
  auto device = makers.cpu(options);
  if (!device.ok() && !note.empty())
    return Status::error(device.status().code(),
                         device.status().message() + " (" + note + ")");
  if (!device.ok())
    return device.status();
  return ChosenDevice{std::move(*device), std::move(note)};
}

Expected<ChosenDevice> peft::chooseDevice(const DeviceMakers &makers,
                                          const std::string &name,
                                          const Plan &plan,
                                          const DeviceOptions &options) {
  PEFT_ASSIGN(DeviceName wanted, parseDeviceName(name));
  if (wanted.kind == DeviceName::Kind::cpu)
    return takeCpu(makers, options, "");
  bool automatic = wanted.kind == DeviceName::Kind::automatic;
  if (automatic && plan.deviceKind == DeviceKind::cpu)
    return takeCpu(makers, options, "no CUDA: the plan was compiled for " + plan.target);
  auto card = makers.cuda(wanted.index, options);
  if (card.ok())
    return ChosenDevice{std::move(*card), ""};
  if (card.status().code() != Code::unsuitable)
    return card.status();
  if (automatic)
    return takeCpu(makers, options, "no CUDA: " + card.status().message());
  return Status::error(Code::unsuitable,
                       "--device " + name + ": " + card.status().message() +
                           "; --device cpu runs every plan");
}
