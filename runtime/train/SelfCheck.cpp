//===- SelfCheck.cpp - peft-run --check -----------------------------------===//
#include "SelfCheck.h"

#include "HostBatch.h"

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <fcntl.h>
#include <unistd.h>

using namespace peft;

// The sanitizer's shadow is resident, too.
#if defined(__SANITIZE_ADDRESS__)
static constexpr bool measuresResident = false;
#elif defined(__has_feature)
static constexpr bool measuresResident = !__has_feature(address_sanitizer);
#else
static constexpr bool measuresResident = true;
#endif

/// Not getrusage: its figure begins with that of the process that started this
/// one.
uint64_t peft::peakResidentBytes() {
  char text[4096] = {};
  int file = ::open("/proc/self/status", O_RDONLY | O_CLOEXEC);
  if (file < 0)
    return 0;
  ssize_t size = ::read(file, text, sizeof text - 1);
  ::close(file);
  const char *line = size > 0 ? std::strstr(text, "VmHWM:") : nullptr;
  return line ? std::strtoull(line + 6, nullptr, 10) * 1024 : 0;
}

uint64_t peft::mappedBytes(const Executor &executor) {
  uint64_t bytes = 0;
  for (std::span<const std::byte> weight : executor.weights().bytes)
    bytes += weight.size();
  return bytes;
}

static uint64_t roundedUp(uint64_t bytes) {
  return (bytes + bufferAlignment - 1) / bufferAlignment * bufferAlignment;
}

uint64_t peft::usedBytes(const MemoryUse &use) {
  return roundedUp(use.highWaterBytes);
}

/// Runs every entry once, all tokens trained, so that all chunks of the head
/// run.
static Status runEntries(Executor &executor) {
  const Plan &plan = executor.plan();
  HostBatch batch(plan);
  const BatchView &view = batch.view();
  for (uint32_t slot = 0; slot < view.rows; ++slot)
    writePaddingRow(view, slot);
  std::fill_n(view.labels, view.rows * view.seq, 0);
  std::fill_n(view.segmentIds, view.rows * view.seq, 0);
  PEFT_TRY(batch.send(executor));
  if (executor.hasPort("loss_scale"))
    PEFT_TRY(executor.writeScalar("loss_scale", 1.0));
  for (const Entry &entry : plan.entries)
    PEFT_TRY(executor.run(entry.name));
  return executor.device().finish();
}

/// What the process holds, when the arenas are part of it.
static Status checkResident(const Executor &executor, const MemoryUse &use,
                            Console &console) {
  uint64_t resident = peakResidentBytes();
  uint64_t most = use.arenaBytes + use.scratchBytes + mappedBytes(executor) +
                  residentAllowance;
  console.print("check", "resident: " + formatBytes(resident) + " of at most " +
                             formatBytes(most));
  if (measuresResident && resident > most)
    return internalError("the process had " + formatBytes(resident) +
                         " resident; the plan allows " + formatBytes(most));
  return {};
}

/// What a device with memory of its own holds, line by line.
static Status checkLedger(const std::vector<LedgerRow> &ledger,
                          Console &console) {
  Status status;
  for (const LedgerRow &row : ledger) {
    std::string text = row.name + ": " + std::to_string(row.measuredBytes) +
                       (row.onDevice ? " bytes" : " bytes of the host");
    bool planned = row.plannedBytes > 0;
    bool same = row.plannedBytes == row.measuredBytes;
    if (planned)
      text += ", planned " + std::to_string(row.plannedBytes);
    console.print("check", text + (planned && same ? ", the same" : ""));
    if (planned && !same && status.ok())
      status = internalError(row.name + " has " +
                             std::to_string(row.measuredBytes) +
                             " bytes; the plan says " +
                             std::to_string(row.plannedBytes));
  }
  return status;
}

static Status checkArena(const std::string &name, uint64_t planned,
                         uint64_t highWater, Console &console) {
  uint64_t used = roundedUp(highWater);
  console.print("check", name + ": planned " + std::to_string(planned) +
                             " bytes, used " + std::to_string(used) +
                             (planned == used ? ", the same" : ""));
  if (highWater <= planned)
    return {};
  return internalError("the step used " + std::to_string(highWater) +
                       " bytes of an " + name + " of " +
                       std::to_string(planned));
}

Status peft::checkMemory(Executor &executor, Console &console) {
  PEFT_TRY(runEntries(executor));
  MemoryUse use = executor.device().memoryUse();
  PEFT_TRY(checkArena("arena", use.arenaBytes, use.highWaterBytes, console));
  if (use.scratchBytes)
    PEFT_TRY(checkArena("arena of scratch", use.scratchBytes,
                        use.scratchHighWaterBytes, console));
  std::vector<LedgerRow> ledger = executor.device().ledger();
  return ledger.empty() ? checkResident(executor, use, console)
                        : checkLedger(ledger, console);
}
