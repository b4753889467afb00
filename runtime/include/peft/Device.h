//===- Device.h - what executes a plan --------------------------*- C++ -*-===//
//
// The executor knows devices only through this class. A device owns the arenas
// of one plan; addresses are fixed when it is loaded, and from then on nothing
// is allocated: `run`, `write` and `read` make no system call for memory.
//
// A device may work ahead: `run` and `write` put work into one queue and `read`
// and `finish` wait for it. What the host reads is always what it would have
// read without the queue; only an error may be reported by a later call.
//
//===----------------------------------------------------------------------===//
#ifndef PEFT_DEVICE_H
#define PEFT_DEVICE_H

#include "peft/Plan.h"
#include "peft/Status.h"
#include "peft/Tuning.h"

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace peft {

/// How a device may deviate from file order. The results never change.
enum class ScheduleMode : uint8_t {
  interleave = 0, ///< streams interleave as far as their waits allow
  shuffle,        ///< also launches of one stream, as far as their bytes allow
};

/// Who computes attention on a card.
enum class AttentionMode : uint8_t {
  planned = 0, ///< the engine that the plan names, where the card has it
  own,         ///< always our own kernel
  fast,        ///< its library wherever it can, although bits may then differ
               ///< from run to run; memory beside the plan
};

/// What peft-run calls it; empty for what it does unasked.
constexpr std::string_view name(AttentionMode mode) {
  return mode == AttentionMode::own    ? "own"
         : mode == AttentionMode::fast ? "fast"
                                       : "";
}

struct DeviceOptions {
  /// 0: as many as this process may use, at most the plan's maxThreads. More
  /// than the plan's maxThreads is an error (usage).
  unsigned threads = 0;
  /// Without a seed items run in file order.
  std::optional<uint64_t> scheduleSeed;
  ScheduleMode scheduleMode = ScheduleMode::shuffle;
  /// The CPU device refuses `fast` (usage): nothing there is faster.
  AttentionMode attention = AttentionMode::planned;
  /// Measured choices instead of the libraries' first ones; null: none. The
  /// CPU device refuses them (usage). Those of another card or of another
  /// version of a library are an error of `load` (unsuitable).
  std::shared_ptr<const Tuning> tuning;
};

struct MemoryUse {
  uint64_t arenaBytes = 0; ///< the arenas of the plan's device, as it says
  /// Highest end of any byte range that was used since load by an executed
  /// item, an initialiser or the host; summed over these arenas.
  uint64_t highWaterBytes = 0;
  /// The same of the arenas in host memory that this device has: the scratch of
  /// the CPU device in a plan for a card.
  uint64_t scratchBytes = 0, scratchHighWaterBytes = 0;
  uint64_t residentBytes = 0; ///< pages of all arenas that are in memory now
};

/// The order an entry runs in, against file order.
struct ScheduleReport {
  uint64_t launches = 0;
  uint64_t moved = 0; ///< launches whose place among the launches changed
};

/// Time spent in one kernel since load.
struct KernelTime {
  std::string_view kernel; ///< of kernels.def; lives for ever
  uint64_t launches = 0;   ///< executed ones
  double seconds = 0;
};

/// When a launch or a copy of an entry ran.
struct ItemTime {
  uint32_t item = 0;         ///< of the entry
  double begin = 0, end = 0; ///< seconds since the entry began
};

/// What a description of this machine says that nobody can measure.
struct Machine {
  DeviceKind kind = DeviceKind::cpu;
  std::string name;         ///< "NVIDIA H200"
  int capability = 0;       ///< of a card: 90 for 9.0
  uint64_t memoryBytes = 0; ///< all that this process can see
};

/// Bytes that a device holds for one purpose.
struct LedgerRow {
  std::string name;          ///< "arena 0 (device)"
  uint64_t plannedBytes = 0; ///< as the plan says; 0: the plan has no say
  uint64_t measuredBytes = 0;
  bool onDevice = true; ///< false: memory of the host
};

/// The bytes of every weight of a plan, by index into Plan::weights.
using WeightBytes = std::span<const std::span<const std::byte>>;

class Device {
public:
  virtual ~Device();

  /// Reserves the arenas (zero bytes) and resolves every launch. `plan` must
  /// have been verified; it and the bytes of `weights` must outlive the device.
  /// Called once. Errors: usage (threads), doesNotFit, unsuitable, badInput.
  virtual Status load(const Plan &plan, WeightBytes weights) = 0;

  /// Executes one entry. A kernel that finds an index outside its table is an
  /// error badInput, whose message names entry, item, kernel and module, of
  /// this call or of a later one.
  virtual Status run(uint32_t entry) = 0;
  /// Whether `run` may return before the entry is done, so that reading costs
  /// the time until it is. Results are then better posted and collected later.
  virtual bool worksAhead() const { return false; }
  /// Waits until everything is done. Errors: those of all that ran.
  virtual Status finish() { return {}; }

  /// Copies to or from `offset` of a buffer that lies in an arena (reading
  /// works for mapped weights too). Errors: internal (range or read-only
  /// buffer).
  virtual Status write(uint32_t buffer, uint64_t offset,
                       std::span<const std::byte> bytes) = 0;
  virtual Status read(uint32_t buffer, uint64_t offset,
                      std::span<std::byte> bytes) const = 0;

  /// How many results can be on their way to the host, and how large each is at
  /// most.
  static constexpr unsigned returnSlots = 2;
  static constexpr uint64_t returnBytes = 64;
  /// Puts the first `size` bytes of a buffer aside as they are when everything
  /// asked for so far is done. Errors: internal (no such slot, too large).
  virtual Status post(unsigned slot, uint32_t buffer, uint64_t size);
  /// The bytes that were posted last in `slot`. Waits for what was asked for
  /// before them and for nothing since. Errors: those of what stood before;
  /// internal (not as many bytes as were posted).
  virtual Status collect(unsigned slot, std::span<std::byte> bytes);

  /// Runs only the launches of `entry` whose kernel is in `kernels`, in order:
  /// for measurements. The contents of the entry's buffers mean nothing then.
  virtual Status replay(uint32_t entry,
                        std::span<const std::string_view> kernels) = 0;

  /// Runs `entry` once more so that kernelTimes knows its kernels: for devices
  /// that cannot time kernels while they run at full speed.
  virtual Status timeKernels(uint32_t entry) { return {}; }

  /// Runs `entry` once more and sets `times` to when its launches and copies
  /// ran, in the order of their beginning: for measurements, as it allocates.
  /// What a closed predicate skips may be missing. Launches that the device
  /// runs as one share its time evenly.
  virtual Status trace(uint32_t entry, std::vector<ItemTime> &times) = 0;

  virtual MemoryUse memoryUse() const = 0;
  /// What the device holds beside host memory of the process; empty for a
  /// device that has no memory of its own.
  virtual std::vector<LedgerRow> ledger() const { return {}; }
  virtual ScheduleReport schedule(uint32_t entry) const = 0;
  /// For people: what was decided when the plan was loaded, a line each.
  virtual std::vector<std::string> notes() const { return {}; }
  /// Measures every candidate of the device's libraries for what the plan asks
  /// of them, on whatever the buffers hold; the contents of all buffers mean
  /// nothing then. Error unsuitable: the device has no libraries.
  virtual Expected<Tuning> tune();
  /// By kernel, the slowest first; kernels that never ran are left out.
  virtual std::vector<KernelTime> kernelTimes() const = 0;
  virtual unsigned threads() const = 0;
  virtual Machine machine() const = 0;
  /// For people: "cpu, avx512bf16, 2 threads".
  virtual std::string description() const = 0;

private:
  struct Returned {
    std::array<std::byte, returnBytes> bytes;
    uint64_t size = 0;
  };
  std::array<Returned, returnSlots> returned;
};

} // namespace peft

#endif // PEFT_DEVICE_H
