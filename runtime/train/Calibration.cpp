//===- Calibration.cpp - peft-run --calibrate -----------------------------===//
//
// Every figure is the mean over a stretch of time, not the best of several: the
// rate that a device keeps up when it is warm.
//
//===----------------------------------------------------------------------===//
#include "Calibration.h"

#include "CalibrationPlan.h"
#include "DeviceName.h"
#include "SelfCheck.h"
#include "Trainer.h"
#include "peft/File.h"
#include "peft/Json.h"

#include <algorithm>
#include <cstring>

using namespace peft;

namespace {
/// Where a stretch ends, and how long a product runs before it counts.
constexpr double stretchSeconds = 0.4, warmSeconds = 0.1;

class Calibration {
public:
  Calibration(const RunOptions &options, const DeviceFactory &makeDevice,
              Console &console)
      : options(options), makeDevice(makeDevice), console(console) {}

  Status run();

private:
  /// Makes the device and loads `plan`, which must stay.
  Status open(const Plan &plan);
  /// Seconds of one run of an entry.
  Expected<double> secondsOf(uint32_t entry);
  Status fill(const Plan &plan, uint32_t buffer);

  Status chooseShapes();
  Status firstLook();
  Status measureType(DType type);
  Status measureMemory();
  Status measureLaunches();
  Status measureTransfers();
  Status write();
  void say(const std::string &what, double value, const char *unit);
  /// Bytes of an array that no cache holds, of which a small card has several.
  uint64_t arrayBytes() const;

  const RunOptions &options;
  const DeviceFactory &makeDevice;
  Console &console;
  CalibrationTarget target;
  std::vector<Product> products;
  std::unique_ptr<Device> device;
  Machine machine;
  std::string description, shapesFrom;
  std::vector<std::pair<DType, double>> rates;
  std::vector<std::string> notes;
  double memoryRate = 0, hostRate = 0, launchSeconds = 0;
  uint64_t allowance = residentAllowance;
};

std::string numberText(double value) {
  Line line;
  line << value;
  return std::string(line.view());
}
} // namespace

void Calibration::say(const std::string &what, double value,
                      const char *unit) {
  Line line;
  line.scientific(value, 3) << " " << unit;
  console.print("", what + ": " + std::string(line.view()));
  notes.push_back(what + ": " + std::string(line.view()));
}

Status Calibration::open(const Plan &plan) {
  device.reset(); // two plans may not fit at once
  DeviceOptions wanted;
  wanted.threads = options.threads;
  PEFT_ASSIGN(ChosenDevice chosen, makeDevice(options.device, plan, wanted));
  device = std::move(chosen.device);
  return device->load(plan, {});
}

Expected<double> Calibration::secondsOf(uint32_t entry) {
  auto runFor = [&](double least, uint64_t &runs) -> Expected<double> {
    double start = monotonicSeconds(), elapsed = 0;
    uint64_t batch = 1;
    for (runs = 0; elapsed < least; batch *= 2) {
      for (uint64_t i = 0; i < batch; ++i)
        PEFT_TRY(device->run(entry));
      PEFT_TRY(device->finish());
      runs += batch;
      elapsed = monotonicSeconds() - start;
    }
    return elapsed;
  };
  uint64_t runs = 0;
  PEFT_TRY(runFor(warmSeconds, runs).status());
  PEFT_ASSIGN(double seconds, runFor(stretchSeconds, runs));
  return seconds / static_cast<double>(runs);
}

/// Numbers in [-1, 1): products of zeros take less power, and so run faster on
/// a card that its power limits.
Status Calibration::fill(const Plan &plan, uint32_t buffer) {
  const Buffer &target = plan.buffers[buffer];
  std::vector<std::byte> block(std::min<uint64_t>(target.size, 1 << 24));
  uint32_t state = buffer + 1;
  for (size_t i = 0; i + 4 <= block.size(); i += 4) {
    state = state * 1664525 + 1013904223;
    // A sign, an exponent of 2^-1 and random digits; in 16-bit types two.
    uint32_t bits = 0x3f000000u | (state & 0x807fffffu);
    if (target.dtype == DType::bf16)
      bits = 0x3f003f00u | (state & 0x807f807fu);
    if (target.dtype == DType::f16)
      bits = 0x38003800u | (state & 0x83ff83ffu);
    std::memcpy(&block[i], &bits, 4);
  }
  for (uint64_t done = 0; done < target.size; done += block.size())
    PEFT_TRY(device->write(
        buffer, done,
        std::span(block).first(
            std::min<uint64_t>(block.size(), target.size - done))));
  return {};
}

//===----------------------------------------------------------------------===//
// What is measured
//===----------------------------------------------------------------------===//

Status Calibration::chooseShapes() {
  PEFT_ASSIGN(DeviceName name, parseDeviceName(options.device));
  target.kind = name.kind == DeviceName::Kind::cpu ? DeviceKind::cpu
                                                   : DeviceKind::cuda;
  target.maxThreads = std::max(target.maxThreads, options.threads);
  PEFT_TRY(firstLook());
  products = usualProducts(machine.kind);
  shapesFrom = "shapes of a common model";
  if (options.plan.empty())
    return {};
  PEFT_ASSIGN(Plan plan, loadPlan(options.plan));
  if (plan.findEntry("micro_step") == none)
    return badInput(options.plan + ": it has no entry micro_step");
  products = productsOf(plan);
  if (products.empty())
    return badInput(options.plan + ": it has no matrix products");
  shapesFrom = "shapes of " + options.plan;
  return {};
}

/// Which device it is. What it holds beside a plan is known after a product
/// ran, when its libraries are loaded.
Status Calibration::firstLook() {
  PEFT_ASSIGN(Plan plan, productPlan(target, {false, 64, 64, 64, 1}, DType::f32,
                                     1));
  PEFT_TRY(open(plan));
  PEFT_TRY(device->run(0));
  PEFT_TRY(device->finish());
  machine = device->machine();
  description = device->description();
  // auto may have found no card.
  target.kind = machine.kind;
  uint64_t beside = 0;
  for (const LedgerRow &row : device->ledger())
    if (row.onDevice && row.plannedBytes == 0)
      beside += row.measuredBytes;
  if (beside)
    allowance = beside;
  device.reset();
  return {};
}

Status Calibration::measureType(DType type) {
  double operations = 0, seconds = 0;
  for (const Product &product : products) {
    constexpr unsigned repeats = 4;
    PEFT_ASSIGN(Plan plan, productPlan(target, product, type, repeats));
    PEFT_TRY(open(plan));
    PEFT_TRY(fill(plan, 0));
    PEFT_TRY(fill(plan, 1));
    PEFT_ASSIGN(double took, secondsOf(0));
    took /= repeats;
    device.reset();
    say(std::string(name(type)) + ", " + product.describe(),
        product.operations() / took, "operations/s");
    double count = static_cast<double>(product.count);
    operations += count * product.operations();
    seconds += count * took;
  }
  rates.emplace_back(type, operations / seconds);
  return {};
}

uint64_t Calibration::arrayBytes() const {
  uint64_t most = machine.kind == DeviceKind::cpu ? 128 << 20 : 256 << 20;
  return std::min(most, machine.memoryBytes / 64);
}

Status Calibration::measureMemory() {
  uint64_t elements = arrayBytes() / 4;
  PEFT_ASSIGN(Plan plan, additionPlan(target, elements, 1));
  PEFT_TRY(open(plan));
  PEFT_TRY(fill(plan, 0));
  PEFT_TRY(fill(plan, 1));
  PEFT_ASSIGN(double took, secondsOf(0));
  device.reset();
  memoryRate = 3 * 4 * static_cast<double>(elements) / took;
  say("own memory, a sum of two arrays", memoryRate, "bytes/s");
  return {};
}

Status Calibration::measureLaunches() {
  constexpr unsigned count = 1000;
  PEFT_ASSIGN(Plan plan, additionPlan(target, 64, count));
  PEFT_TRY(open(plan));
  PEFT_ASSIGN(double took, secondsOf(0));
  device.reset();
  launchSeconds = took / count;
  say("a launch that does nothing much", launchSeconds, "s");
  return {};
}

Status Calibration::measureTransfers() {
  if (machine.kind == DeviceKind::cpu)
    return {};
  uint64_t bytes = arrayBytes();
  PEFT_ASSIGN(Plan plan, transferPlan(target, bytes));
  PEFT_TRY(open(plan));
  double each[3]; // entries of the plan
  for (uint32_t entry = 0; entry < 3; ++entry) {
    PEFT_ASSIGN(each[entry], secondsOf(entry));
  }
  device.reset();
  double size = static_cast<double>(bytes);
  say("host to card", size / each[0], "bytes/s");
  say("card to host", size / each[1], "bytes/s");
  say("both at once, together", 2 * size / each[2], "bytes/s");
  hostRate = size / std::max(each[0], each[1]);
  return {};
}

//===----------------------------------------------------------------------===//
// The file
//===----------------------------------------------------------------------===//

/// Letters, digits and .-_ of the file's name, without its ending.
static std::string targetName(const std::string &path) {
  std::string name = fileName(path);
  if (size_t dot = name.rfind('.'); dot != std::string::npos && dot > 0)
    name.erase(dot);
  for (char &letter : name)
    if (!std::isalnum(static_cast<unsigned char>(letter)) && letter != '.' &&
        letter != '_')
      letter = '-';
  return name;
}

Status Calibration::write() {
  bool card = machine.kind == DeviceKind::cuda;
  std::string text = "{\n  \"name\": " + quoteJson(targetName(options.output)) +
                     ",\n  \"description\": " + quoteJson(description) +
                     ",\n  \"kind\": " + (card ? "\"cuda\"" : "\"cpu\"");
  if (card)
    text += ",\n  \"compute_capability\": \"" +
            std::to_string(machine.capability / 10) + "." +
            std::to_string(machine.capability % 10) + "\"";
  text += ",\n  \"memory_bytes\": " + std::to_string(machine.memoryBytes) +
          ",\n  \"allowance_bytes\": " + std::to_string(allowance) +
          ",\n  \"flops\": {";
  for (const auto &[type, rate] : rates)
    text += std::string(type == rates.front().first ? "" : ", ") + "\"" +
            std::string(name(type)) + "\": " + numberText(rate);
  text += "},\n  \"memory_bytes_per_second\": " + numberText(memoryRate);
  if (card)
    text += ",\n  \"host_bytes_per_second\": " + numberText(hostRate);
  text += ",\n  \"launch_seconds\": " + numberText(launchSeconds) +
          ",\n  \"source\": [\n    " +
          quoteJson("measured by peft-run --calibrate, " + shapesFrom);
  for (const std::string &note : notes)
    text += ",\n    " + quoteJson(note);
  return writeFileAtomically(options.output, text + "\n  ]\n}\n");
}

Status Calibration::run() {
  PEFT_TRY(chooseShapes());
  console.print("device", description);
  // Cards before Ampere multiply no bf16.
  bool brain = machine.kind == DeviceKind::cpu || machine.capability >= 80;
  for (DType type : {DType::f32, DType::bf16, DType::f16})
    if (type != DType::bf16 || brain)
      PEFT_TRY(measureType(type));
  PEFT_TRY(measureMemory());
  PEFT_TRY(measureLaunches());
  PEFT_TRY(measureTransfers());
  PEFT_TRY(write());
  console.print("wrote", options.output + ": peftc compile --target " +
                             options.output);
  return {};
}

Status peft::calibrate(const RunOptions &options,
                       const DeviceFactory &makeDevice, Console &console) {
  return Calibration(options, makeDevice, console).run();
}
