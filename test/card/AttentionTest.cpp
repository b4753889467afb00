//===- AttentionTest.cpp - attention by a library, on the test card -------===//
//
// The library of the test card computes in double (HostAttention.cpp), so what
// it did differs from what our own kernel does by rounding, and only by that.
//
//===----------------------------------------------------------------------===//
#include "AttentionPlan.h"

#include "peft/CpuDevice.h"
#include "peft/DevicePlugin.h"

#include <cmath>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <gtest/gtest.h>
#include <map>

using namespace peft;
using namespace peft::test;

namespace {

Expected<std::unique_ptr<Device>> openCard(const DeviceOptions &options = {}) {
  PEFT_ASSIGN(const DevicePlugin *plugin,
              openDevicePlugin("libpeft_card.so", "PEFT_CARD_PLUGIN"));
  return plugin->create(0, options);
}

DeviceOptions with(AttentionMode mode) {
  DeviceOptions options;
  options.attention = mode;
  return options;
}
DeviceOptions with(const Tuning &tuning) {
  DeviceOptions options;
  options.tuning = std::make_shared<const Tuning>(tuning);
  return options;
}

void check(const Status &status) {
  ASSERT_TRUE(status.ok()) << status.message();
}

/// A variable of the environment while it lives.
struct Setting {
  Setting(const char *name, const char *value) : name(name) {
    ::setenv(name, value, 1);
  }
  ~Setting() { ::unsetenv(name); }
  const char *name;
};

enum class Rows { whole, packed, padded };

/// What a device makes of the plan. The device is gone afterwards: the test card
/// has no memory for a second one.
class Trial {
public:
  using Look = std::function<void(Device &device)>;

  /// `look` sees the device when both entries have run.
  Trial(const AttentionSizes &sizes, Expected<std::unique_ptr<Device>> opened,
        Rows rows, const Look &look = {}, int32_t gate = 1)
      : plan(attentionPlan(sizes)), device(std::move(*opened)) {
    run(sizes, rows, gate);
    if (status.ok() && look)
      look(*device);
    device = nullptr;
  }

  const std::vector<std::byte> &bytes(const std::string &name) const {
    return outputs.at(name);
  }

  std::vector<double> values(const char *name) const {
    const std::vector<std::byte> &raw = bytes(name);
    std::vector<double> values;
    if (plan.buffers[find(name)].dtype == DType::f32)
      for (size_t i = 0; i < raw.size(); i += 4) {
        float value = 0;
        std::memcpy(&value, &raw[i], 4);
        values.push_back(value);
      }
    else // bf16
      for (size_t i = 0; i < raw.size(); i += 2) {
        uint32_t bits = 0;
        std::memcpy(reinterpret_cast<char *>(&bits) + 2, &raw[i], 2);
        float value = 0;
        std::memcpy(&value, &bits, 4);
        values.push_back(value);
      }
    return values;
  }

  Status status;
  std::vector<std::string> notes;
  std::vector<LedgerRow> ledger;

private:
  void run(const AttentionSizes &sizes, Rows rows, int32_t gate) {
    status = device->load(plan, {});
    if (!status.ok())
      return;
    for (const char *name : {"q", "k", "v", "d_o"})
      fill(name);
    std::vector<int32_t> segments(sizes.rows(), 3);
    for (uint64_t i = 0; i < segments.size(); ++i) {
      const uint64_t at = i % sizes.seq;
      if (rows == Rows::packed)
        segments[i] = at < sizes.seq / 3 ? 1 : 2;
      // Only the last row, and only its last position.
      if (rows == Rows::padded && i + 1 == segments.size())
        segments[i] = -1;
    }
    write("segments", std::as_bytes(std::span(segments)));
    if (sizes.predicated)
      write("gate", std::as_bytes(std::span(&gate, 1)));
    for (uint32_t entry : {0, 1})
      check(device->run(entry));
    check(device->finish());
    for (const char *name : {"o", "lse", "dq", "dk", "dv"}) {
      std::vector<std::byte> &bytes = outputs[name];
      bytes.resize(plan.buffers[find(name)].size);
      check(device->read(find(name), 0, bytes));
    }
    notes = device->notes();
    ledger = device->ledger();
  }
  uint32_t find(const std::string &name) const {
    for (uint32_t i = 0; i < plan.buffers.size(); ++i)
      if (plan.buffers[i].name == name)
        return i;
    ADD_FAILURE() << "no buffer " << name;
    return 0;
  }
  void write(const std::string &name, std::span<const std::byte> bytes) {
    check(device->write(find(name), 0, bytes));
  }
  void fill(const std::string &name) {
    const Buffer &buffer = plan.buffers[find(name)];
    std::vector<std::byte> bytes(buffer.size);
    for (uint64_t i = 0; i < buffer.size / 2; ++i) {
      const float value = std::sin(float(i * 7 + name[0] * 31));
      uint32_t bits = 0;
      std::memcpy(&bits, &value, 4);
      const auto upper = static_cast<uint16_t>(bits >> 16);
      std::memcpy(&bytes[2 * i], &upper, 2);
    }
    write(name, bytes);
  }

  Plan plan;
  std::unique_ptr<Device> device;
  std::map<std::string, std::vector<std::byte>> outputs;
};

constexpr const char *results[] = {"o", "lse", "dq", "dk", "dv"};

void expectNear(const Trial &found, const Trial &expected) {
  for (const char *name : results) {
    const std::vector<double> a = found.values(name), b = expected.values(name);
    double most = 0;
    for (double value : b)
      most = std::max(most, std::fabs(value));
    for (size_t i = 0; i < a.size(); ++i)
      ASSERT_NEAR(a[i], b[i], 1.5e-2 * most) << name << " at " << i;
  }
}

bool same(const Trial &a, const Trial &b) {
  for (const char *name : results)
    if (a.bytes(name) != b.bytes(name))
      return false;
  return true;
}

} // namespace

TEST(LibraryAttention, givesWhatTheCpuGives) {
  for (Rows rows : {Rows::whole, Rows::packed, Rows::padded})
    for (const AttentionSizes &sizes :
         {AttentionSizes{}, {.batch = 1, .seq = 130, .window = 40},
          {.batch = 3, .seq = 33, .heads = 2, .segments = false}}) {
      Trial card(sizes, openCard(), rows);
      Trial cpu(sizes, createCpuDevice({}), rows);
      check(card.status);
      check(cpu.status);
      expectNear(card, cpu);
    }
}

TEST(LibraryAttention, runsIffItsPredicateIsOpen) {
  for (bool segments : {false, true})
    for (const char *mode : {"graph", "direct"})
      for (int32_t gate : {0, 1}) {
        Setting setting("PEFT_CUDA", mode);
        const AttentionSizes sizes{.segments = segments, .predicated = true};
        Trial card(sizes, openCard(), Rows::whole, {}, gate);
        Trial cpu(sizes, createCpuDevice({}), Rows::whole, {}, gate);
        check(card.status);
        check(cpu.status);
        expectNear(card, cpu);
        for (double value : card.values("o"))
          if (!gate)
            EXPECT_EQ(value, 0) << mode;
      }
}

/// Our own kernel does what the library cannot, with the bits it always has.
TEST(LibraryAttention, runsOnlyWhenEveryRowIsOneSegment) {
  for (Rows rows : {Rows::whole, Rows::packed, Rows::padded})
    for (const char *mode : {"graph", "direct"}) {
      Setting setting("PEFT_CUDA", mode);
      Trial planned({}, openCard(), rows);
      Trial own({}, openCard(with(AttentionMode::own)), rows);
      check(planned.status);
      EXPECT_EQ(same(planned, own), rows != Rows::whole) << mode;
    }
}

TEST(LibraryAttention, isLeftOutWhereItAsksForMoreThanThePlanReserves) {
  Setting setting("PEFT_CARD_ATTENTION_BYTES", "100000000");
  Trial planned({}, openCard(), Rows::whole);
  Trial own({}, openCard(with(AttentionMode::own)), Rows::whole);
  check(planned.status);
  EXPECT_TRUE(same(planned, own));
  ASSERT_EQ(planned.notes.size(), 2u);
  EXPECT_EQ(planned.notes[0].find(
                "attention: 1 x attention_fwd by our own kernel: host "
                "attention 1.0 asks for a workspace of 95.4 MiB, the plan "
                "reserves 0.0 MiB"),
            0u)
      << planned.notes[0];
  for (const LedgerRow &row : planned.ledger)
    EXPECT_EQ(row.name.find("workspaces"), std::string::npos) << row.name;
}

TEST(LibraryAttention, aMissingLibraryIsSaidAndNotNeeded) {
  Setting setting("PEFT_CARD_ATTENTION", "none");
  Trial planned({}, openCard(), Rows::whole);
  check(planned.status);
  EXPECT_EQ(planned.notes[0],
            "attention: 1 x attention_fwd by our own kernel: the test card has "
            "no attention library");
  Trial fast({}, openCard(with(AttentionMode::fast)), Rows::whole);
  EXPECT_EQ(fast.status.code(), Code::unsuitable);
}

/// Asked for, it gets memory beside the plan, and the ledger says so.
TEST(LibraryAttention, fastTakesMemoryBesideThePlan) {
  Setting setting("PEFT_CARD_ATTENTION_BYTES", "10000000");
  const AttentionSizes sizes{.engine = 0};
  Trial fast(sizes, openCard(with(AttentionMode::fast)), Rows::whole);
  Trial cpu(sizes, createCpuDevice({}), Rows::whole);
  check(fast.status);
  expectNear(fast, cpu);
  uint64_t used = 0, scratch = 0;
  for (const LedgerRow &row : fast.ledger) {
    if (row.name == "of the workspaces, what host attention 1.0 uses")
      used = row.measuredBytes;
    if (row.name == "library workspaces outside the plan")
      scratch = row.measuredBytes;
  }
  EXPECT_EQ(used, 10000000u);
  EXPECT_GT(scratch, 10000000u);
}

TEST(LibraryAttention, isCountedAndTimedOnce) {
  Trial card({}, openCard(), Rows::whole, [](Device &device) {
    EXPECT_EQ(device.schedule(0).launches, 1u);
    check(device.timeKernels(0));
    ASSERT_EQ(device.kernelTimes().size(), 1u);
    EXPECT_EQ(device.kernelTimes()[0].launches, 1u);
    std::vector<ItemTime> times;
    check(device.trace(1, times));
    ASSERT_EQ(times.size(), 1u);
    EXPECT_GT(times[0].end, times[0].begin);
  });
  check(card.status);
}

TEST(Tuning, measuresBothEnginesAndIsUsedAgain) {
  // Small: everything is repeated many times.
  const AttentionSizes sizes{.seq = 9, .heads = 2, .headDim = 8};
  Expected<Tuning> tuning = Tuning();
  Trial card(sizes, openCard(), Rows::whole,
             [&](Device &device) { tuning = device.tune(); });
  check(card.status);
  ASSERT_TRUE(tuning.ok()) << tuning.status().message();
  EXPECT_EQ(tuning->card, "test card");
  EXPECT_EQ(tuning->attentionLibrary, "host attention 1.0");
  ASSERT_EQ(tuning->attentions.size(), 2u);
  for (TunedAttention &attention : tuning->attentions) {
    EXPECT_GT(attention.ownSeconds, 0);
    EXPECT_EQ(attention.byLibrary,
              attention.librarySeconds <= attention.ownSeconds);
    attention.byLibrary = false;
  }
  Trial own(sizes, openCard(with(AttentionMode::own)), Rows::whole);
  Trial tuned(sizes, openCard(with(*tuning)), Rows::whole);
  check(tuned.status);
  EXPECT_TRUE(same(tuned, own));
}

TEST(Tuning, ofAnotherCardOrLibraryIsRefused) {
  const Tuning here{"test card", "host products 1.0", "host attention 1.0",
                    {}, {TunedAttention{}}};
  for (std::string Tuning::*field :
       {&Tuning::card, &Tuning::productLibrary, &Tuning::attentionLibrary}) {
    Tuning other = here;
    other.*field = "another";
    Trial run({}, openCard(with(other)),
            Rows::whole);
    EXPECT_EQ(run.status.code(), Code::unsuitable);
    for (const std::string &part : {std::string("another"), here.*field,
                                    std::string("peft-run --tune")})
      EXPECT_NE(run.status.message().find(part), std::string::npos)
          << run.status.message();
  }
  Trial run({}, openCard(with(here)),
          Rows::whole);
  check(run.status);
  EXPECT_EQ(createCpuDevice(with(here))
                .status()
                .code(),
            Code::usage);
  EXPECT_EQ(
      createCpuDevice(with(AttentionMode::fast)).status().code(),
      Code::usage);
}
