//===- RopeConfig.h - reading RoPE's fields ---------------------*- C++ -*-===//
#ifndef PEFT_IO_ROPECONFIG_H
#define PEFT_IO_ROPECONFIG_H

#include "FieldReader.h"
#include "peft/ModelConfig.h"

namespace peft {

/// Reads rope_parameters (transformers 5) or rope_theta and rope_scaling (4)
/// into `config.rope`, frequencies included; headDim, maxPositions and
/// slidingWindow must be set. Errors go to `fields`.
void readRope(const nlohmann::json &json, const std::string &what,
              FieldReader &fields, ModelConfig &config);

} // namespace peft

#endif // PEFT_IO_ROPECONFIG_H
