//===- CudaDevice.h - the CUDA device ---------------------------*- C++ -*-===//
#ifndef PEFT_CUDA_DEVICE_CUDADEVICE_H
#define PEFT_CUDA_DEVICE_CUDADEVICE_H

#include "Bound.h"
#include "Card.h"
#include "Queue.h"
#include "Returns.h"
#include "Staging.h"
#include "cuda/library/Libraries.h"
#include "peft/Device.h"

namespace peft::cuda {

/// When a step ran, in seconds since its entry began.
struct TimedStep {
  const BoundStep *step = nullptr;
  double begin = 0, end = 0;
};

/// How entries run: as graphs, or (PEFT_CUDA=direct) step by step, each waited
/// for, so that an error names the launch it comes from.
enum class RunMode : uint8_t { graph, direct };

class CudaDevice final : public Device {
public:
  CudaDevice(Card card, RunMode mode, const DeviceOptions &options)
      : card(std::move(card)), mode(mode), options(options) {}
  ~CudaDevice() override;

  Status load(const Plan &plan, WeightBytes weights) override;
  Status run(uint32_t entry) override;
  Status finish() override;
  bool worksAhead() const override { return mode == RunMode::graph; }
  Status replay(uint32_t entry,
                std::span<const std::string_view> kernels) override;
  Status timeKernels(uint32_t entry) override;
  Status trace(uint32_t entry, std::vector<ItemTime> &times) override;
  Status write(uint32_t buffer, uint64_t offset,
               std::span<const std::byte> bytes) override;
  Status read(uint32_t buffer, uint64_t offset,
              std::span<std::byte> bytes) const override;
  Status post(unsigned slot, uint32_t buffer, uint64_t size) override;
  Status collect(unsigned slot, std::span<std::byte> bytes) override;
  MemoryUse memoryUse() const override;
  std::vector<LedgerRow> ledger() const override;
  ScheduleReport schedule(uint32_t entry) const override;
  std::vector<std::string> notes() const override;
  Expected<Tuning> tune() override;
  std::vector<KernelTime> kernelTimes() const override;
  unsigned threads() const override { return 1; }
  Machine machine() const override;
  std::string description() const override { return card.describe(); }

private:
  Status loadAll();
  Status openLibraries();
  Status allocate();
  Status uploadWeights();
  Status bindPrograms();
  Status dryRun();
  Status captureEntries();
  Status runDirect(uint32_t entry, StepObserver &observer);
  Status runTimed(uint32_t entry, std::vector<TimedStep> &steps);
  Status checkFaults() const;
  Status checkFaults(const FaultSlot *slots) const;
  Status checkRange(uint32_t buffer, uint64_t offset, uint64_t size) const;
  void touch(uint32_t arena, uint64_t end) {
    highWater[arena] = std::max(highWater[arena], end);
  }
  BoundStep faultCopy() const;
  void abandon();

  /// Keeps the first error: from then on the card is left alone.
  Status keep(Status status) const;

  struct KernelTotal {
    uint64_t launches = 0;
    double seconds = 0;
  };

  Card card;
  RunMode mode;
  DeviceOptions options;
  const Plan *plan = nullptr;
  WeightBytes weights;
  WeightLayout weightLayout;
  std::vector<FaultOwner> faultOwners;
  std::vector<Block> arenas;
  Block weightBlock, faults, faultMirror, tableBlock;
  std::vector<Block> scratch; ///< by stream
  Tables tables;
  mutable Staging staging;
  Returns returns;
  Queue queue;
  std::unique_ptr<Libraries> libraries;
  std::unique_ptr<AttentionLibrary> attentionLibrary; ///< null: not used
  AttentionChoices attention;
  std::vector<std::unique_ptr<BoundProgram>> programs; ///< by entry
  std::vector<cudaGraphExec_t> graphs;                 ///< by entry
  std::vector<uint64_t> highWater;                     ///< by arena
  std::vector<KernelTotal> times;                      ///< by kernel
  uint64_t cardBytes = 0;    ///< all memory of the card
  uint64_t usedBefore = 0;   ///< bytes of the card in use before the plan
  uint64_t besideBlocks = 0; ///< what loading took besides our blocks
  mutable Status broken;
};

} // namespace peft::cuda

#endif // PEFT_CUDA_DEVICE_CUDADEVICE_H
