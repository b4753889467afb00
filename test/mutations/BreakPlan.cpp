//===- BreakPlan.cpp - take one wait or move one offset of a real plan ----===//
//
// peft-break-plan waits PLAN MODEL    deletes each wait in turn: the verifier
//   must refuse the plan; with the verifier off, some schedule seed must change
//   the trained bits for nine of ten (a race for the scratch bytes of a thread
//   that is not there shows nothing).
// peft-break-plan offsets PLAN MODEL  moves each local buffer by 64 bytes in
//   turn: the verifier must refuse the plan, or the trained bits must be the
//   same (the bytes it moved into were free).
//
// Prints `N passed, N failed`. Exit 1 if one failed.
//
//===----------------------------------------------------------------------===//
#include "peft/CpuDevice.h"
#include "peft/Executor.h"

#include <cstdio>
#include <cstring>
#include <string_view>

using namespace peft;

namespace {

struct Outcome {
  int passed = 0, failed = 0;
  void count(bool good, const std::string &what) {
    ++(good ? passed : failed);
    if (!good)
      std::printf("FAILED: %s\n", what.c_str());
  }
};

uint64_t hashBytes(uint64_t hash, std::span<const std::byte> bytes) {
  for (std::byte byte : bytes)
    hash = (hash ^ static_cast<uint64_t>(byte)) * 0x100000001b3ull;
  return hash;
}

/// Token ids that touch the whole vocabulary, every second row half trained.
Status writeBatch(Executor &executor, uint32_t salt) {
  const Plan &plan = executor.plan();
  size_t tokens = plan.batch * plan.seq;
  std::vector<int32_t> ids(tokens), labels(tokens), positions(tokens),
      segments(tokens, 0);
  for (size_t i = 0; i < tokens; ++i) {
    ids[i] = static_cast<int32_t>((i * 7919 + salt * 104729) % plan.vocab);
    positions[i] = static_cast<int32_t>(i % plan.seq);
    labels[i] = (i + salt) % 3 ? ids[i] : -100;
  }
  PEFT_TRY(executor.writeInput<int32_t>("input_ids", ids));
  PEFT_TRY(executor.writeInput<int32_t>("labels", labels));
  PEFT_TRY(executor.writeInput<int32_t>("position_ids", positions));
  return executor.writeInput<int32_t>("segment_ids", segments);
}

Status writeScalars(Executor &executor) {
  for (auto [port, value] : {std::pair<const char *, double>{"beta1", 0.9},
                             {"beta2", 0.999},
                             {"epsilon", 1e-8},
                             {"weight_decay", 0.01},
                             {"max_grad_norm", 1.0},
                             {"learning_rate", 1e-2}})
    PEFT_TRY(executor.writeScalar(port, value));
  PEFT_TRY(executor.writeScalar("seed", 1));
  return executor.writeScalar("first_row", 0);
}

/// Hash of every trained value after two steps of two micro-batches.
Expected<uint64_t> train(const Plan &plan, const BoundWeights &weights,
                         std::optional<uint64_t> scheduleSeed) {
  DeviceOptions options;
  options.threads = 1;
  options.scheduleSeed = scheduleSeed;
  PEFT_ASSIGN(std::unique_ptr<Device> device, createCpuDevice(options));
  PEFT_ASSIGN(std::unique_ptr<Executor> executor,
              Executor::create(plan, weights, std::move(device)));
  PEFT_TRY(writeScalars(*executor));
  for (int step = 0; step < 2; ++step) {
    PEFT_TRY(executor->writeScalar("step", step));
    for (uint32_t micro = 0; micro < 2; ++micro) {
      PEFT_TRY(writeBatch(*executor, 2 * step + micro));
      PEFT_TRY(executor->run("micro_step"));
    }
    PEFT_TRY(executor->run("update"));
  }
  uint64_t hash = 0xcbf29ce484222325ull;
  for (size_t i = 0; i < plan.parameters.size(); ++i) {
    std::vector<float> values(executor->parameterElements(i));
    PEFT_TRY(executor->readParameter(i, 0, values));
    hash = hashBytes(hash, std::as_bytes(std::span(values)));
  }
  double metrics[4] = {};
  PEFT_TRY(executor->readOutput<double>("metrics", metrics));
  return hashBytes(hash, std::as_bytes(std::span(metrics)));
}

/// Whether some schedule gives other bits than `expected` (or faults).
bool someScheduleDiffers(const Plan &plan, const BoundWeights &weights,
                         uint64_t expected) {
  for (uint64_t seed = 1; seed <= 40; ++seed) {
    auto hash = train(plan, weights, seed);
    if (!hash.ok() || *hash != expected)
      return true;
  }
  return false;
}

Status breakWaits(const Plan &plan, const BoundWeights &weights,
                  Outcome &outcome) {
  PEFT_ASSIGN(uint64_t expected, train(plan, weights, std::nullopt));
  int waits = 0, visible = 0;
  for (size_t e = 0; e < plan.entries.size(); ++e) {
    for (size_t i = 0; i < plan.entries[e].items.size(); ++i) {
      if (!std::holds_alternative<Wait>(plan.entries[e].items[i].action))
        continue;
      Plan broken = plan;
      auto &items = broken.entries[e].items;
      items.erase(items.begin() + static_cast<ptrdiff_t>(i));
      std::string what = "entry " + plan.entries[e].name + ", item " +
                         std::to_string(i) + " (wait) deleted";
      outcome.count(!verifyPlan(broken).ok(), what + ", still accepted");
      bool trains = plan.entries[e].name == "micro_step" ||
                    plan.entries[e].name == "update";
      if (!trains)
        continue;
      ++waits;
      bool seen = someScheduleDiffers(broken, weights, expected);
      visible += seen;
      if (!seen)
        std::printf("no schedule shows it: %s\n",
                    verifyPlan(broken).message().c_str());
    }
  }
  std::printf("%d of %d deleted waits of the training entries changed bits "
              "under some schedule seed\n",
              visible, waits);
  outcome.count(waits > 0 && 10 * visible >= 9 * waits,
                "too few deleted waits are visible in the results");
  return {};
}

Status shiftOffsets(const Plan &plan, const BoundWeights &weights,
                    Outcome &outcome) {
  PEFT_ASSIGN(uint64_t expected, train(plan, weights, std::nullopt));
  int refused = 0, harmless = 0;
  for (size_t b = 0; b < plan.buffers.size(); ++b) {
    if (plan.buffers[b].arena == none)
      continue;
    Plan broken = plan;
    broken.buffers[b].offset += bufferAlignment;
    if (!verifyPlan(broken).ok()) {
      ++refused;
      ++outcome.passed;
      continue;
    }
    ++harmless;
    auto hash = train(broken, weights, std::nullopt);
    outcome.count(hash.ok() && *hash == expected,
                  "buffer " + plan.buffers[b].name +
                      " moved by 64 bytes is accepted and changes the result");
  }
  std::printf("%d shifted offsets refused, %d moved into free bytes\n", refused,
              harmless);
  outcome.count(refused > harmless, "most shifted offsets must be refused");
  return {};
}

Status run(std::string_view what, const std::string &planPath,
           const std::string &modelPath, Outcome &outcome) {
  PEFT_ASSIGN(Plan plan, loadPlan(planPath));
  PEFT_ASSIGN(BoundWeights weights, bindWeights(plan, modelPath));
  if (what == "waits")
    return breakWaits(plan, weights, outcome);
  if (what == "offsets")
    return shiftOffsets(plan, weights, outcome);
  return usageError("say waits or offsets");
}

} // namespace

int main(int argc, char **argv) {
  if (argc != 4) {
    std::fprintf(stderr, "usage: peft-break-plan waits|offsets PLAN MODEL\n");
    return 64;
  }
  Outcome outcome;
  Status status = run(argv[1], argv[2], argv[3], outcome);
  if (!status.ok()) {
    std::fprintf(stderr, "peft-break-plan: error: %s\n",
                 status.message().c_str());
    return static_cast<int>(status.code());
  }
  std::printf("%d passed, %d failed\n", outcome.passed, outcome.failed);
  return outcome.failed ? 1 : 0;
}
