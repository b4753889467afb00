//===- DeviceChoiceTest.cpp - which device a run gets ---------------------===//
#include "peft/CpuDevice.h"
#include "peft/DevicePlugin.h"
#include "peft/Session.h"

#include <cstdlib>
#include <gtest/gtest.h>

using namespace peft;

namespace {

/// The CPU device, under the name of a card.
struct Cards {
  Status answer;
  unsigned asked = 99;

  DeviceMakers makers() {
    return {createCpuDevice,
            [this](unsigned index, const DeviceOptions &options)
                -> Expected<std::unique_ptr<Device>> {
              asked = index;
              if (!answer.ok())
                return answer;
              return createCpuDevice(options);
            }};
  }
};

Plan planFor(DeviceKind kind) {
  Plan plan;
  plan.deviceKind = kind;
  plan.target = kind == DeviceKind::cuda ? "h200" : "cpu";
  return plan;
}

Status noDriver() {
  return Status::error(Code::unsuitable, "no NVIDIA driver (libcuda.so.1)");
}

} // namespace

TEST(DeviceChoice, autoTakesTheCardForAPlanOfACard) {
  Cards cards;
  auto chosen =
      chooseDevice(cards.makers(), "auto", planFor(DeviceKind::cuda), {});
  ASSERT_TRUE(chosen.ok());
  EXPECT_EQ(cards.asked, 0u);
  EXPECT_EQ(chosen->note, "");
}

TEST(DeviceChoice, autoSaysWhyNoCard) {
  Cards cards{noDriver()};
  auto chosen =
      chooseDevice(cards.makers(), "auto", planFor(DeviceKind::cuda), {});
  ASSERT_TRUE(chosen.ok());
  EXPECT_EQ(chosen->note, "no CUDA: no NVIDIA driver (libcuda.so.1)");
  Cards unasked;
  chosen = chooseDevice(unasked.makers(), "auto", planFor(DeviceKind::cpu), {});
  ASSERT_TRUE(chosen.ok());
  EXPECT_EQ(unasked.asked, 99u);
  EXPECT_EQ(chosen->note, "no CUDA: the plan was compiled for cpu");
}

TEST(DeviceChoice, aCardThatWasAskedForIsNotReplaced) {
  Cards cards{noDriver()};
  auto chosen =
      chooseDevice(cards.makers(), "cuda:3", planFor(DeviceKind::cpu), {});
  EXPECT_EQ(cards.asked, 3u);
  EXPECT_EQ(chosen.status().code(), Code::unsuitable);
  EXPECT_NE(chosen.status().message().find("--device cuda:3: no NVIDIA driver"),
            std::string::npos);
}

TEST(DeviceChoice, otherErrorsOfACardEndTheRun) {
  Cards cards{Status::error(Code::internal, "it broke")};
  auto chosen =
      chooseDevice(cards.makers(), "auto", planFor(DeviceKind::cuda), {});
  EXPECT_EQ(chosen.status().code(), Code::internal);
}

TEST(DeviceChoice, cpuAsksNobody) {
  Cards cards;
  auto chosen =
      chooseDevice(cards.makers(), "cpu", planFor(DeviceKind::cuda), {});
  ASSERT_TRUE(chosen.ok());
  EXPECT_EQ(cards.asked, 99u);
}

TEST(DevicePlugin, aLibraryThatIsNotThereIsUnsuitable) {
  auto plugin = openDevicePlugin("libpeft_nowhere.so", "PEFT_NOWHERE_PLUGIN");
  ASSERT_FALSE(plugin.ok());
  EXPECT_EQ(plugin.status().code(), Code::unsuitable);
  EXPECT_EQ(plugin.status().message(),
            "there is no libpeft_nowhere.so beside peft-run; `ninja -C "
            "build/release` builds it where the CUDA 13 toolkit is");
}
