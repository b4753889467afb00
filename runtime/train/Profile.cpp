//===- Profile.cpp - where the time of a step went ------------------------===//
#include "Profile.h"

#include "Trainer.h"

#include <algorithm>

using namespace peft;

namespace {
constexpr std::string_view coreKernels[] = {
    "linear_fwd",     "linear_lora_fwd", "linear_dx",
    "linear_lora_dx", "linear_dw",       "lora_down_fwd",
    "lora_down_dw",   "attention_fwd",   "attention_bwd",
    "lora_down_group_fwd"};

double medianOf(std::span<double> values) {
  if (values.empty())
    return 0;
  std::ranges::sort(values);
  return values[values.size() / 2];
}

void printKernels(const Executor &executor, Console &console) {
  std::vector<KernelTime> kernels = executor.device().kernelTimes();
  double total = 0;
  for (const KernelTime &kernel : kernels)
    total += kernel.seconds;
  for (const KernelTime &kernel : kernels) {
    Line line;
    line << "  ";
    line.fixed(total > 0 ? 100 * kernel.seconds / total : 0, 1)
        << " %  " << kernel.kernel;
    line.padTo(32);
    line << kernel.launches << " launches, ";
    line.fixed(1e6 * kernel.seconds / static_cast<double>(kernel.launches), 1)
        << " us each";
    console.print("", line.view());
  }
}
} // namespace

double StepTimes::median() const {
  std::array<double, 255> sorted = ring;
  return medianOf(
      std::span(sorted).first(std::min<uint64_t>(count, sorted.size())));
}

Expected<Profile> peft::profileSteps(Executor &executor, const StepTimes &times,
                                     uint32_t gradAccum, Console &console) {
  uint32_t entry = executor.plan().findEntry("micro_step");
  std::array<double, 7> repeats;
  for (double &seconds : repeats) {
    double start = monotonicSeconds();
    PEFT_TRY(executor.device().replay(entry, coreKernels));
    PEFT_TRY(executor.device().finish());
    seconds = (monotonicSeconds() - start) * gradAccum;
  }
  for (const char *name : {"micro_step", "update"})
    PEFT_TRY(executor.device().timeKernels(executor.plan().findEntry(name)));
  Profile profile{times.median(), medianOf(repeats)};
  Line line;
  line.fixed(profile.stepSeconds, 4) << " s a step; its GEMM and attention "
                                        "launches alone ";
  line.fixed(profile.coreSeconds, 4) << " s: ";
  line.fixed(profile.ratio(), 3) << " x";
  console.print("profile", line.view());
  printKernels(executor, console);
  return profile;
}
