//===- RopeConfig.h - reading RoPE's fields ---------------------*- C++ -*-===//
#ifndef PEFT_IO_ROPECONFIG_H
#define PEFT_IO_ROPECONFIG_H

#include "FieldReader.h"
#include "peft/ModelConfig.h"

namespace peft {

/// What a family's RoPE may be.
struct RopeRules {
  double theta = 10000; ///< where config.json has none
  /// The layers that slide have a RoPE of their own, with this theta where
  /// config.json has none.
  std::optional<double> localTheta;
  bool longrope = false; ///< also under its older names, su and yarn
  bool partial = false;  ///< partial_rotary_factor may be less than one
};

/// Reads rope_parameters (transformers 5) or rope_theta and rope_scaling (4)
/// into `config.rope` (and `config.localRope`), frequencies included; headDim,
/// maxPositions and slidingWindow must be set. Errors go to `fields`.
void readRope(const nlohmann::json &json, const std::string &what,
              const RopeRules &rules, FieldReader &fields,
              ModelConfig &config);

} // namespace peft

#endif // PEFT_IO_ROPECONFIG_H
