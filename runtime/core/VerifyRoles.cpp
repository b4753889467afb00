//===- VerifyRoles.cpp - initializers, groups, parameters, ports ----------===//
#include "PlanVerifier.h"

#include "peft/DynamicMap.h"
#include "peft/FloatTypes.h"

#include <cmath>

namespace peft::verifier {

/// Buffer `index` must be persistent, in an arena and of `dtype`.
static Status checkPersistent(const Plan &plan, uint32_t index,
                              const char *role) {
  if (index >= plan.buffers.size())
    return badInput(std::string(role) + " is buffer " + std::to_string(index) +
                    " of " + std::to_string(plan.buffers.size()));
  const Buffer &buffer = plan.buffers[index];
  if (buffer.arena == none || buffer.entry != none)
    return badInput(std::string(role) + " " + quoted(buffer.name) +
                    " is not a persistent buffer of an arena");
  return {};
}

static Status checkTyped(const Plan &plan, uint32_t index, DType dtype,
                         uint64_t count, const char *role) {
  PEFT_TRY(checkPersistent(plan, index, role));
  const Buffer &buffer = plan.buffers[index];
  if (buffer.dtype != dtype || buffer.elements() != count)
    return badInput(std::string(role) + " " + quoted(buffer.name) + " has " +
                    std::to_string(buffer.elements()) + " elements of " +
                    std::string(name(buffer.dtype)) + ", needed are " +
                    std::to_string(count) + " of " + std::string(name(dtype)));
  return {};
}

static Status checkInitializer(const Plan &plan, const Initializer &start) {
  PEFT_TRY(checkPersistent(plan, start.buffer, "its target"));
  const Buffer &buffer = plan.buffers[start.buffer];
  if (start.kind != Initializer::Kind::weight) {
    if (buffer.dtype != DType::f32)
      return badInput("random numbers are f32, buffer " + quoted(buffer.name) +
                      " is " + std::string(name(buffer.dtype)));
    if (!std::isfinite(start.standardDeviation) || start.standardDeviation < 0)
      return badInput("its standard deviation is " +
                      std::to_string(start.standardDeviation));
    return {};
  }
  if (start.weight >= plan.weights.size())
    return badInput("it copies weight " + std::to_string(start.weight) +
                    " of " + std::to_string(plan.weights.size()));
  const Weight &weight = plan.weights[start.weight];
  uint64_t held = 1;
  for (uint64_t extent : weight.shape)
    held *= extent;
  if (!weight.slices.empty())
    held = held / weight.shape[weight.slices[0].axis] * weight.slices[0].extent;
  if (held != buffer.elements())
    return badInput("buffer " + quoted(buffer.name) + " has " +
                    std::to_string(buffer.elements()) + " elements, weight " +
                    quoted(weight.name) + " has " + std::to_string(held));
  if (buffer.dtype != weight.dtype &&
      !(isFloat(buffer.dtype) && isFloat(weight.dtype)))
    return badInput("weight " + quoted(weight.name) + " is " +
                    std::string(name(weight.dtype)) + " and buffer " +
                    quoted(buffer.name) + " " +
                    std::string(name(buffer.dtype)) +
                    "; they may be equal, or both of f32, bf16, f16");
  return {};
}

static Status checkInitializers(const Plan &plan) {
  std::vector<bool> started(plan.buffers.size());
  for (size_t i = 0; i < plan.initializers.size(); ++i) {
    const Initializer &start = plan.initializers[i];
    std::string where = label("initializers", i, "");
    PEFT_TRY(checkInitializer(plan, start).in(where));
    if (started[start.buffer])
      return badInput("buffer " + quoted(plan.buffers[start.buffer].name) +
                      " has another initializer")
          .in(where);
    started[start.buffer] = true;
  }
  return {};
}

static Status checkGroup(const Plan &plan, const Group &group) {
  PEFT_TRY(checkText(group.name, "name"));
  if (!std::isfinite(group.rateFactor) || group.rateFactor < 0)
    return badInput("its rate factor is " + std::to_string(group.rateFactor));
  PEFT_TRY(checkTyped(plan, group.lossSum, DType::f64, 1, "lossSum"));
  PEFT_TRY(checkTyped(plan, group.tokens, DType::i64, 1, "tokens"));
  return checkTyped(plan, group.normSquare, DType::f64, 1, "normSquare");
}

static Status checkParameter(const Plan &plan, const Parameter &parameter) {
  if (parameter.name.empty())
    return badInput("it has no name");
  PEFT_TRY(checkText(parameter.name, "name"));
  PEFT_TRY(checkText(parameter.module, "module"));
  if (parameter.group >= plan.groups.size())
    return badInput("it is of group " + std::to_string(parameter.group) +
                    " of " + std::to_string(plan.groups.size()));
  PEFT_TRY(checkPersistent(plan, parameter.buffer, "its buffer"));
  uint64_t count = plan.buffers[parameter.buffer].elements();
  auto check = [&](uint32_t index, const char *role) {
    return checkTyped(plan, index, DType::f32, count, role);
  };
  PEFT_TRY(check(parameter.buffer, "its buffer"));
  bool coded = parameter.firstScale != none || parameter.secondScale != none;
  bool moments = parameter.firstMoment != none ||
                 parameter.secondMoment != none || coded;
  if (!parameter.trains())
    return moments ? badInput("it has moments, but no gradient") : Status();
  for (uint32_t gradient : parameter.gradients)
    PEFT_TRY(check(gradient, "gradient"));
  if (!coded) {
    PEFT_TRY(check(parameter.firstMoment, "firstMoment"));
    return check(parameter.secondMoment, "secondMoment");
  }
  PEFT_TRY(checkTyped(plan, parameter.firstMoment, DType::u8, count,
                      "firstMoment"));
  PEFT_TRY(checkTyped(plan, parameter.secondMoment, DType::u8, count,
                      "secondMoment"));
  uint64_t blocks = count / momentBlock + (count % momentBlock != 0);
  PEFT_TRY(checkTyped(plan, parameter.firstScale, DType::f32, blocks,
                      "firstScale"));
  return checkTyped(plan, parameter.secondScale, DType::f32, blocks,
                    "secondScale");
}

static Status checkPort(const Plan &plan, const Port &port) {
  if (port.name.empty())
    return badInput("it has no name");
  PEFT_TRY(checkText(port.name, "name"));
  PEFT_TRY(checkPersistent(plan, port.buffer, "its buffer"));
  uint64_t count = plan.buffers[port.buffer].elements();
  if (port.kind == Port::Kind::scalar && count != 1)
    return badInput("a scalar has one element, this one has " +
                    std::to_string(count));
  return {};
}

Status checkRoles(const Plan &plan) {
  PEFT_TRY(checkInitializers(plan));
  UniqueNames groups, parameters, ports;
  for (size_t i = 0; i < plan.groups.size(); ++i) {
    std::string where = label("groups", i, plan.groups[i].name);
    PEFT_TRY(checkGroup(plan, plan.groups[i]).in(where));
    PEFT_TRY(groups.add(plan.groups[i].name).in(where));
  }
  for (size_t i = 0; i < plan.parameters.size(); ++i) {
    std::string where = label("parameters", i, plan.parameters[i].name);
    PEFT_TRY(checkParameter(plan, plan.parameters[i]).in(where));
    PEFT_TRY(parameters.add(plan.parameters[i].name).in(where));
  }
  for (size_t i = 0; i < plan.ports.size(); ++i) {
    std::string where = label("ports", i, plan.ports[i].name);
    PEFT_TRY(checkPort(plan, plan.ports[i]).in(where));
    PEFT_TRY(ports.add(plan.ports[i].name).in(where));
  }
  return {};
}

} // namespace peft::verifier
