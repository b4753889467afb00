//===- RunOptions.h - what a run is asked to do -----------------*- C++ -*-===//
//
// Filled by peft-run's flags (tools/peft-run/Flags.cpp) or by a test, read by
// runSession. Names and defaults are those of the flags.
//
//===----------------------------------------------------------------------===//
#ifndef PEFT_RUNOPTIONS_H
#define PEFT_RUNOPTIONS_H

#include "peft/DType.h"
#include "peft/Device.h"

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace peft {

enum class Schedule : uint8_t { constant, linear, cosine };

/// How far and how fast to train.
struct TrainOptions {
  std::optional<uint64_t> steps; ///< optimizer steps; instead of `epochs`
  double epochs = 1;             ///< times every row is seen; may be a fraction
  uint32_t gradAccum = 1;        ///< micro-batches per optimizer step
  double learningRate = 2e-4;
  Schedule schedule = Schedule::linear;
  uint64_t warmupSteps = 0;
  double weightDecay = 0, beta1 = 0.9, beta2 = 0.999, epsilon = 1e-8;
  double maxGradNorm = 1; ///< 0: no clipping
  bool decayAll = false;  ///< also biases and norm weights
  bool shuffle = true;
};

/// Answers to prompts, instead of training.
struct GenerateOptions {
  std::vector<std::string> prompts;
  std::string promptFile, answerFile; ///< JSON lines, the batch form
  uint32_t maxNewTokens = 64;
  uint32_t logProbs = 0;  ///< likeliest tokens to write for each choice
  bool chat = false;      ///< wrap each prompt with the model's chat template
  std::string adapter;    ///< directory; empty: the plan's initial adapter
  bool noAdapter = false; ///< the base model: every B factor is zero

  bool any() const { return !prompts.empty() || !promptFile.empty(); }
};

struct RunOptions {
  std::string plan, model, data, output;
  TrainOptions train;
  GenerateOptions generate;
  std::string initAdapter;        ///< directory; empty: PEFT's initialisation
  std::string evalData;           ///< evaluated once, after the last step
  std::string dumpGradients;      ///< file for the first step's gradients
  std::optional<DType> saveDType; ///< --train all: type of what is written
  uint64_t seed = 0;
  std::optional<uint64_t> scheduleSeed; ///< run launches in another legal order
  bool scheduleInterleave = false; ///< only across streams, not inside them
  std::string device = "auto";
  bool cache = true;    ///< keep what is quantized on load for the next start
  bool verify = false;  ///< compare it with its source before it is used
  std::string saveQuantized; ///< directory for the quantized model
  unsigned threads = 0; ///< 0: as many as the machine and the plan allow
  bool check = false;   ///< one step on zeros, then compare memory
  bool profile = false; ///< after training: time by kernel
  std::string trace;    ///< file for the times of one step's launches
  bool calibrate = false; ///< measure the device; `output` is a file then
  bool tune = false;      ///< measure libraries; `output` is a file then
  std::string tuned;      ///< what --tune wrote; empty: nothing was measured
  AttentionMode attention = AttentionMode::planned; ///< on a card
  bool quiet = false;   ///< nothing but errors (and --json's summary)
  bool json = false;    ///< the summary as one JSON object on stdout
};

} // namespace peft

#endif // PEFT_RUNOPTIONS_H
