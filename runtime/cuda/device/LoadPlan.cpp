//===- LoadPlan.cpp - the CUDA device: loading a plan ---------------------===//
#include "Answer.h"
#include "CudaDevice.h"
#include "peft/KernelSpec.h"

#include <numeric>

namespace peft::cuda {

/// Compute capability of the first cards that multiply bf16.
constexpr int leastForBf16 = 80;

Status CudaDevice::load(const Plan &source, WeightBytes weightBytes) {
  if (plan)
    return internalError("a device is loaded once");
  uint64_t ranks = uint64_t(source.shard) * source.tensorParallel;
  if (ranks != 1)
    return Status::error(Code::unsuitable, "the plan was made for " +
                                               std::to_string(ranks) +
                                               " ranks; this version runs one");
  if (source.compute == DType::bf16 && card.capability < leastForBf16)
    return Status::error(Code::unsuitable,
                         card.describe() +
                             ": has no bf16, in which the plan computes; "
                             "compile with --compute f16 or f32");
  plan = &source;
  weights = weightBytes;
  times.resize(allKernels().size());
  highWater.resize(source.arenas.size());
  return keep(loadAll().in(card.describe()));
}

Status CudaDevice::loadAll() {
  int device = static_cast<int>(card.index);
  cudaDeviceProp properties{};
  PEFT_CUDA(cudaGetDeviceProperties(&properties, device));
  PEFT_ASSIGN(uint64_t free, freeBytes());
  cardBytes = properties.totalGlobalMem;
  usedBefore = cardBytes - std::min<uint64_t>(free, cardBytes);
  PEFT_TRY(openLibraries());
  PEFT_ASSIGN(DeviceTotals totals, deviceTotals(*plan, &attention));
  PEFT_ASSIGN(uint64_t unused, freeBytes());
  PEFT_TRY(checkFits(*plan, totals, unused));
  PEFT_TRY(allocate());
  PEFT_TRY(queue.create(*plan));
  PEFT_TRY(staging.create());
  PEFT_TRY(returns.create(faults));
  PEFT_TRY(uploadWeights());
  PEFT_TRY(bindPrograms());
  PEFT_TRY(dryRun());
  PEFT_TRY(captureEntries());
  PEFT_CUDA(cudaStreamSynchronize(queue.main()));
  PEFT_ASSIGN(uint64_t left, freeBytes());
  uint64_t blocks = totals.all() + faults.size() + tableBlock.size();
  besideBlocks = free > left + blocks ? free - left - blocks : 0;
  return {};
}

/// Libraries decide before anything is allocated: the workspaces depend on it.
Status CudaDevice::openLibraries() {
  PEFT_ASSIGN(libraries, Libraries::create());
  std::string missing;
  if (options.attention == AttentionMode::fast ||
      wantsAttentionLibrary(*plan, options.attention)) {
    auto opened = openAttentionLibrary();
    if (opened.ok())
      attentionLibrary = std::move(*opened);
    else if (opened.status().code() == Code::unsuitable)
      missing = opened.status().message();
    else
      return opened.status();
  }
  if (options.tuning) {
    PEFT_TRY(checkTuning(*options.tuning, card.name, libraries->name(),
                         attentionLibrary ? attentionLibrary->name() : ""));
    libraries->tuning = options.tuning.get();
  }
  PEFT_ASSIGN(attention, AttentionChoices::make(
                             *plan, attentionLibrary.get(), missing,
                             options.attention, options.tuning.get()));
  return {};
}

Status CudaDevice::allocate() {
  for (size_t i = 0; i < plan->arenas.size(); ++i) {
    const Arena &arena = plan->arenas[i];
    PEFT_ASSIGN(Block block, Block::create(arena.space, arena.size,
                                           "arena " + std::to_string(i)));
    arenas.push_back(std::move(block));
  }
  weightLayout = layOutWeights(*plan);
  PEFT_ASSIGN(weightBlock, Block::create(Space::device, weightLayout.bytes,
                                         "mapped weights"));
  PEFT_ASSIGN(std::vector<uint64_t> needs, scratchBytes(*plan, &attention));
  for (uint64_t bytes : needs) {
    PEFT_ASSIGN(Block block, Block::create(Space::device, bytes, "scratch"));
    scratch.push_back(std::move(block));
  }
  faultOwners = cuda::faultOwners(*plan);
  uint64_t slots = faultOwners.size() * sizeof(FaultSlot);
  PEFT_ASSIGN(faults, Block::create(Space::device, slots, "fault slots"));
  PEFT_ASSIGN(faultMirror, Block::create(Space::pinned, slots, "fault slots"));
  return {};
}

/// The bytes of mapped weights, in the order of the plan, through two pinned
/// halves: the files are read while the card copies.
Status CudaDevice::uploadWeights() {
  for (size_t i = 0; i < plan->buffers.size(); ++i) {
    const Buffer &buffer = plan->buffers[i];
    if (buffer.arena != none)
      continue;
    const Weight &weight = plan->weights[buffer.weight];
    std::span<const std::byte> bytes = weights[buffer.weight];
    if (!weight.slices.empty()) {
      const Slice &slice = weight.slices.front();
      uint64_t row = bytes.size() / weight.shape[0];
      bytes = bytes.subspan(slice.start * row);
    }
    PEFT_TRY(staging.write(queue.main(),
                           weightBlock.data() + weightLayout.offsets[i],
                           bytes.first(buffer.size)));
  }
  return {};
}

Status CudaDevice::bindPrograms() {
  Places places;
  places.plan = plan;
  places.arenas = arenas;
  places.weights = weightBlock.data();
  places.weightLayout = &weightLayout;
  places.scratch = &scratch;
  places.faults = reinterpret_cast<FaultSlot *>(faults.data());
  places.faultOwners = faultOwners;
  places.libraries = libraries.get();
  places.attention = &attention;
  for (uint32_t i = 0; i < plan->entries.size(); ++i) {
    auto program = BoundProgram::build(places, i, tables);
    if (!program.ok())
      return program.status().in("entry '" + plan->entries[i].name + "'");
    programs.push_back(std::move(*program));
  }
  PEFT_ASSIGN(tableBlock, Block::create(Space::device, tables.bytes.size(),
                                        "tables of merged launches"));
  tables.base = tableBlock.data();
  return staging.write(queue.main(), tables.base, tables.bytes);
}

namespace {

/// Lets every step run, whatever its predicate says, and waits for it, so that an
/// error is that of the step.
class EachStep final : public StepObserver {
public:
  bool entersClosedBlocks() const override { return true; }
  Status after(const BoundStep &step, cudaStream_t stream) override {
    PEFT_CUDA(cudaStreamSynchronize(stream));
    return {};
  }
};

} // namespace

/// Runs every entry once on zeros. The driver loads code when it is first needed;
/// so all of it is on the card before anything is recorded, nothing is loaded or
/// allocated in a step, and a launch that does not work is named here. (Loading
/// modules as a whole would bring all of the libraries' code, too.) Then
/// everything is zero again.
Status CudaDevice::dryRun() {
  EachStep each;
  for (uint32_t i = 0; i < plan->entries.size(); ++i)
    PEFT_TRY(queue.enqueue(*plan, i, *programs[i], each));
  for (Block *block : {&faults})
    PEFT_CUDA(cudaMemsetAsync(block->data(), 0, block->size(), queue.main()));
  for (const Block &arena : arenas)
    if (arena.size() && arena.space() != Space::pageable)
      PEFT_CUDA(cudaMemsetAsync(arena.data(), 0, arena.size(), queue.main()));
  PEFT_CUDA(cudaStreamSynchronize(queue.main()));
  return {};
}

Status CudaDevice::captureEntries() {
  graphs.resize(plan->entries.size());
  if (mode == RunMode::direct)
    return {};
  for (uint32_t i = 0; i < plan->entries.size(); ++i)
    if (Status captured =
            queue.capture(*plan, i, *programs[i], faultCopy(), graphs[i]);
        !captured.ok()) {
      // The driver crashes when it is asked to end a broken recording.
      abandon();
      return captured;
    }
  return {};
}

//===----------------------------------------------------------------------===//
// The ledger
//===----------------------------------------------------------------------===//

std::vector<std::string> CudaDevice::notes() const {
  std::vector<std::string> lines;
  for (const std::string &line : attention.describe())
    lines.push_back("attention: " + line);
  if (size_t own = libraries->ownCount())
    lines.push_back("products: " + std::to_string(own) + " of " +
                    std::to_string(libraries->choices.size()) +
                    " shapes by our own kernel, which is slower: " +
                    libraries->name() + " has no algorithm for them");
  if (options.tuning)
    lines.push_back("products: " + std::to_string(libraries->tunedCount()) +
                    " of " + std::to_string(libraries->choices.size()) +
                    " shapes as measured by peft-run --tune");
  return lines;
}

std::vector<LedgerRow> CudaDevice::ledger() const {
  std::vector<LedgerRow> rows;
  auto add = [&](std::string name, uint64_t planned, uint64_t measured,
                 bool onDevice = true) {
    if (planned || measured)
      rows.push_back({std::move(name), planned, measured, onDevice});
  };
  for (size_t i = 0; i < arenas.size(); ++i)
    if (plan->arenas[i].space != Space::pageable)
      add("arena " + std::to_string(i), plan->arenas[i].size, arenas[i].size(),
          plan->arenas[i].space == Space::device);
  add("mapped weights, copied to the card", 0, weightBlock.size());
  uint64_t scratchSum = 0;
  for (const Block &block : scratch)
    scratchSum += block.size();
  add("library workspaces outside the plan", 0, scratchSum);
  add("tables and fault slots", 0, tableBlock.size() + faults.size());
  if (attentionLibrary)
    add("of the workspaces, what " + attentionLibrary->name() + " uses", 0,
        attention.libraryBytes());
  add("code, libraries and graphs", 0, besideBlocks);
  add("in use before: context and other programs", 0, usedBefore);
  add("staging", 0,
      staging.bytes() + faultMirror.size() + returns.pinnedBytes(), false);
  return rows;
}

} // namespace peft::cuda
