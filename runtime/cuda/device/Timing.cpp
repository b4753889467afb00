//===- Timing.cpp - the CUDA device: when launches run --------------------===//
//
// Times are those of events around every launch, outside graphs: what the card
// needs for each, with the gaps of launches that the host enqueues one by one.
//
//===----------------------------------------------------------------------===//
#include "Answer.h"
#include "CudaDevice.h"

#include <algorithm>
#include <map>

namespace peft::cuda {

namespace {

/// Puts an event before and after every launch and copy. After an error of the
/// device, which `broken` tells, its events are left to the process.
class TimingObserver final : public StepObserver {
public:
  explicit TimingObserver(const Status &broken) : broken(broken) {}
  ~TimingObserver() override {
    if (!broken.ok())
      return;
    for (Timed &timed : all)
      for (cudaEvent_t event : {timed.begin, timed.end})
        if (event)
          (void)cudaEventDestroy(event);
    if (start)
      (void)cudaEventDestroy(start);
  }

  /// The moment that times count from.
  Status begin(cudaStream_t stream) {
    PEFT_CUDA(cudaEventCreate(&start));
    PEFT_CUDA(cudaEventRecord(start, stream));
    return {};
  }
  Status before(const BoundStep &step, cudaStream_t stream) override {
    if (!takesTime(step))
      return {};
    Timed &timed = all.emplace_back();
    timed.step = &step;
    PEFT_CUDA(cudaEventCreate(&timed.begin));
    PEFT_CUDA(cudaEventCreate(&timed.end));
    PEFT_CUDA(cudaEventRecord(timed.begin, stream));
    return {};
  }
  Status after(const BoundStep &step, cudaStream_t stream) override {
    if (takesTime(step))
      PEFT_CUDA(cudaEventRecord(all.back().end, stream));
    return {};
  }

  /// When everything is done.
  Status collect(std::vector<TimedStep> &steps) const {
    steps.clear();
    for (const Timed &timed : all) {
      float begin = 0, length = 0; // milliseconds
      PEFT_CUDA(cudaEventElapsedTime(&begin, start, timed.begin));
      PEFT_CUDA(cudaEventElapsedTime(&length, timed.begin, timed.end));
      double from = 1e-3 * static_cast<double>(begin);
      steps.push_back(
          {timed.step, from, from + 1e-3 * static_cast<double>(length)});
    }
    return {};
  }

private:
  struct Timed {
    const BoundStep *step = nullptr;
    cudaEvent_t begin = nullptr, end = nullptr;
  };
  static bool takesTime(const BoundStep &step) {
    return step.kind == ProgramStep::Kind::launch ||
           step.kind == ProgramStep::Kind::copy;
  }

  const Status &broken;
  std::vector<Timed> all;
  cudaEvent_t start = nullptr;
};

} // namespace

Status CudaDevice::runTimed(uint32_t entry, std::vector<TimedStep> &steps) {
  PEFT_TRY(broken);
  TimingObserver timing(broken);
  PEFT_TRY(keep(timing.begin(queue.main())));
  PEFT_TRY(keep(runDirect(entry, timing)));
  PEFT_TRY(finish());
  return keep(timing.collect(steps));
}

Status CudaDevice::timeKernels(uint32_t entry) {
  std::vector<TimedStep> steps;
  PEFT_TRY(runTimed(entry, steps));
  for (const TimedStep &timed : steps) {
    if (timed.step->kind != ProgramStep::Kind::launch)
      continue;
    times[timed.step->kernel].seconds += timed.end - timed.begin;
    times[timed.step->kernel].launches += timed.step->launches;
  }
  return {};
}

Status CudaDevice::trace(uint32_t entry, std::vector<ItemTime> &found) {
  std::vector<TimedStep> steps;
  PEFT_TRY(runTimed(entry, steps));
  found.clear();
  std::map<uint32_t, size_t> places; // by item: several steps may be of one
  for (const TimedStep &timed : steps) {
    const std::vector<uint32_t> &items = timed.step->items;
    double part = (timed.end - timed.begin) / static_cast<double>(items.size());
    for (size_t i = 0; i < items.size(); ++i) {
      double begin = timed.begin + part * static_cast<double>(i);
      auto [place, added] = places.emplace(items[i], found.size());
      if (added)
        found.push_back({items[i], begin, begin + part});
      else
        found[place->second].end =
            std::max(found[place->second].end, begin + part);
    }
  }
  std::stable_sort(found.begin(), found.end(),
                   [](const ItemTime &a, const ItemTime &b) {
                     return a.begin < b.begin;
                   });
  return {};
}

Machine CudaDevice::machine() const {
  return {DeviceKind::cuda, card.name, card.capability, cardBytes};
}

} // namespace peft::cuda
