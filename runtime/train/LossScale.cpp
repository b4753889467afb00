//===- LossScale.cpp - the loss scale of a plan in f16 --------------------===//
#include "LossScale.h"

using namespace peft;

float peft::firstLossScale(uint64_t tokens) {
  float scale = 0x1p16f;
  // Down as long as 2^16 / tokens is below the middle of scale / 2 and scale.
  while (scale > 1 && static_cast<double>(tokens) * (0.75 * scale) > 0x1p16)
    scale /= 2;
  return scale;
}

Status LossScale::choose(uint64_t tokens) {
  current = firstLossScale(tokens);
  return executor.writeScalar("loss_scale", static_cast<double>(current));
}

Status LossScale::read() {
  if (!present)
    return {};
  return executor.readOutput("loss_scale", std::span<float>(&current, 1));
}

Expected<bool> LossScale::proceeds() const {
  if (!present)
    return false;
  int32_t proceed = 0;
  PEFT_TRY(executor.readOutput("proceed", std::span<int32_t>(&proceed, 1)));
  return proceed > 0;
}
