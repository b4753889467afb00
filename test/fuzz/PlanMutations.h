//===- PlanMutations.h - random changes of a plan's fields ------*- C++ -*-===//
#ifndef PEFT_TEST_PLANMUTATIONS_H
#define PEFT_TEST_PLANMUTATIONS_H

#include "peft/Plan.h"

#include <algorithm>
#include <random>

namespace peft::test {

/// Changes one field of a plan at a time: to values that are wild, to those
/// next to the old one, and to those that other fields have.
class PlanMutator {
public:
  explicit PlanMutator(uint64_t seed) : random(seed) {}

  void mutate(Plan &plan) {
    switch (below(10)) {
    case 0:
      return mutateHeader(plan);
    case 1:
      return withOne(plan.arenas, [&](Arena &arena) {
        below(2) ? number(arena.size) : number(arena.persistentBytes);
      });
    case 2:
    case 3:
      return withOne(plan.buffers,
                     [&](Buffer &one) { mutateBuffer(plan, one); });
    case 4:
      return withOne(plan.weights, [&](Weight &one) { mutateWeight(one); });
    case 5:
      return mutateRoles(plan);
    default:
      return withOne(plan.entries,
                     [&](Entry &entry) { mutateEntry(plan, entry); });
    }
  }

  uint64_t below(uint64_t limit) { return random() % limit; }

private:
  template <typename T, typename Function>
  void withOne(std::vector<T> &values, Function change) {
    if (!values.empty())
      change(values[below(values.size())]);
  }
  /// A new value for any number.
  template <typename T> void number(T &value) {
    constexpr int64_t steps[] = {1, -1, 4, -4, 64, -64, 128, -128};
    switch (below(5)) {
    case 0:
      value = static_cast<T>(random());
      return;
    case 1:
      value = static_cast<T>(below(70));
      return;
    case 2:
      value = static_cast<T>(static_cast<uint64_t>(value) * 2);
      return;
    case 3:
      value = static_cast<T>(uint64_t(1) << below(64));
      return;
    default:
      value = static_cast<T>(static_cast<uint64_t>(value) +
                             static_cast<uint64_t>(steps[below(8)]));
    }
  }
  template <typename T> void index(uint32_t &value, const std::vector<T> &of) {
    uint64_t limit = of.size() + (below(8) == 0);
    value = below(8) == 0 || limit == 0 ? none
                                        : static_cast<uint32_t>(below(limit));
  }
  /// Only enumerators that exist: others are refused while decoding.
  template <typename T> void enumerator(T &value, uint64_t count) {
    value = static_cast<T>(below(count));
  }
  template <typename T> void rearrange(std::vector<T> &values) {
    if (values.empty())
      return;
    size_t at = below(values.size()), other = below(values.size());
    switch (below(3)) {
    case 0:
      values.erase(values.begin() + static_cast<ptrdiff_t>(at));
      return;
    case 1: {
      T copy = values[at];
      values.insert(values.begin() + static_cast<ptrdiff_t>(other), copy);
      return;
    }
    default:
      std::swap(values[at], values[other]);
    }
  }

  void mutateHeader(Plan &plan) {
    switch (below(9)) {
    case 8:
      return enumerator(plan.deviceKind, 2);
    case 0:
      return number(plan.maxThreads);
    case 1:
      return number(plan.shard);
    case 2:
      return enumerator(plan.compute, 8);
    case 3:
      return rearrange(plan.streams);
    case 4:
      return rearrange(plan.buffers);
    case 5:
      return rearrange(plan.entries);
    case 6:
      return number(plan.vocab);
    default:
      plan.modelName += static_cast<char>(random());
    }
  }

  void mutateBuffer(const Plan &plan, Buffer &buffer) {
    switch (below(9)) {
    case 0:
    case 1:
      buffer.offset = plan.buffers[below(plan.buffers.size())].offset;
      return;
    case 2:
      return number(buffer.offset);
    case 3:
      return number(buffer.size);
    case 4:
      return enumerator(buffer.dtype, 10);
    case 5:
      return index(buffer.entry, plan.entries);
    case 6:
      return index(buffer.arena, plan.arenas);
    case 7:
      return index(buffer.weight, plan.weights);
    default: // a new shape, and the size that belongs to it
      withOne(buffer.shape, [&](uint64_t &extent) { number(extent); });
      if (below(3) == 0)
        rearrange(buffer.shape);
      buffer.size = byteCount(buffer.dtype, buffer.elements());
    }
  }

  void mutateWeight(Weight &weight) {
    switch (below(4)) {
    case 0:
      return enumerator(weight.dtype, 10);
    case 1:
      return withOne(weight.shape, [&](uint64_t &extent) { number(extent); });
    case 2:
      return rearrange(weight.shape);
    default:
      weight.slices.push_back(
          {static_cast<uint32_t>(below(3)), below(12), below(12)});
    }
  }

  void mutateRoles(Plan &plan) {
    switch (below(4)) {
    case 0:
      return withOne(plan.initializers, [&](Initializer &start) {
        index(start.buffer, plan.buffers);
        enumerator(start.kind, 3);
        index(start.weight, plan.weights);
      });
    case 1:
      return withOne(plan.ports, [&](Port &port) {
        index(port.buffer, plan.buffers);
        enumerator(port.kind, 3);
      });
    case 2:
      return withOne(plan.parameters, [&](Parameter &parameter) {
        index(below(2) ? parameter.buffer : parameter.firstMoment,
              plan.buffers);
        number(parameter.group);
      });
    default:
      return withOne(plan.groups, [&](Group &group) {
        index(below(2) ? group.tokens : group.lossSum, plan.buffers);
      });
    }
  }

  void mutateEntry(const Plan &plan, Entry &entry) {
    switch (below(6)) {
    case 0:
      return rearrange(entry.items);
    case 1:
      return withOne(entry.items, [&](Item &item) {
        item.stream = static_cast<uint32_t>(below(plan.streams.size() + 1));
      });
    case 2:
      return number(entry.localBytes);
    default:
      return withOne(entry.items, [&](Item &item) {
        std::visit([&](auto &action) { mutateAction(plan, action); },
                   item.action);
      });
    }
  }

  void mutateAction(const Plan &plan, Launch &launch) {
    constexpr const char *kernels[] = {
        "cast",       "add_fwd",     "fill_zero",   "accumulate",
        "embed_fwd",  "loss_sum",    "gather_rows", "rms_norm_fwd",
        "swiglu_fwd", "norm_square", "linear_fwd"};
    switch (below(7)) {
    case 0:
      launch.kernel = kernels[below(std::size(kernels))];
      launch.operands.resize(1 + below(6));
      for (uint32_t &operand : launch.operands)
        index(operand, plan.buffers);
      return;
    case 1:
    case 2:
      return withOne(launch.operands,
                     [&](uint32_t &operand) { index(operand, plan.buffers); });
    case 3:
      index(launch.predicate.buffer, plan.buffers);
      return number(launch.predicate.above);
    case 4:
      return index(below(2) ? launch.sharedWorkspace : launch.threadWorkspace,
                   plan.buffers);
    case 5: {
      Attribute attribute{"row_start", int64_t(0)};
      number(std::get<int64_t>(attribute.value));
      launch.attributes.push_back(attribute);
      return;
    }
    default:
      withOne(launch.attributes, [&](Attribute &attribute) {
        if (auto *value = std::get_if<int64_t>(&attribute.value))
          number(*value);
        else
          attribute.value = double(int64_t(random())) / 1e6;
      });
    }
  }
  void mutateAction(const Plan &plan, Copy &copy) {
    index(below(2) ? copy.source : copy.destination, plan.buffers);
    number(below(2) ? copy.size : copy.sourceOffset);
  }
  void mutateAction(const Plan &plan, Collective &collective) {
    index(collective.source, plan.buffers);
  }
  void mutateAction(const Plan &, Record &record) { number(record.event); }
  void mutateAction(const Plan &, Wait &wait) { number(wait.event); }

  std::mt19937_64 random;
};

} // namespace peft::test

#endif // PEFT_TEST_PLANMUTATIONS_H
