//===- BreakPlan.cpp - take one edge or move one offset of a real plan ----===//
//
// peft-break-plan edges PLAN MODEL    deletes each wait, each record, and each
//   record with its waits: the verifier must refuse the plan. With the verifier
//   off some schedule seed must change what the entries give without a wait, or
//   all that it ordered is scratch: each launch writes its scratch before it
//   reads it, so nobody can tell in which order two of them had it, and scratch
//   of a card is not written by the CPU, which runs the plan here.
// peft-break-plan offsets PLAN MODEL  moves each local buffer by 64 bytes in
//   turn: the verifier must refuse the plan, or the trained bits must be the
//   same (the bytes it moved into were free).
//
// Prints `N passed, N failed`. Exit 1 if one failed.
//
//===----------------------------------------------------------------------===//
#include "peft/CpuDevice.h"
#include "peft/Executor.h"
#include "peft/ItemAccess.h"

#include <algorithm>
#include <cstdio>
#include <cstring>
#include <map>
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
  // Without a scale a plan in f16 has no gradients, and nothing to show.
  if (executor.hasPort("loss_scale"))
    PEFT_TRY(executor.writeScalar("loss_scale", 64.0));
  PEFT_TRY(executor.writeScalar("seed", 1));
  return executor.writeScalar("first_row", 0);
}

template <typename T>
Status addOutput(const Executor &executor, std::string_view port, size_t count,
                 uint64_t &hash) {
  if (!executor.hasPort(port))
    return {};
  std::vector<T> values(count);
  PEFT_TRY(executor.readOutput<T>(port, values));
  hash = hashBytes(hash, std::as_bytes(std::span(values)));
  return {};
}

/// Hash of every trained value after two steps of two micro-batches, of what
/// they measured, and of what the other entries then give.
Expected<uint64_t> train(const Plan &plan, const BoundWeights &weights,
                         std::optional<uint64_t> scheduleSeed) {
  DeviceOptions options;
  options.threads = 1;
  options.scheduleSeed = scheduleSeed;
  PEFT_ASSIGN(std::unique_ptr<Device> device, createCpuDevice(options));
  PEFT_ASSIGN(std::unique_ptr<Executor> executor,
              Executor::create(plan, weights, std::move(device)));
  PEFT_TRY(writeScalars(*executor));
  uint64_t hash = 0xcbf29ce484222325ull;
  for (int step = 0; step < 2; ++step) {
    PEFT_TRY(executor->writeScalar("step", step));
    for (uint32_t micro = 0; micro < 2; ++micro) {
      PEFT_TRY(writeBatch(*executor, 2 * step + micro));
      PEFT_TRY(executor->run("micro_step"));
    }
    PEFT_TRY(executor->run("update"));
    PEFT_TRY(addOutput<double>(*executor, "metrics", 4, hash));
  }
  for (const char *entry : {"eval", "logits"})
    if (executor->hasEntry(entry))
      PEFT_TRY(executor->run(entry));
  for (size_t i = 0; i < plan.parameters.size(); ++i) {
    std::vector<float> values(executor->parameterElements(i));
    PEFT_TRY(executor->readParameter(i, 0, values));
    hash = hashBytes(hash, std::as_bytes(std::span(values)));
  }
  PEFT_TRY(addOutput<double>(*executor, "eval_loss_sum", 1, hash));
  PEFT_TRY(addOutput<int64_t>(*executor, "eval_tokens", 1, hash));
  PEFT_TRY(addOutput<float>(*executor, "logits", plan.batch * plan.vocab, hash));
  return hash;
}

/// Whether some schedule gives other bits than `expected` (or faults).
bool someScheduleDiffers(const Plan &plan, const BoundWeights &weights,
                         uint64_t expected) {
  for (uint64_t seed = 1; seed <= 200; ++seed) {
    auto hash = train(plan, weights, seed);
    if (!hash.ok() || *hash != expected)
      return true;
  }
  return false;
}

//===----------------------------------------------------------------------===//
// Edges
//===----------------------------------------------------------------------===//

/// An item of an entry with what it knows to be done: how many items of each
/// stream.
struct Use {
  uint32_t stream = 0;
  std::vector<uint32_t> done;
  std::vector<ByteAccess> accesses;
};

std::vector<Use> usesOf(const Plan &plan, const Entry &entry) {
  std::vector<std::vector<uint32_t>> clocks(
      plan.streams.size(), std::vector<uint32_t>(plan.streams.size()));
  std::map<uint32_t, std::vector<uint32_t>> records;
  std::vector<Use> uses;
  for (const Item &item : entry.items) {
    std::vector<uint32_t> &clock = clocks[item.stream];
    ++clock[item.stream];
    if (const auto *record = std::get_if<Record>(&item.action))
      records[record->event] = clock;
    else if (const auto *wait = std::get_if<Wait>(&item.action))
      for (size_t i = 0; i < records[wait->event].size(); ++i)
        clock[i] = std::max(clock[i], records[wait->event][i]);
    uses.push_back({item.stream, clock, {}});
    collectAccesses(plan, item, uses.back().accesses);
  }
  return uses;
}

/// Whether every two launches that no event orders meet in scratch only, or in
/// scratch of a card.
bool onlyScratchIsUnordered(const Plan &plan, const Entry &entry) {
  auto scratch = [&](const ByteAccess &access) {
    return plan.buffers[access.buffer].kind == BufferClass::workspace;
  };
  auto ofCard = [&](const ByteAccess &access) {
    return scratch(access) && plan.deviceKind == DeviceKind::cuda &&
           plan.arenas[access.arena].space != Space::pageable;
  };
  const std::vector<Use> uses = usesOf(plan, entry);
  for (size_t j = 0; j < uses.size(); ++j)
    for (size_t i = 0; i < j; ++i) {
      const uint32_t stream = uses[i].stream;
      if (uses[j].done[stream] >= uses[i].done[stream])
        continue;
      for (const ByteAccess &a : uses[i].accesses)
        for (const ByteAccess &b : uses[j].accesses)
          if (a.arena == b.arena && a.begin < b.end && b.begin < a.end &&
              (a.writes || b.writes) && !(scratch(a) && scratch(b)) &&
              !ofCard(a) && !ofCard(b))
            return false;
    }
  return true;
}

/// The plan without the items of an entry that `gone` names.
template <typename Gone>
Plan without(Plan plan, size_t entry, const Gone &gone) {
  std::erase_if(plan.entries[entry].items, gone);
  return plan;
}

/// What the results say of a wait that is not there.
struct Seen {
  int waits = 0, results = 0, scratch = 0;
};

void breakWait(const Plan &broken, size_t entry, const BoundWeights &weights,
               uint64_t expected, const std::string &what, Seen &seen,
               Outcome &outcome) {
  ++seen.waits;
  if (someScheduleDiffers(broken, weights, expected)) {
    ++seen.results;
    return;
  }
  const bool scratch = onlyScratchIsUnordered(broken, broken.entries[entry]);
  seen.scratch += scratch;
  outcome.count(scratch, what + ": no schedule shows it: " +
                             verifyPlan(broken).message());
}

Status breakEdges(const Plan &plan, const BoundWeights &weights,
                  Outcome &outcome) {
  PEFT_ASSIGN(uint64_t expected, train(plan, weights, std::nullopt));
  Seen seen;
  int records = 0;
  for (size_t e = 0; e < plan.entries.size(); ++e) {
    const std::vector<Item> &items = plan.entries[e].items;
    for (size_t i = 0; i < items.size(); ++i) {
      const auto *record = std::get_if<Record>(&items[i].action);
      const bool isWait = std::holds_alternative<Wait>(items[i].action);
      if (!record && !isWait)
        continue;
      const std::string what = "entry " + plan.entries[e].name + ", item " +
                               std::to_string(i) +
                               (record ? " (record)" : " (wait)") + " deleted";
      Plan broken = plan;
      broken.entries[e].items.erase(broken.entries[e].items.begin() +
                                    static_cast<ptrdiff_t>(i));
      outcome.count(!verifyPlan(broken).ok(), what + ", still accepted");
      if (isWait) {
        breakWait(broken, e, weights, expected, what, seen, outcome);
        continue;
      }
      ++records;
      Plan unordered = without(broken, e, [&](const Item &item) {
        const auto *wait = std::get_if<Wait>(&item.action);
        return wait && wait->event == record->event;
      });
      outcome.count(!verifyPlan(unordered).ok(),
                    what + " with its waits, still accepted");
    }
  }
  std::printf("%d waits and %d records deleted, all refused but those named; "
              "unverified, %d waits changed the result under some schedule "
              "seed, %d order scratch only\n",
              seen.waits, records, seen.results, seen.scratch);
  outcome.count(seen.waits > 0 && records > 0, "the plan has no events");
  return {};
}

//===----------------------------------------------------------------------===//
// Offsets
//===----------------------------------------------------------------------===//

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
  if (what == "edges")
    return breakEdges(plan, weights, outcome);
  if (what == "offsets")
    return shiftOffsets(plan, weights, outcome);
  return usageError("say edges or offsets");
}

} // namespace

int main(int argc, char **argv) {
  if (argc != 4) {
    std::fprintf(stderr, "usage: peft-break-plan edges|offsets PLAN MODEL\n");
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
