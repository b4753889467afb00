//===- Tune.cpp - the CUDA device: measuring candidates -------------------===//
//
// The only place where time decides. Every candidate runs where the plan runs
// it: on the operands and in the workspace of the first launch of its shape.
//
//===----------------------------------------------------------------------===//
#include "Answer.h"
#include "CudaDevice.h"
#include "LibraryAttention.h"
#include "cuda/library/Multiply.h"
#include "peft/KernelSpec.h"

#include <algorithm>
#include <limits>
#include <set>

namespace peft::cuda {

namespace {

/// Two events, left to the process after an error of the device.
class Stopwatch {
public:
  explicit Stopwatch(const Status &broken) : broken(broken) {}
  ~Stopwatch() {
    if (!broken.ok())
      return;
    for (cudaEvent_t event : {begin, end})
      if (event)
        (void)cudaEventDestroy(event);
  }
  Status create() {
    PEFT_CUDA(cudaEventCreate(&begin));
    PEFT_CUDA(cudaEventCreate(&end));
    return {};
  }

  /// Seconds of one `work`, which enqueues on `stream`: the least of some
  /// rounds, since what disturbs only makes longer.
  template <typename Work>
  Expected<double> time(cudaStream_t stream, const Work &work) {
    constexpr int rounds = 4;
    constexpr double roundSeconds = 0.01;
    PEFT_TRY(work()); // code is loaded, clocks go up
    double least = std::numeric_limits<double>::max();
    int repeats = 1;
    for (int round = 0; round < rounds; ++round) {
      PEFT_CUDA(cudaEventRecord(begin, stream));
      for (int i = 0; i < repeats; ++i)
        PEFT_TRY(work());
      PEFT_CUDA(cudaEventRecord(end, stream));
      PEFT_CUDA(cudaEventSynchronize(end));
      float milliseconds = 0;
      PEFT_CUDA(cudaEventElapsedTime(&milliseconds, begin, end));
      const double seconds = 1e-3 * static_cast<double>(milliseconds) / repeats;
      if (round > 0) // the first only says how often to repeat
        least = std::min(least, seconds);
      repeats = static_cast<int>(
          std::clamp(roundSeconds / std::max(seconds, 1e-7), 1.0, 50.0));
    }
    return least;
  }

private:
  const Status &broken;
  cudaEvent_t begin = nullptr, end = nullptr;
};

TunedProduct describe(const ProductShape &shape) {
  TunedProduct tuned;
  tuned.rows = shape.rows;
  tuned.columns = shape.columns;
  tuned.depth = shape.depth;
  tuned.in = shape.in;
  tuned.out = shape.out;
  tuned.leftTransposed = shape.leftTransposed;
  tuned.rightTransposed = shape.rightTransposed;
  tuned.addend = shape.addend;
  tuned.bias = shape.bias;
  tuned.workspaceBytes = shape.workspaceBytes;
  return tuned;
}

/// Measures the steps of programs, each shape once.
class Tuner {
public:
  Tuner(Libraries &libraries, cudaStream_t stream, Tuning &tuning,
        const Status &broken)
      : libraries(libraries), stream(stream), tuning(tuning), watch(broken) {}

  Status create() { return watch.create(); }
  Status addLinear(const BoundStep &step);
  Status addAttention(const BoundStep &step, const AttentionChoice &choice);

private:
  Status addProduct(const Call &call, const Product &product,
                    const LibraryArea &area);

  Libraries &libraries;
  cudaStream_t stream;
  Tuning &tuning;
  Stopwatch watch;
  std::set<ProductShape> products;
  std::set<AttentionProblem> problems;
};

Status Tuner::addProduct(const Call &call, const Product &product,
                         const LibraryArea &area) {
  const ProductShape shape = shapeOf(product, area.bytes);
  if (!products.insert(shape).second)
    return {};
  PEFT_ASSIGN(std::vector<ProductChoice> candidates,
              libraries.candidates(shape, mostCandidates));
  if (candidates.empty())
    return {};
  ProductChoice &chosen = libraries.choices[shape];
  const ProductChoice before = chosen;
  TunedProduct best = describe(shape);
  for (const ProductChoice &candidate : candidates) {
    chosen = candidate;
    PEFT_ASSIGN(double seconds, watch.time(stream, [&] {
      return multiply(call, product, area);
    }));
    if (candidate.candidate == 0)
      best.firstSeconds = seconds;
    if (candidate.candidate == 0 || seconds < best.seconds) {
      best.candidate = candidate.candidate;
      best.algorithm = candidate.description;
      best.seconds = seconds;
    }
  }
  chosen = before;
  tuning.products.push_back(best);
  return {};
}

Status Tuner::addLinear(const BoundStep &step) {
  Call call = step.call;
  call.stream = stream;
  PEFT_ASSIGN(LinearWork work, describeLinear(step.kernel, call));
  PEFT_ASSIGN(LibraryArea area, libraryArea(call, work));
  for (const LinearStep &part : work.steps)
    if (part.kind == LinearStep::Kind::product)
      PEFT_TRY(addProduct(call, part.product, area));
  return {};
}

Status Tuner::addAttention(const BoundStep &step,
                           const AttentionChoice &choice) {
  const AttentionProblem &problem = choice.problem;
  if (!problems.insert(problem).second)
    return {};
  Call call = step.call;
  call.stream = stream;
  call.gate = {};
  TunedAttention tuned;
  tuned.backward = problem.backward;
  tuned.deterministic = problem.deterministic;
  tuned.type = problem.type;
  tuned.batch = problem.batch;
  tuned.seq = problem.seq;
  tuned.heads = problem.heads;
  tuned.kvHeads = problem.kvHeads;
  tuned.headDim = problem.headDim;
  tuned.window = problem.window;
  PEFT_ASSIGN(tuned.ownSeconds, watch.time(stream, [&] {
    return findFunction(step.kernel)(call);
  }));
  PEFT_ASSIGN(tuned.librarySeconds, watch.time(stream, [&] {
    return runLibraryAttention(call, choice);
  }));
  tuned.byLibrary = tuned.librarySeconds <= tuned.ownSeconds;
  tuning.attentions.push_back(tuned);
  return {};
}

} // namespace

Expected<Tuning> CudaDevice::tune() {
  PEFT_TRY(finish());
  Tuning tuning;
  tuning.card = card.name;
  tuning.productLibrary = libraries->name();
  if (attentionLibrary)
    tuning.attentionLibrary = attentionLibrary->name();
  Tuner tuner(*libraries, queue.main(), tuning, broken);
  PEFT_TRY(keep(tuner.create()));
  for (uint32_t entry = 0; entry < programs.size(); ++entry)
    for (const BoundBlock &block : programs[entry]->blocks)
      for (const BoundStep &step : block.steps) {
        if (step.kind != ProgramStep::Kind::launch)
          continue;
        Status status;
        if (isLinear(step.kernel))
          status = tuner.addLinear(step);
        else if (const AttentionChoice *choice =
                     attention.find(entry, step.item);
                 choice && choice->graph)
          status = tuner.addAttention(step, *choice);
        PEFT_TRY(keep(
            status.in(describeItem(plan->entries[entry], step.item))));
      }
  PEFT_TRY(finish());
  return tuning;
}

} // namespace peft::cuda
