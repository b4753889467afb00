//===- CpuDevice.cpp - the CPU device -------------------------------------===//
#include "peft/CpuDevice.h"

#include "cpu/AccessGuard.h"
#include "cpu/CpuProgram.h"
#include "cpu/FlushDenormals.h"
#include "cpu/ThreadPool.h"
#include "peft/Schedule.h"

#include <algorithm>
#include <chrono>
#include <cstring>
#include <numeric>
#include <sched.h>
#include <unistd.h>

namespace peft {

namespace {

using namespace cpu;

class CpuDevice final : public Device {
public:
  CpuDevice(const DeviceOptions &options, Path path)
      : options(options), path(path), times(allKernels().size()) {}

  Status load(const Plan &plan, WeightBytes weights) override;
  Status run(uint32_t entry) override;
  Status replay(uint32_t entry,
                std::span<const std::string_view> kernels) override;
  Status trace(uint32_t entry, std::vector<ItemTime> &times) override;
  Status write(uint32_t buffer, uint64_t offset,
               std::span<const std::byte> bytes) override;
  Status read(uint32_t buffer, uint64_t offset,
              std::span<std::byte> bytes) const override;
  MemoryUse memoryUse() const override;
  ScheduleReport schedule(uint32_t entry) const override {
    return schedules[entry];
  }
  std::vector<KernelTime> kernelTimes() const override;
  unsigned threads() const override { return pool ? pool->size() : 0; }
  Machine machine() const override;
  std::string description() const override;

private:
  Status startThreads();
  Status buildPrograms();
  Status fault(uint32_t entry, const Step &step, const Fault &fault) const;
  Status checkRange(uint32_t buffer, uint64_t offset, uint64_t size) const;
  void touch(uint32_t arena, uint64_t end) {
    highWater[arena] = std::max(highWater[arena], end);
  }
  Addresses addresses() const { return {*plan, arenas, weights}; }

  struct KernelTotal {
    uint64_t launches = 0;
    std::chrono::steady_clock::duration time{};
  };

  DeviceOptions options;
  Path path;
  const Plan *plan = nullptr;
  WeightBytes weights;
  std::unique_ptr<ThreadPool> pool;
  std::vector<CpuArena> arenas;
  std::vector<CpuProgram> programs;      ///< by entry
  std::vector<ScheduleReport> schedules; ///< by entry
  std::vector<uint64_t> highWater;       ///< by arena
  std::vector<KernelTotal> times;        ///< by kernel
};

} // namespace

//===----------------------------------------------------------------------===//
// Loading
//===----------------------------------------------------------------------===//

/// How many processors this process may use.
static unsigned availableThreads() {
  cpu_set_t set;
  CPU_ZERO(&set);
  if (::sched_getaffinity(0, sizeof set, &set) != 0)
    return 1;
  return std::max(1, CPU_COUNT(&set));
}

Status CpuDevice::startThreads() {
  if (options.threads > plan->maxThreads)
    return usageError("--threads " + std::to_string(options.threads) +
                      " is more than the plan was made for, " +
                      std::to_string(plan->maxThreads));
  unsigned count = options.threads
                       ? options.threads
                       : std::min(availableThreads(), plan->maxThreads);
  pool = std::make_unique<ThreadPool>(count);
  if (pool->size() < options.threads)
    return Status::error(Code::unsuitable,
                         "the system starts only " +
                             std::to_string(pool->size()) + " of " +
                             std::to_string(options.threads) +
                             " threads; ask for fewer with --threads");
  return {};
}

Status CpuDevice::buildPrograms() {
  for (uint32_t i = 0; i < plan->entries.size(); ++i) {
    std::vector<uint32_t> order(plan->entries[i].items.size());
    std::iota(order.begin(), order.end(), 0);
    if (options.scheduleSeed)
      order =
          drawSchedule(*plan, i, *options.scheduleSeed, options.scheduleMode);
    schedules.push_back(compareSchedule(plan->entries[i], order));
    Expected<CpuProgram> program =
        CpuProgram::build(addresses(), i, order, path, *pool);
    if (!program.ok())
      return program.status().in("entry '" + plan->entries[i].name + "'");
    programs.push_back(std::move(*program));
  }
  return {};
}

Status CpuDevice::load(const Plan &source, WeightBytes weightBytes) {
  if (plan)
    return internalError("a device is loaded once");
  uint64_t ranks = uint64_t(source.shard) * source.tensorParallel;
  if (ranks != 1)
    return Status::error(Code::unsuitable, "the plan was made for " +
                                               std::to_string(ranks) +
                                               " ranks; this version runs one");
  plan = &source;
  weights = weightBytes;
  PEFT_TRY(startThreads());
  for (const Arena &arena : source.arenas) {
    PEFT_ASSIGN(CpuArena memory, CpuArena::create(arena.size));
    arenas.push_back(std::move(memory));
  }
  highWater.resize(arenas.size());
  return buildPrograms();
}

//===----------------------------------------------------------------------===//
// Running
//===----------------------------------------------------------------------===//

Status CpuDevice::fault(uint32_t entry, const Step &step,
                        const Fault &fault) const {
  const Entry &source = plan->entries[entry];
  return badInput("entry '" + source.name +
                  "': " + describeItem(source, step.item) + ": " + fault.text +
                  ": found " + std::to_string(fault.found) + ", limit " +
                  std::to_string(fault.limit));
}

Status CpuDevice::run(uint32_t entry) {
  FlushDenormals flush;
  AccessGuard guard(arenas);
  const CpuProgram &program = programs[entry];
  auto last = std::chrono::steady_clock::now();
  for (const Step &step : program.steps()) {
    guard.allow(program.accesses(step));
    if (!step.enabled())
      continue;
    for (uint32_t arena = 0; arena < arenas.size(); ++arena)
      touch(arena, step.ends[arena]);
    if (!step.function) {
      std::memcpy(step.destination, step.source, step.size);
      last = std::chrono::steady_clock::now();
      continue;
    }
    if (Fault found = step.function(step.call))
      return fault(entry, step, found);
    auto now = std::chrono::steady_clock::now();
    times[step.kernel].time += now - last;
    ++times[step.kernel].launches;
    last = now;
  }
  return {};
}

Status CpuDevice::replay(uint32_t entry,
                         std::span<const std::string_view> kernels) {
  FlushDenormals flush;
  for (const Step &step : programs[entry].steps()) {
    if (!step.function || !step.enabled())
      continue;
    std::string_view name = allKernels()[step.kernel].name;
    if (std::find(kernels.begin(), kernels.end(), name) == kernels.end())
      continue;
    if (Fault found = step.function(step.call))
      return fault(entry, step, found);
  }
  return {};
}

Status CpuDevice::trace(uint32_t entry, std::vector<ItemTime> &found) {
  FlushDenormals flush;
  using Clock = std::chrono::steady_clock;
  const Clock::time_point start = Clock::now();
  auto elapsed = [&] {
    return std::chrono::duration<double>(Clock::now() - start).count();
  };
  found.clear();
  for (const Step &step : programs[entry].steps()) {
    if (!step.enabled())
      continue;
    for (uint32_t arena = 0; arena < arenas.size(); ++arena)
      touch(arena, step.ends[arena]);
    double begin = elapsed();
    if (!step.function)
      std::memcpy(step.destination, step.source, step.size);
    else if (Fault broken = step.function(step.call))
      return fault(entry, step, broken);
    found.push_back({step.item, begin, elapsed()});
  }
  return {};
}

//===----------------------------------------------------------------------===//
// The host's side
//===----------------------------------------------------------------------===//

Status CpuDevice::checkRange(uint32_t buffer, uint64_t offset,
                             uint64_t size) const {
  if (buffer >= plan->buffers.size())
    return internalError("there is no buffer " + std::to_string(buffer));
  const Buffer &found = plan->buffers[buffer];
  if (offset > found.size || size > found.size - offset)
    return internalError("bytes [" + std::to_string(offset) + ", +" +
                         std::to_string(size) + ") are not inside buffer '" +
                         found.name + "'");
  return {};
}

Status CpuDevice::write(uint32_t buffer, uint64_t offset,
                        std::span<const std::byte> bytes) {
  PEFT_TRY(checkRange(buffer, offset, bytes.size()));
  const Buffer &target = plan->buffers[buffer];
  if (target.arena == none)
    return internalError("buffer '" + target.name + "' is a mapped weight");
  if (bytes.empty())
    return {};
  std::memcpy(addresses().of(buffer) + offset, bytes.data(), bytes.size());
  touch(target.arena, target.offset + offset + bytes.size());
  return {};
}

Status CpuDevice::read(uint32_t buffer, uint64_t offset,
                       std::span<std::byte> bytes) const {
  PEFT_TRY(checkRange(buffer, offset, bytes.size()));
  if (!bytes.empty())
    std::memcpy(bytes.data(), addresses().of(buffer) + offset, bytes.size());
  return {};
}

MemoryUse CpuDevice::memoryUse() const {
  MemoryUse use;
  for (size_t i = 0; i < arenas.size(); ++i) {
    const bool scratch = plan->arenas[i].space != Space::device;
    (scratch ? use.scratchBytes : use.arenaBytes) += plan->arenas[i].size;
    (scratch ? use.scratchHighWaterBytes : use.highWaterBytes) += highWater[i];
    use.residentBytes += arenas[i].residentBytes();
  }
  return use;
}

std::vector<KernelTime> CpuDevice::kernelTimes() const {
  std::vector<KernelTime> rows;
  for (size_t i = 0; i < times.size(); ++i)
    if (times[i].launches)
      rows.push_back({allKernels()[i].name, times[i].launches,
                      std::chrono::duration<double>(times[i].time).count()});
  std::sort(rows.begin(), rows.end(),
            [](const KernelTime &a, const KernelTime &b) {
              return a.seconds > b.seconds;
            });
  return rows;
}

Machine CpuDevice::machine() const {
  return {DeviceKind::cpu, "cpu", 0,
          static_cast<uint64_t>(::sysconf(_SC_PHYS_PAGES)) *
              static_cast<uint64_t>(::sysconf(_SC_PAGESIZE))};
}

std::string CpuDevice::description() const {
  constexpr const char *names[] = {"plain", "avx2", "avx512", "avx512bf16"};
  return std::string("cpu, ") + names[static_cast<size_t>(path)] + ", " +
         std::to_string(threads()) + (threads() == 1 ? " thread" : " threads");
}

Expected<std::unique_ptr<Device>>
createCpuDevice(const DeviceOptions &options) {
  if (options.attention == AttentionMode::fast)
    return usageError("--attention fast is for a card's library, and this run "
                      "is on the CPU; leave it out, or give --device cuda");
  if (options.tuning)
    return usageError("--tuned is for a card's libraries, and this run is on "
                      "the CPU; leave it out, or give --device cuda");
  PEFT_ASSIGN(Path path, choosePath());
  return std::unique_ptr<Device>(new CpuDevice(options, path));
}

} // namespace peft
