//===- LearningRate.cpp - the rate of each optimizer step -----------------===//
#include "LearningRate.h"

#include <algorithm>
#include <cmath>
#include <numbers>

using namespace peft;

double peft::rateFactor(Schedule schedule, uint64_t step, uint64_t warmup,
                        uint64_t steps) {
  double now = static_cast<double>(step), rise = static_cast<double>(warmup);
  if (step < warmup)
    return now / std::max(1.0, rise);
  if (schedule == Schedule::constant)
    return 1;
  double length = std::max(1.0, static_cast<double>(steps) - rise);
  if (schedule == Schedule::linear)
    return std::max(0.0, (static_cast<double>(steps) - now) / length);
  double progress = (now - rise) / length;
  return std::max(0.0, 0.5 * (1 + std::cos(std::numbers::pi * progress)));
}
