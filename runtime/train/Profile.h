//===- Profile.h - where the time of a step went ----------------*- C++ -*-===//
#ifndef PEFT_TRAIN_PROFILE_H
#define PEFT_TRAIN_PROFILE_H

#include "Console.h"
#include "peft/Executor.h"

#include <array>

namespace peft {

/// The durations of the latest steps, kept without allocation.
class StepTimes {
public:
  void add(double seconds) { ring[count++ % ring.size()] = seconds; }
  /// Seconds; 0 without any step.
  double median() const;

private:
  std::array<double, 255> ring;
  uint64_t count = 0;
};

struct Profile {
  double stepSeconds = 0; ///< median
  double coreSeconds = 0; ///< GEMM and attention launches alone, median
  double ratio() const {
    return coreSeconds > 0 ? stepSeconds / coreSeconds : 0;
  }
};

/// Replays the GEMM and attention launches of a step of `gradAccum`
/// micro-batches, with nothing between them, and prints the time by kernel. The
/// gradient sums mean nothing afterwards; trained tensors stay.
Expected<Profile> profileSteps(Executor &executor, const StepTimes &times,
                               uint32_t gradAccum, Console &console);

} // namespace peft

#endif // PEFT_TRAIN_PROFILE_H
