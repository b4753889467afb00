//===- CudaDevice.cpp - the CUDA device: running --------------------------===//
#include "CudaDevice.h"

#include "Answer.h"
#include "peft/KernelSpec.h"
#include "peft/Schedule.h"

#include <algorithm>
#include <cstring>

namespace peft::cuda {

CudaDevice::~CudaDevice() {
  // Nobody is left to hear of an error. What is enqueued ends before its memory
  // goes.
  if (!graphs.empty())
    (void)cudaStreamSynchronize(queue.main());
  for (cudaGraphExec_t graph : graphs)
    if (graph)
      (void)cudaGraphExecDestroy(graph);
}

void CudaDevice::abandon() {
  graphs.clear();
  queue.abandon();
  staging.abandon();
  returns.abandon();
  for (Block &block : arenas)
    block.abandon();
  for (Block &block : scratch)
    block.abandon();
  for (Block *block : {&weightBlock, &faults, &faultMirror, &tableBlock})
    block->abandon();
  if (libraries)
    libraries->abandoned = true;
  if (attentionLibrary) {
    attentionLibrary->abandon();
    // Freeing a graph calls the driver; it goes with the process.
    (void)new AttentionChoices(attention);
  }
}

/// An error of the driver may be one of an earlier launch, and every later call
/// would only repeat it.
Status CudaDevice::keep(Status status) const {
  if (status.ok())
    return status;
  if (status.code() == Code::internal) {
    const char *hint = mode == RunMode::graph
                           ? "; with PEFT_CUDA=direct the launch it comes "
                             "from is named"
                           : "";
    status = Status::error(status.code(), status.message() + hint);
    const_cast<CudaDevice *>(this)->abandon();
  }
  return broken = status;
}

//===----------------------------------------------------------------------===//
// Faults
//===----------------------------------------------------------------------===//

static const char *textOf(int32_t kind) {
  switch (static_cast<FaultKind>(kind)) {
  case FaultKind::id:
    return "a token id is outside the table";
  case FaultKind::label:
    return "a label is neither -100 nor in the vocabulary";
  case FaultKind::row:
    return "a row index is outside its operand";
  case FaultKind::target:
    return "a target is outside the vocabulary";
  case FaultKind::count:
    return "count is past the end of the index";
  default:
    return "a kernel reports a fault of unknown kind";
  }
}

/// The step that brings the fault slots to the host, behind every entry.
BoundStep CudaDevice::faultCopy() const {
  BoundStep copy;
  copy.kind = ProgramStep::Kind::copy;
  copy.source = faults.data();
  copy.destination = faultMirror.data();
  copy.size = faults.size();
  return copy;
}

/// What the entries that are done have reported.
Status CudaDevice::checkFaults() const {
  return checkFaults(reinterpret_cast<const FaultSlot *>(faultMirror.data()));
}

Status CudaDevice::checkFaults(const FaultSlot *slots) const {
  for (size_t i = 0; i < faultOwners.size(); ++i) {
    if (slots[i].kind == 0)
      continue;
    std::string text = std::string(textOf(slots[i].kind)) + ": found " +
                       std::to_string(slots[i].found) + ", limit " +
                       std::to_string(slots[i].limit);
    const FaultOwner &owner = faultOwners[i];
    if (owner.entry == none)
      return internalError(text + ", in a launch that indexes nothing");
    const Entry &entry = plan->entries[owner.entry];
    return badInput("entry '" + entry.name +
                    "': " + describeItem(entry, owner.item) + ": " + text);
  }
  return {};
}

//===----------------------------------------------------------------------===//
// Running
//===----------------------------------------------------------------------===//

namespace {

/// Waits for every step, so that an error is that of the step.
class WaitingObserver final : public StepObserver {
public:
  Status after(const BoundStep &step, cudaStream_t stream) override {
    if (step.kind == ProgramStep::Kind::launch)
      PEFT_CUDA(cudaStreamSynchronize(stream));
    return {};
  }
};

/// Lets only some kernels run.
class ReplayObserver final : public StepObserver {
public:
  explicit ReplayObserver(std::span<const std::string_view> kernels)
      : kernels(kernels) {}
  bool wants(const BoundStep &step) override {
    return step.kind == ProgramStep::Kind::launch &&
           std::find(kernels.begin(), kernels.end(),
                     allKernels()[step.kernel].name) != kernels.end();
  }

private:
  std::span<const std::string_view> kernels;
};

} // namespace

Status CudaDevice::runDirect(uint32_t entry, StepObserver &observer) {
  PEFT_TRY(queue.enqueue(*plan, entry, *programs[entry], observer));
  BoundStep copy = faultCopy();
  PEFT_CUDA(cudaMemcpyAsync(copy.destination, copy.source, copy.size,
                            cudaMemcpyDefault, queue.main()));
  return {};
}

Status CudaDevice::run(uint32_t entry) {
  PEFT_TRY(broken);
  for (uint32_t arena = 0; arena < arenas.size(); ++arena)
    touch(arena, programs[entry]->ends[arena]);
  if (mode == RunMode::direct) {
    WaitingObserver waiting;
    return keep(runDirect(entry, waiting));
  }
  return keep(answer(cudaGraphLaunch(graphs[entry], queue.main()),
                     "cudaGraphLaunch")
                  .in("entry '" + plan->entries[entry].name + "'"));
}

Status CudaDevice::finish() {
  PEFT_TRY(broken);
  PEFT_TRY(keep(answer(cudaStreamSynchronize(queue.main()),
                       "cudaStreamSynchronize")));
  return keep(checkFaults());
}

Status CudaDevice::replay(uint32_t entry,
                          std::span<const std::string_view> kernels) {
  PEFT_TRY(broken);
  ReplayObserver some(kernels);
  return keep(runDirect(entry, some));
}

//===----------------------------------------------------------------------===//
// The host's side
//===----------------------------------------------------------------------===//

Status CudaDevice::checkRange(uint32_t buffer, uint64_t offset,
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

Status CudaDevice::write(uint32_t buffer, uint64_t offset,
                         std::span<const std::byte> bytes) {
  PEFT_TRY(broken);
  PEFT_TRY(checkRange(buffer, offset, bytes.size()));
  const Buffer &target = plan->buffers[buffer];
  if (target.arena == none)
    return internalError("buffer '" + target.name + "' is a mapped weight");
  if (bytes.empty())
    return {};
  touch(target.arena, target.offset + offset + bytes.size());
  return keep(staging.write(queue.main(),
                            arenas[target.arena].data() + target.offset +
                                offset,
                            bytes));
}

Status CudaDevice::read(uint32_t buffer, uint64_t offset,
                        std::span<std::byte> bytes) const {
  PEFT_TRY(broken);
  PEFT_TRY(checkRange(buffer, offset, bytes.size()));
  if (bytes.empty())
    return {};
  const Buffer &source = plan->buffers[buffer];
  if (source.arena == none) {
    // The file's bytes are the same and nearer.
    const std::byte *from = weights[source.weight].data();
    const Weight &weight = plan->weights[source.weight];
    if (!weight.slices.empty())
      from += weight.slices.front().start *
              (weights[source.weight].size() / weight.shape[0]);
    std::memcpy(bytes.data(), from + offset, bytes.size());
    return {};
  }
  PEFT_TRY(keep(staging.read(
      queue.main(), arenas[source.arena].data() + source.offset + offset,
      bytes)));
  return keep(checkFaults());
}

Status CudaDevice::post(unsigned slot, uint32_t buffer, uint64_t size) {
  PEFT_TRY(broken);
  PEFT_TRY(checkRange(buffer, 0, size));
  const Buffer &source = plan->buffers[buffer];
  if (slot >= returnSlots || size > returnBytes || source.arena == none)
    return internalError("there is no slot " + std::to_string(slot) + " for " +
                         std::to_string(size) + " bytes of buffer '" +
                         source.name + "'");
  return keep(returns.post(queue.main(), slot,
                           arenas[source.arena].data() + source.offset, size));
}

Status CudaDevice::collect(unsigned slot, std::span<std::byte> bytes) {
  PEFT_TRY(broken);
  if (slot >= returnSlots || bytes.size() != returns.bytes(slot).size())
    return internalError("slot " + std::to_string(slot) + " does not hold " +
                         std::to_string(bytes.size()) + " bytes");
  PEFT_TRY(keep(returns.wait(slot)));
  PEFT_TRY(keep(checkFaults(returns.faults(slot))));
  std::memcpy(bytes.data(), returns.bytes(slot).data(), bytes.size());
  return {};
}

MemoryUse CudaDevice::memoryUse() const {
  MemoryUse use;
  for (size_t i = 0; i < arenas.size(); ++i) {
    // Only the CPU device uses pageable arenas.
    if (plan->arenas[i].space == Space::pageable)
      continue;
    use.arenaBytes += plan->arenas[i].size;
    use.highWaterBytes += highWater[i];
    use.residentBytes += plan->arenas[i].size;
  }
  return use;
}

ScheduleReport CudaDevice::schedule(uint32_t entry) const {
  ScheduleReport report;
  for (const BoundBlock &block : programs[entry]->blocks)
    for (const BoundStep &step : block.steps)
      if (step.kind == ProgramStep::Kind::launch)
        report.launches += step.launches;
  return report;
}

std::vector<KernelTime> CudaDevice::kernelTimes() const {
  std::vector<KernelTime> rows;
  for (size_t i = 0; i < times.size(); ++i)
    if (times[i].launches)
      rows.push_back(
          {allKernels()[i].name, times[i].launches, times[i].seconds});
  std::sort(rows.begin(), rows.end(),
            [](const KernelTime &a, const KernelTime &b) {
              return a.seconds > b.seconds;
            });
  return rows;
}

} // namespace peft::cuda
